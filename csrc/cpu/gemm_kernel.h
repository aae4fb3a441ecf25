// The matrix product's building blocks: a register tile (micro_kernel), a cache block (multiply), and the packers that
// feed it. gemm.cpp and conv2d.cpp choose the packers: a convolution is the same product with an A or B that reads the
// image.
//
// B is read in panels of kPanel columns, [k][kPanel]. A is read by broadcasting single elements, so it needs no
// transposition in either layout. See Goto, van de Geijn: "Anatomy of High-Performance Matrix Multiplication" (2008).
#pragma once
#include <utility>

#include "cpu/simd.h"
#include "cpu/tuning.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {
namespace {

template <class T>
constexpr int kPanel = Vec<T>::width * kMicroVectors;

struct Range {
  int64_t begin, end;
  PE_INLINE int64_t size() const { return end - begin; }
};

PE_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
PE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
PE_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
PE_INLINE int64_t clamped(int64_t x, int64_t low, int64_t high) { return larger(low, smaller(x, high)); }

// Part i of `total` cut into `parts` nearly equal ranges.
PE_INLINE Range share(int64_t total, int64_t parts, int64_t i) { return {total * i / parts, total * (i + 1) / parts}; }

// Scratch slots: the pieces' blocks of A and B, and what the caller prepares for all pieces.
enum ScratchSlot { kScratchA, kScratchB, kScratchShared, kScratchPartial };

template <class T>
PE_INLINE T* scratch(ScratchSlot slot, int64_t elements) {
  return static_cast<T*>(thread_scratch(slot, static_cast<size_t>(elements) * sizeof(T)));
}

// For parallel_for: what `multiply_adds` take on one core, at half its peak.
template <class T>
PE_INLINE double nanoseconds(double multiply_adds) {
  return multiply_adds * (sizeof(T) == 4 ? 0.04 : 0.08);
}

// ---------------------------------------------------------------------------------------------------- micro-kernel

enum class Layout { kRows, kColumns };  // element (i, k) of A stands at a[i * lda + k], or at a[k * lda + i]

// c[kRows x n] = a * b (+ c) (+ bias per column); b is [k][ldb], whole vectors of which are read.
template <class T>
struct Tile {
  int64_t k;
  const T* a;
  int64_t lda;
  const T* b;
  int64_t ldb;
  T* c;
  int64_t ldc;
  const T* bias;  // or null
  int64_t n;      // columns to write
  bool accumulate;
};

template <class T, Layout kLayout, int kVectors, int kRows>
__attribute__((noinline)) void micro_kernel(const Tile<T>& tile) {
  constexpr int kWidth = Vec<T>::width;
  const int64_t lda = tile.lda, ldb = tile.ldb, ldc = tile.ldc;
  Vec<T> acc[kRows][kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    Vec<T> first(typename Vec<T>::Raw{});
    if (tile.bias) first = Vec<T>::load_partial(tile.bias + v * kWidth, clamped(tile.n - v * kWidth, 0, kWidth));
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) acc[r][v] = first;
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRows; ++r) __builtin_prefetch(tile.c + r * ldc, 1);

  const T* b = tile.b;
  // Rows are addressed as one of two pointers plus lda times 0..6: x86 has an address mode for most of them, while a
  // pointer per row would not fit the registers.
  const T* a = tile.a;
  const T* a7 = a + 7 * lda;
  for (int64_t k = tile.k; k > 0; --k) {
    Vec<T> b_row[kVectors];
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) b_row[v] = Vec<T>::load(b + v * kWidth);
#pragma GCC unroll 16
    for (int r = 0; r < kRows; ++r) {
      const T* element = kLayout == Layout::kColumns ? a + r : r < 7 ? a + r * lda : a7 + (r - 7) * lda;
      const Vec<T> x = Vec<T>(*element);
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; ++v) acc[r][v] = fma(x, b_row[v], acc[r][v]);
    }
    a += kLayout == Layout::kColumns ? lda : 1;
    a7 += 1;
    b += ldb;
  }

#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) {
    const int64_t n = tile.n - v * kWidth;
    T* c = tile.c + v * kWidth;
    if (n >= kWidth) {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        if (tile.accumulate) acc[r][v] = acc[r][v] + Vec<T>::load(c + r * ldc);
        acc[r][v].store(c + r * ldc);
      }
    } else if (n > 0) {
#pragma GCC unroll 16
      for (int r = 0; r < kRows; ++r) {
        Vec<T> sum = acc[r][v];  // a copy: partial stores may take the address, which would keep acc out of registers
        if (tile.accumulate) sum = sum + Vec<T>::load_partial(c + r * ldc, n);
        sum.store_partial(c + r * ldc, n);
      }
    }
  }
}

