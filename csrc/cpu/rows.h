// Walking dense rows of a matrix whose every row is reduced alone (softmax, cross-entropy).
// Long rows: lanes are neighbouring columns, and a reduction ends across the lanes. Short rows would leave most lanes
// empty, so as many rows as there are lanes are transposed into a tile: each lane is a row, and nothing crosses lanes.
// One formula serves both, as a template on kTile over n contiguous elements. Which way is taken depends on the row's
// length alone.
#pragma once
#include "cpu/simd.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {
namespace {

constexpr int64_t kTileCols = 32;

template <class T>
struct Tile {
  alignas(64) T data[kTileCols * Vec<T>::width];  // column-major: Vec<T>::width rows

  // Rows that are not there become zero.
  PE_INLINE void read(const T* x, int64_t rows, int64_t cols) {
    constexpr int64_t w = Vec<T>::width;
    if (rows == w) {
      for (int64_t c = 0; c < cols; ++c)
        for (int64_t r = 0; r < w; ++r) data[c * w + r] = x[r * cols + c];
      return;
    }
    std::memset(data, 0, static_cast<size_t>(cols * w) * sizeof(T));
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) data[c * w + r] = x[r * cols + c];
  }
  PE_INLINE void write(T* y, int64_t rows, int64_t cols) const {
    constexpr int64_t w = Vec<T>::width;
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < cols; ++c) y[r * cols + c] = data[c * w + r];
  }
};

// tile(first row, rows <= width) for short rows, row(row) for long ones.
template <class T, class TileFunction, class RowFunction>
void for_each_row(int64_t rows, int64_t cols, double ns_per_element, const TileFunction& tile, const RowFunction& row) {
  constexpr int64_t w = Vec<T>::width;
  const int64_t wanted = 16384 / (cols < 1 ? 1 : cols);
  const int64_t piece_rows = (wanted / w + 1) * w;
  parallel_for((rows + piece_rows - 1) / piece_rows, double(rows) * double(cols) * ns_per_element, [&](int64_t piece) {
    const int64_t first = piece * piece_rows, last = first + piece_rows < rows ? first + piece_rows : rows;
    if (cols <= kTileCols)
      for (int64_t r = first; r < last; r += w) tile(r, r + w < last ? w : last - r);
    else
      for (int64_t r = first; r < last; ++r) row(r);
  });
}

template <class T, bool kPartial>
struct RowLanes {
  int64_t n;
  PE_INLINE Vec<T> load(const T* p) const {
    if constexpr (kPartial)
      return Vec<T>::load_partial(p, n);
    else
      return Vec<T>::load(p);
  }
  PE_INLINE void store(T* p, Vec<T> v) const {
    if constexpr (kPartial)
      v.store_partial(p, n);
    else
      v.store(p);
  }
  // Lanes behind the end become `other`.
  PE_INLINE Vec<T> keep(Vec<T> v, double other) const {
    if constexpr (kPartial) {
      static constexpr T kOnesThenZeros[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
      return select(Vec<T>::load(kOnesThenZeros + 16 - n) > 0.0, v, other);
    } else {
      return v;
    }
  }
};

// f(lanes, offset) for n contiguous elements.
template <class T, class F>
PE_INLINE void each_vector(int64_t n, const F& f) {
  constexpr int64_t w = Vec<T>::width;
  int64_t i = 0;
  for (; i + w <= n; i += w) f(RowLanes<T, false>{w}, i);
  if (i < n) f(RowLanes<T, true>{n - i}, i);
}

// The largest of each row in all of its lanes; a NaN may or may not win.
template <class T, bool kTile>
PE_INLINE Vec<T> row_max(const T* x, int64_t n) {
  Vec<T> m(-__builtin_inf());
  each_vector<T>(n, [&](auto lanes, int64_t i) __attribute__((always_inline)) {
    m = vmax(lanes.keep(lanes.load(x + i), -__builtin_inf()), m);
  });
  if constexpr (kTile) return m;
  T lane[Vec<T>::width];
  m.store(lane);
  for (int half = Vec<T>::width / 2; half > 0; half /= 2)
    for (int k = 0; k < half; ++k) lane[k] = lane[k] > lane[k + half] ? lane[k] : lane[k + half];
  return Vec<T>(double(lane[0]));
}

// The sum of each row of term(lanes, offset) in all of its lanes. Long rows are added up in blocks: a single running
// sum of 50,000 classes would lose a digit.
template <class T, bool kTile, class Term>
PE_INLINE Vec<T> row_sum(int64_t n, const Term& term) {
  constexpr int64_t kBlock = 64 * Vec<T>::width;
  Vec<T> total(0.0);
  for (int64_t block = 0; block < n; block += kBlock) {
    Vec<T> s(0.0);
    each_vector<T>(block + kBlock < n ? kBlock : n - block, [&](auto lanes, int64_t i) __attribute__((always_inline)) {
      s = s + lanes.keep(term(lanes, block + i), 0.0);
    });
    total = total + s;
  }
  if constexpr (kTile) return total;
  return Vec<T>(double(horizontal_sum(total)));
}

}  // namespace
}  // namespace pe::PE_ISA
