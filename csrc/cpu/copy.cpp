// Copies between any layouts and dtypes. Three ways: a row at a time (dense memory, fills, converting), 4x4 blocks
// where the two sides are contiguous in different dimensions (NCHW <-> NHWC and every other transposition), else the
// gathering of cpu/loop.h.
#include "cpu/loop.h"
#include "kernels/op_codes.h"

namespace pe::PE_ISA {

namespace {

// --- converting rows

// Float to integer cuts the fraction off. What does not fit gives what x86 gives: the lowest number; NaN too.
template <class To, class From>
PE_INLINE To convert(From x) {
  constexpr bool kFromFloat = From(0.5) != From(0), kToFloat = To(0.5) != To(0) && !__is_same(To, bool);
  if constexpr (__is_same(To, bool)) {
    return x != From(0);
  } else if constexpr (__is_same(From, bool) || !kFromFloat || kToFloat) {
    return static_cast<To>(x);
  } else if constexpr (sizeof(To) == 8) {
    constexpr From kLimit = static_cast<From>(9223372036854775808.0);
    return static_cast<int64_t>(x >= -kLimit && x < kLimit ? x : -kLimit);
  } else {  // uint8 keeps the low byte of an int32, so that -1 becomes 255
    constexpr From kLimit = static_cast<From>(2147483648.0);
    const int32_t i = static_cast<int32_t>(x > -kLimit - From(1) && x < kLimit ? x : -kLimit);
    return static_cast<To>(i);
  }
}

template <class From, class To>
void convert_row(int64_t n, char* const* p, const int64_t* step, const double*) {
  To* y = reinterpret_cast<To*>(p[0]);
  const From* x = reinterpret_cast<const From*>(p[1]);
  for (int64_t i = 0; i < n; i += kBroadcast, y += kBroadcast, x += kBroadcast * step[1]) {
    const int64_t count = n - i < kBroadcast ? n - i : kBroadcast;
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) y[j] = convert<To>(x[j]);
  }
}

template <class From>
Row convert_row_of(DType to) {
  switch (to) {
    case DType::Float32: return convert_row<From, float>;
    case DType::Float64: return convert_row<From, double>;
    case DType::Int64: return convert_row<From, int64_t>;
    case DType::Int32: return convert_row<From, int32_t>;
    case DType::UInt8: return convert_row<From, uint8_t>;
    case DType::Bool: return convert_row<From, bool>;
  }
  return nullptr;
}

Row convert_row_of(DType from, DType to) {
  switch (from) {
    case DType::Float32: return convert_row_of<float>(to);
    case DType::Float64: return convert_row_of<double>(to);
    case DType::Int64: return convert_row_of<int64_t>(to);
    case DType::Int32: return convert_row_of<int32_t>(to);
    case DType::UInt8:
    case DType::Bool: return convert_row_of<uint8_t>(to);
  }
  return nullptr;
}

// --- rows of one dtype

template <int bytes>
void copy_row(int64_t n, char* const* p, const int64_t* step, const double*) {
  using U = typename Item<bytes>::Type;
  if (step[1] != 0) {
    std::memcpy(p[0], p[1], static_cast<size_t>(n) * bytes);
  } else {
    U* y = reinterpret_cast<U*>(p[0]);
    const U value = *reinterpret_cast<const U*>(p[1]);
    for (int64_t i = 0; i < n; ++i) y[i] = value;
  }
}

// --- transposition

constexpr int64_t kTransposeTile = 32;
constexpr int64_t kTransposeElements = 2048;  // of a tile
constexpr int64_t kPadding = 4;  // elements between the columns of a buffered tile, against the same eviction

typedef uint32_t Four __attribute__((vector_size(16)));

// y[r * y_row + c] = x[c * x_column + r] for 4x4 elements
PE_INLINE void transpose_4x4(const void* from, int64_t x_column, void* to, int64_t y_row) {
  const char* x = static_cast<const char*>(from);
  char* y = static_cast<char*>(to);
  Four a, b, c, d;
  std::memcpy(&a, x, 16);
  std::memcpy(&b, x + 4 * x_column, 16);
  std::memcpy(&c, x + 8 * x_column, 16);
  std::memcpy(&d, x + 12 * x_column, 16);
  const Four ab_low = __builtin_shuffle(a, b, Four{0, 4, 1, 5}), ab_high = __builtin_shuffle(a, b, Four{2, 6, 3, 7});
  const Four cd_low = __builtin_shuffle(c, d, Four{0, 4, 1, 5}), cd_high = __builtin_shuffle(c, d, Four{2, 6, 3, 7});
  a = __builtin_shuffle(ab_low, cd_low, Four{0, 1, 4, 5});
  b = __builtin_shuffle(ab_low, cd_low, Four{2, 3, 6, 7});
  c = __builtin_shuffle(ab_high, cd_high, Four{0, 1, 4, 5});
  d = __builtin_shuffle(ab_high, cd_high, Four{2, 3, 6, 7});
  std::memcpy(y, &a, 16);
  std::memcpy(y + 4 * y_row, &b, 16);
  std::memcpy(y + 8 * y_row, &c, 16);
  std::memcpy(y + 12 * y_row, &d, 16);
}

// y[r * y_row + c] = x[c * x_column + r]
template <int bytes, class U>
PE_INLINE void transpose_block(const U* x, int64_t x_column, U* y, int64_t y_row, int64_t rows, int64_t columns) {
  const int64_t block_rows = bytes == 4 ? rows - rows % 4 : 0, block_columns = bytes == 4 ? columns - columns % 4 : 0;
  for (int64_t r = 0; r < block_rows; r += 4)
    for (int64_t c = 0; c < block_columns; c += 4)
      transpose_4x4(x + c * x_column + r, x_column, y + r * y_row + c, y_row);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = r < block_rows ? block_columns : 0; c < columns; ++c) y[r * y_row + c] = x[c * x_column + r];
}