template <class T>
using MicroKernel = void (*)(const Tile<T>&);

// The kernels for 1 .. kMicroRows rows.
template <class T, Layout kLayout, int kVectors, int... kIndex>
PE_INLINE const MicroKernel<T>* kernel_table(std::integer_sequence<int, kIndex...>) {
  static constexpr MicroKernel<T> table[] = {micro_kernel<T, kLayout, kVectors, kIndex + 1>...};
  return table;
}

template <class T, Layout kLayout>
PE_INLINE const MicroKernel<T>* kernels_for(int64_t columns) {
  constexpr auto rows = std::make_integer_sequence<int, kMicroRows>();
  return columns > Vec<T>::width ? kernel_table<T, kLayout, kMicroVectors>(rows) : kernel_table<T, kLayout, 1>(rows);
}

// ---------------------------------------------------------------------------------------------------- copies

template <class T>
PE_INLINE void copy_run(T* to, const T* from, int64_t n) {
  int64_t i = 0;
  for (; i + Vec<T>::width <= n; i += Vec<T>::width) Vec<T>::load(from + i).store(to + i);
  if (i < n) Vec<T>::load_partial(from + i, n - i).store_partial(to + i, n - i);
}

template <class T>
PE_INLINE void zero_run(T* to, int64_t n) {
  const Vec<T> zero(typename Vec<T>::Raw{});
  int64_t i = 0;
  for (; i + Vec<T>::width <= n; i += Vec<T>::width) zero.store(to + i);
  if (i < n) zero.store_partial(to + i, n - i);
}

// A row of a panel: n elements and zeros up to kPanel.
template <class T>
PE_INLINE void copy_panel_row(T* to, const T* from, int64_t n) {
  constexpr int kWidth = Vec<T>::width;
  if (n == kPanel<T>) {
#pragma GCC unroll 2
    for (int v = 0; v < kMicroVectors; ++v) Vec<T>::load(from + v * kWidth).store(to + v * kWidth);
    return;
  }
#pragma GCC unroll 2
  for (int v = 0; v < kMicroVectors; ++v) {
    const int64_t part = clamped(n - v * kWidth, 0, kWidth);
    (part ? Vec<T>::load_partial(from + v * kWidth, part) : Vec<T>(typename Vec<T>::Raw{})).store(to + v * kWidth);
  }
}

// The lower or upper halves of a and b, alternating.
template <class T, int kFirst, int... kIndex>
PE_INLINE Vec<T> interleave(Vec<T> a, Vec<T> b, std::integer_sequence<int, kIndex...>) {
  return Vec<T>(__builtin_shufflevector(a.v, b.v, (kFirst + kIndex / 2 + kIndex % 2 * Vec<T>::width)...));
}

// Stores the transpose of a rows x columns block (at most a vector width each) at to(0) .. to(columns - 1), filled up
// with zeros to whole vectors. Interleaving row i with row i + width / 2, log2(width) times, transposes.
template <class T, class To>
PE_INLINE void transpose_block(const T* from, int64_t ld, int64_t rows, int64_t columns, const To& to) {
  constexpr int kWidth = Vec<T>::width;
  constexpr auto lanes = std::make_integer_sequence<int, kWidth>();
  Vec<T> x[kWidth], y[kWidth];
  if (rows == kWidth && columns == kWidth) {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) x[i] = Vec<T>::load(from + i * ld);
  } else {
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i)
      x[i] = i < rows ? Vec<T>::load_partial(from + i * ld, columns) : Vec<T>(typename Vec<T>::Raw{});
  }
#pragma GCC unroll 4
  for (int step = 1; step < kWidth; step *= 2) {
#pragma GCC unroll 8
    for (int i = 0; i < kWidth / 2; ++i) {
      y[2 * i] = interleave<T, 0>(x[i], x[i + kWidth / 2], lanes);
      y[2 * i + 1] = interleave<T, kWidth / 2>(x[i], x[i + kWidth / 2], lanes);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kWidth; ++i) x[i] = y[i];
  }
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i)
    if (i < columns) x[i].store(to(i));
}

