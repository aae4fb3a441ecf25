// Walking a Loop in pieces.
#pragma once
#include <algorithm>
#include <cstdint>

#include "kernels/shapes.h"

namespace pe::once {

// Elements begin .. end-1 of the loop in its order, as runs along the innermost dimension: f(offset of each operand at
// the run's first element, elements in the run).
template <class F>
void walk(const Loop& loop, int64_t begin, int64_t end, const F& f) {
  if (begin >= end) return;
  const int last = loop.ndim - 1;
  int64_t position[kMaxDims], offset[kMaxOperands] = {};
  int64_t rest = begin;
  for (int d = last; d >= 0; --d) {
    position[d] = rest % loop.size[d];
    rest /= loop.size[d];
    for (int k = 0; k < loop.operands; ++k) offset[k] += position[d] * loop.stride[k][d];
  }
  for (int64_t at = begin;;) {
    const int64_t run = std::min(loop.size[last] - position[last], end - at);
    f(static_cast<const int64_t*>(offset), run);
    at += run;
    if (at >= end) return;
    // The run ended its row: back to the row's start, then count up like an odometer.
    for (int k = 0; k < loop.operands; ++k) offset[k] -= position[last] * loop.stride[k][last];
    position[last] = 0;
    for (int d = last - 1; d >= 0; --d) {
      if (++position[d] < loop.size[d]) {
        for (int k = 0; k < loop.operands; ++k) offset[k] += loop.stride[k][d];
        break;
      }
      for (int k = 0; k < loop.operands; ++k) offset[k] -= (loop.size[d] - 1) * loop.stride[k][d];
      position[d] = 0;
    }
  }
}

// A range cut into pieces of `grain`: how many, and where a piece begins and ends.
struct Cut {
  int64_t n, grain;
  int64_t pieces() const { return (n + grain - 1) / grain; }
  int64_t begin(int64_t piece) const { return piece * grain; }
  int64_t end(int64_t piece) const { return std::min(n, (piece + 1) * grain); }
};

}  // namespace pe::once
