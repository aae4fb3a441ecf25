// Running sums and products along one dimension, in order. float32 runs are carried in double, as PyTorch does.
#include "cpu/once/element.h"
#include "cpu/once/walk.h"
#include "kernels/op_codes.h"
#include "runtime/threads.h"

namespace pe::once {
namespace {

constexpr int64_t kColumns = 128;  // neighbours that run side by side when the dimension is not the innermost

template <class T, CumulativeOp kOp>
T combine(T a, T b) {
  return kOp == CumulativeOp::sum ? add(a, b) : multiply(a, b);
}

template <class T>
using Carry = std::conditional_t<std::is_same_v<T, float>, double, T>;

template <class T, CumulativeOp kOp>
void run_row(int64_t length, const T* x, T* y) {
  Carry<T> carry = static_cast<Carry<T>>(x[0]);
  y[0] = x[0];
  for (int64_t i = 1; i < length; ++i) {
    carry = combine<Carry<T>, kOp>(carry, static_cast<Carry<T>>(x[i]));
    y[i] = static_cast<T>(carry);
  }
}

// One run per column, `columns` of them side by side.
template <class T, CumulativeOp kOp>
void run_columns(int64_t length, int64_t inner, int64_t columns, const T* x, T* y) {
  Carry<T> carry[kColumns];
  for (int64_t j = 0; j < columns; ++j) {
    carry[j] = static_cast<Carry<T>>(x[j]);
    y[j] = x[j];
  }
  for (int64_t i = 1; i < length; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      carry[j] = combine<Carry<T>, kOp>(carry[j], static_cast<Carry<T>>(x[i * inner + j]));
      y[i * inner + j] = static_cast<T>(carry[j]);
    }
  }
}

template <class T, CumulativeOp kOp>
void cumulate(int64_t outer, int64_t length, int64_t inner, const T* x, T* y) {
  const double nanoseconds =
      1.2 * static_cast<double>(outer) * static_cast<double>(length) * static_cast<double>(inner);
  const Cut blocks{inner, kColumns};
  const Cut runs{outer * blocks.pieces(), std::max<int64_t>(1, 8192 / (length * std::min(inner, kColumns)))};
  parallel_for(runs.pieces(), nanoseconds, [&](int64_t piece) {
    for (int64_t r = runs.begin(piece); r < runs.end(piece); ++r) {
      if (inner == 1) {
        run_row<T, kOp>(length, x + r * length, y + r * length);
        continue;
      }
      const int64_t block = r % blocks.pieces(), start = r / blocks.pieces() * length * inner + blocks.begin(block);
      run_columns<T, kOp>(length, inner, blocks.end(block) - blocks.begin(block), x + start, y + start);
    }
  });
}

}  // namespace

void cumulative(CumulativeOp op, DType t, int64_t outer, int64_t length, int64_t inner, const void* x, void* y) {
  if (outer == 0 || length == 0 || inner == 0) return;
  with_element_type(t, [&](auto tag) {
    using T = typename decltype(tag)::type;
    if (op == CumulativeOp::sum)
      cumulate<T, CumulativeOp::sum>(outer, length, inner, static_cast<const T*>(x), static_cast<T*>(y));
    else
      cumulate<T, CumulativeOp::prod>(outer, length, inner, static_cast<const T*>(x), static_cast<T*>(y));
  });
}

}  // namespace pe::once