// A panel of the transpose of `from` (n rows, k columns): row q goes to to(q), a panel row.
template <class T, class To>
__attribute__((noinline)) void pack_transposed(const T* from, int64_t ld, int64_t n, int64_t k, const To& to) {
  constexpr int kWidth = Vec<T>::width;
  for (int64_t q = 0; q < k; q += kWidth)
    for (int v = 0; v < kMicroVectors; ++v) {
      const int64_t rows = clamped(n - v * kWidth, 0, kWidth);
      transpose_block(from + (rows ? v * kWidth : 0) * ld + q, ld, rows, smaller(k - q, kWidth),
                      [&](int i) __attribute__((always_inline)) { return to(q + i) + v * kWidth; });
    }
}

// ---------------------------------------------------------------------------------------------------- operands

// A block of A: tile t, which starts at row r, stands at data + r * row_step + t * tile_step.
template <class T>
struct BlockA {
  const T* data;
  int64_t lda, row_step, tile_step;
};

template <class T>
struct PanelB {
  const T* data;
  int64_t ldb;
};

// An operand A offers kLayout, buffer_size(rows, k) and block(rows, k, buffer); an operand B offers kBuffer, whether
// panel() needs one, and panel(index, k, buffer). Both may point into their matrix instead of filling the buffer.

template <class T>
PE_INLINE bool aliases(int64_t ld) {
  return ld * static_cast<int64_t>(sizeof(T)) % kAliasBytes == 0;
}

template <class T>
PE_INLINE int64_t padded_stride(int64_t k) {
  constexpr int64_t pad = kRowPadBytes / static_cast<int64_t>(sizeof(T));
  return ceil_div(k, pad) * pad + (aliases<T>(ceil_div(k, pad) * pad) ? pad : 0);
}

template <class T>
struct RowsA {
  static constexpr Layout kLayout = Layout::kRows;
  const T* a;
  int64_t lda;
  bool copy;

  int64_t buffer_size(int64_t rows, int64_t k) const { return copy ? rows * padded_stride<T>(k) : 0; }
  BlockA<T> block(Range m, Range k, T* buffer) const {
    const T* from = a + m.begin * lda + k.begin;
    if (!copy) return {from, lda, lda, 0};
    const int64_t stride = padded_stride<T>(k.size());
    for (int64_t i = 0; i < m.size(); ++i) copy_run(buffer + i * stride, from + i * lda, k.size());
    return {buffer, stride, stride, 0};
  }
};

template <class T>
struct ColumnsA {
  static constexpr Layout kLayout = Layout::kColumns;
  static constexpr int64_t kCopySteps = 8;
  const T* a;
  int64_t lda;
  bool copy;

  int64_t buffer_size(int64_t rows, int64_t k) const { return copy ? ceil_div(rows, kMicroRows) * kTileStride * k : 0; }
  BlockA<T> block(Range m, Range k, T* buffer) const {
    const T* from = a + k.begin * lda + m.begin;
    if (!copy) return {from, lda, 1, 0};
    const int64_t tiles = ceil_div(m.size(), kMicroRows), tile_step = k.size() * kTileStride;
    // A few steps of k at a time for all tiles: memory is then read almost in order.
    for (int64_t i = 0; i < k.size(); i += kCopySteps)
      for (int64_t t = 0; t < tiles; ++t) {
        const Range rows = share(m.size(), tiles, t);
        T* const to = buffer + t * tile_step;
        for (int64_t j = i; j < smaller(i + kCopySteps, k.size()); ++j) {
          __builtin_prefetch(from + (j + kCopySteps) * lda + rows.begin);
#pragma GCC unroll 4
          for (int v = 0; v < kTileStride; v += Vec<T>::width)
            Vec<T>::load_partial(from + j * lda + rows.begin + v, clamped(rows.size() - v, 0, Vec<T>::width))
                .store(to + j * kTileStride + v);
        }
      }
    return {buffer, kTileStride, 0, tile_step};
  }
};

// B packed beforehand: panel after panel, each [k][kPanel].
template <class T>
struct PackedB {
  static constexpr bool kBuffer = false;
  const T* data;
  int64_t k;
  PanelB<T> panel(int64_t index, Range range, T*) const {
    return {data + (index * k + range.begin) * kPanel<T>, kPanel<T>};
  }
};