// A tile that is wide both ways goes through a small buffer, so that every cache line of x is read once and of y
// written at once: a stride is often a multiple of 4 KB, and then the lines of a tile would evict each other.
template <int bytes>
void transpose_tile(const char* from, int64_t x_column, char* to, int64_t y_row, int64_t rows, int64_t columns) {
  using U = typename Item<bytes>::Type;
  const U* x = reinterpret_cast<const U*>(from);
  U* y = reinterpret_cast<U*>(to);
  if (rows < 16 || columns < 16) return transpose_block<bytes>(x, x_column, y, y_row, rows, columns);
  alignas(64) U buffer[kTransposeElements + kTransposeElements / 16 * kPadding];
  const int64_t column = rows + kPadding;
  for (int64_t c = 0; c < columns; ++c)
    for (int64_t r = 0; r < rows; ++r) buffer[c * column + r] = x[c * x_column + r];
  transpose_block<bytes>(static_cast<const U*>(buffer), column, y, y_row, rows, columns);
}

// y contiguous in the last dimension, x in the one before; outer dimensions as they come.
template <int bytes>
void transpose(const Loop& loop, const void* x, void* y) {
  const int last = loop.ndim - 1;
  const int64_t columns = loop.size[last], rows = loop.size[last - 1];
  // few channels make tiles narrow in one direction: those are longer in the other
  const int64_t most_columns = columns < kTransposeTile ? columns : kTransposeTile;
  const int64_t tile_rows = rows < kTransposeElements / most_columns ? rows : kTransposeElements / most_columns;
  const int64_t most = kTransposeElements / tile_rows;
  const int64_t tile_columns = tile_rows >= kTransposeTile ? most_columns : columns < most ? columns : most;
  const int64_t row_tiles = (rows + tile_rows - 1) / tile_rows,
                column_tiles = (columns + tile_columns - 1) / tile_columns;
  const int64_t tiles = loop.numel / (rows * columns) * row_tiles * column_tiles;
  const int64_t per_piece = kPieceElements / (tile_rows * tile_columns);  // at least 8
  parallel_for((tiles + per_piece - 1) / per_piece, 0.4 * static_cast<double>(loop.numel), [&](int64_t piece) {
    const int64_t end = tiles < (piece + 1) * per_piece ? tiles : (piece + 1) * per_piece;
    for (int64_t tile = piece * per_piece; tile < end; ++tile) {
      int64_t rest = tile;
      const int64_t c = rest % column_tiles * tile_columns;
      rest /= column_tiles;
      const int64_t r = rest % row_tiles * tile_rows;
      rest /= row_tiles;
      int64_t x_offset = r + c * loop.stride[1][last], y_offset = r * loop.stride[0][last - 1] + c;
      for (int d = last - 2; d >= 0; --d) {
        const int64_t i = rest % loop.size[d];
        rest /= loop.size[d];
        y_offset += i * loop.stride[0][d];
        x_offset += i * loop.stride[1][d];
      }
      transpose_tile<bytes>(static_cast<const char*>(x) + x_offset * bytes, loop.stride[1][last],
                            static_cast<char*>(y) + y_offset * bytes, loop.stride[0][last - 1],
                            rows - r < tile_rows ? rows - r : tile_rows,
                            columns - c < tile_columns ? columns - c : tile_columns);
    }
  });
}

// The dimension in which operand k is contiguous, the last one first; -1 if there is none.
int contiguous_dimension(const Loop& loop, int k) {
  for (int d = loop.ndim - 1; d >= 0; --d)
    if (loop.stride[k][d] == 1) return d;
  return -1;
}

void swap_dimensions(Loop& loop, int d, int e) {
  const int64_t size = loop.size[d];
  loop.size[d] = loop.size[e];
  loop.size[e] = size;
  for (int k = 0; k < loop.operands; ++k) {
    const int64_t stride = loop.stride[k][d];
    loop.stride[k][d] = loop.stride[k][e];
    loop.stride[k][e] = stride;
  }
}

// The order of the dimensions is free in a copy: y's contiguous one goes last, x's before it.
template <int bytes>
void copy_items(Loop loop, const void* x, void* y) {
  if (loop.numel == 0) return;
  const int last = loop.ndim - 1;
  const int y_contiguous = contiguous_dimension(loop, 0);
  if (y_contiguous >= 0) swap_dimensions(loop, y_contiguous, last);
  const int x_contiguous = contiguous_dimension(loop, 1);
  if (y_contiguous >= 0 && x_contiguous >= 0 && x_contiguous < last && loop.stride[1][last] != 0) {
    swap_dimensions(loop, x_contiguous, last - 1);
    return transpose<bytes>(loop, x, y);
  }
  run_loop(loop, copy_row<bytes>, nullptr, 0.04 * bytes, bytes, y, bytes, x);
}

}  // namespace

void copy(const Loop& loop, DType from, DType to, const void* x, void* y) {
  const bool same = from == to || (from == DType::Bool && to == DType::UInt8);
  if (!same) return run_loop(loop, convert_row_of(from, to), nullptr, 0.3, item_size(to), y, item_size(from), x);
  if (item_size(to) == 1)
    copy_items<1>(loop, x, y);
  else if (item_size(to) == 4)
    copy_items<4>(loop, x, y);
  else
    copy_items<8>(loop, x, y);
}

}  // namespace pe::PE_ISA