// B as it stands in memory, packed panel by panel; `direct` reads whole panels of an untransposed B where they are,
// which pays where each is used once.
template <class T>
struct MatrixB {
  static constexpr bool kBuffer = true;
  const T* b;
  int64_t ldb, n;
  bool transposed, direct;

  void pack(int64_t index, Range k, T* to) const {
    const int64_t column = index * kPanel<T>, columns = smaller(kPanel<T>, n - column);
    if (transposed) {
      pack_transposed(b + column * ldb + k.begin, ldb, columns, k.size(),
                      [&](int64_t q) __attribute__((always_inline)) { return to + q * kPanel<T>; });
      return;
    }
    const T* from = b + k.begin * ldb + column;
    for (int64_t i = 0; i < k.size(); ++i) copy_panel_row(to + i * kPanel<T>, from + i * ldb, columns);
  }
  PanelB<T> panel(int64_t index, Range k, T* buffer) const {
    const int64_t column = index * kPanel<T>;
    if (direct && n - column >= kPanel<T>) return {b + k.begin * ldb + column, ldb};
    pack(index, k, buffer);
    return {buffer, kPanel<T>};
  }
};

// ---------------------------------------------------------------------------------------------------- macro-kernel

template <class T>
struct Result {
  T* c;  // the first of the rows asked for, column 0
  int64_t ldc;
  const T* bias;    // n elements, or null
  bool accumulate;  // add to c
};

// Rows m and panels p of the product over k. Blocks of k depend on k alone, and their sums are added in order.
template <class T, class A, class B>
__attribute__((noinline)) void multiply(const A& a, const B& b, Range m, Range k, Range p, int64_t n,
                                        const Result<T>& out) {
  constexpr int64_t kBlockK = kBlockBytesK / sizeof(T);
  const int64_t blocks = larger(1, ceil_div(k.size(), kBlockK)), tiles = ceil_div(m.size(), kMicroRows);
  const int64_t deepest = ceil_div(k.size(), blocks);
  T* const a_buffer = scratch<T>(kScratchA, a.buffer_size(m.size(), deepest));
  T* const b_buffer = B::kBuffer ? scratch<T>(kScratchB, deepest * kPanel<T>) : nullptr;
  for (int64_t i = 0; i < blocks; ++i) {
    const Range part = share(k.size(), blocks, i), range = {k.begin + part.begin, k.begin + part.end};
    const BlockA<T> block = a.block(m, range, a_buffer);
    for (int64_t j = p.begin; j < p.end; ++j) {
      const PanelB<T> panel = b.panel(j, range, b_buffer);
      const int64_t column = j * kPanel<T>, columns = smaller(kPanel<T>, n - column);
      const MicroKernel<T>* const kernels = kernels_for<T, A::kLayout>(columns);
      Tile<T> tile = {.k = range.size(),
                      .a = nullptr,
                      .lda = block.lda,
                      .b = panel.data,
                      .ldb = panel.ldb,
                      .c = nullptr,
                      .ldc = out.ldc,
                      .bias = nullptr,
                      .n = columns,
                      .accumulate = out.accumulate || i > 0};
      if (out.bias && i == 0) tile.bias = out.bias + column;
      for (int64_t t = 0; t < tiles; ++t) {
        const Range rows = share(m.size(), tiles, t);
        tile.a = block.data + rows.begin * block.row_step + t * block.tile_step;
        tile.c = out.c + rows.begin * out.ldc + column;
        kernels[rows.size() - 1](tile);
      }
    }
  }
}

// How a product is cut whose k is much larger than m and n, a weight gradient for instance: `count` times m_blocks x
// parts blocks of the result, each small enough to stay in the cache, and slices of k where these are few.
template <class T>
struct DeepCut {
  static constexpr int64_t kWantedPieces = 16;
  int64_t m_blocks, panels, parts, slices;

  DeepCut(int64_t count, int64_t m, int64_t n, int64_t k)
      : m_blocks(ceil_div(m, kGradientRows)), panels(ceil_div(n, kPanel<T>)) {
    const int64_t block_bytes = ceil_div(m, m_blocks) * kPanel<T> * static_cast<int64_t>(sizeof(T));
    parts = ceil_div(panels, larger(1, kPartialBytes / block_bytes));
    slices = clamped(kWantedPieces / (count * m_blocks * parts), 1, larger(1, k / 512));
  }
};

}  // namespace
}  // namespace pe::PE_ISA
