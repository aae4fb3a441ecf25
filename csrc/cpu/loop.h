// The driver of every elementwise kernel: walks a Loop and hands a Row function stretches in which each operand is
// contiguous, or one repeated value. Kernels therefore know nothing of strides.
//   long rows    operands with inner stride 1 are used in place, a broadcast one as 64 copies that are not stepped over
//   others       are gathered into (the output: scattered from) a small buffer, tile by tile of the last two dimensions
//   short rows   a tile of many rows is gathered into one stretch, so that (N*H*W, 6) + (6) still runs on full vectors
#pragma once
#include <cstring>

#include "cpu/simd.h"
#include "cpu/strides.h"
#include "kernels/shapes.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {

// Element i of operand k is at p[k] + i * step[k] elements; operand 0 is the output. Where step is 0 kBroadcast copies
// of the value stand at p[k], so that a vector may be loaded from it.
using Row = void (*)(int64_t n, char* const* p, const int64_t* step, const double* params);

constexpr int64_t kBroadcast = 64;

namespace {

constexpr int64_t kPieceElements = 16384;  // of one parallel piece
constexpr int64_t kTileElements = 1024;    // gathered at a time: four operands of 4 bytes fit into half of the L1 cache
constexpr int64_t kShortRow = 128;
// Outputs beyond this go past the caches: reading the old line before writing it costs a third of the memory traffic.
constexpr int64_t kStreamBytes = 12 << 20;

// Copies n bytes with stores that bypass the caches, where the instruction set has them and `to` is aligned.
PE_INLINE void stream_bytes(char* to, const char* from, int64_t n) {
  int64_t i = 0;
#if defined(PE_ISA_AVX512)
  if (reinterpret_cast<uintptr_t>(to) % 64 == 0)
    for (; i + 64 <= n; i += 64) _mm512_stream_si512(reinterpret_cast<__m512i*>(to + i), _mm512_loadu_si512(from + i));
#elif defined(PE_ISA_AVX2)
  if (reinterpret_cast<uintptr_t>(to) % 32 == 0)
    for (; i + 32 <= n; i += 32)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(to + i),
                          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + i)));
#endif
  std::memcpy(to + i, from + i, static_cast<size_t>(n - i));
}

PE_INLINE void finish_streams() {
#if defined(PE_ISA_AVX512) || defined(PE_ISA_AVX2)
  _mm_sfence();
#endif
}

// to[r * to_row + c * to_column] = from[...], the dimension with the smaller strides innermost.
template <class U>
void move_tile(const U* from, int64_t from_row, int64_t from_column, U* to, int64_t to_row, int64_t to_column,
               int64_t rows, int64_t columns) {
  const int64_t row_cost = (from_row < 0 ? -from_row : from_row) + to_row;
  const int64_t column_cost = (from_column < 0 ? -from_column : from_column) + to_column;
  if (row_cost < column_cost)
    for (int64_t c = 0; c < columns; ++c)
      for (int64_t r = 0; r < rows; ++r) to[r * to_row + c * to_column] = from[r * from_row + c * from_column];
  else if (from_column == 1 && to_column == 1)
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) to[r * to_row + c] = from[r * from_row + c];
  else
    for (int64_t r = 0; r < rows; ++r)
      for (int64_t c = 0; c < columns; ++c) to[r * to_row + c * to_column] = from[r * from_row + c * from_column];
}

void move_tile(int item, const void* from, int64_t from_row, int64_t from_column, void* to, int64_t to_row,
               int64_t to_column, int64_t rows, int64_t columns) {
#define PE_MOVE(bytes)                                                                                               \
  move_tile(static_cast<const Item<bytes>::Type*>(from), from_row, from_column, static_cast<Item<bytes>::Type*>(to), \
            to_row, to_column, rows, columns)
  if (item == 1)
    PE_MOVE(1);
  else if (item == 4)
    PE_MOVE(4);
  else
    PE_MOVE(8);
#undef PE_MOVE
}

enum class Access { direct, broadcast, gather };

struct LoopRunner {
  LoopRunner(const Loop& loop, Row row, const double* params) : loop(loop), row(row), params(params) {
    const int last = loop.ndim - 1;
    columns = loop.size[last];
    rows = loop.ndim > 1 ? loop.size[last - 1] : 1;
    short_rows = loop.ndim > 1 && columns < kShortRow;
    bool gathers = short_rows;
    for (int k = 0; k < loop.operands; ++k) {
      column_stride[k] = loop.size[last] == 1 ? 1 : loop.stride[k][last];
      row_stride[k] = loop.ndim > 1 ? loop.stride[k][last - 1] : 0;
      if (short_rows && column_stride[k] == 1 && row_stride[k] == columns)
        access[k] = Access::direct;
      else if (column_stride[k] == 0 && (!short_rows || row_stride[k] == 0))
        access[k] = Access::broadcast;
      else
        access[k] = column_stride[k] == 1 && !short_rows ? Access::direct : Access::gather;
      gathers |= access[k] == Access::gather;
    }
    if (short_rows) {
      tile_columns = columns;
      tile_rows = smaller(rows, kTileElements / columns);
    } else if (gathers) {  // nearly square, for an operand that is contiguous in the other dimension
      tile_rows = smaller(rows, 16);
      tile_columns = smaller(columns, kTileElements / tile_rows);
    } else {
      tile_columns = smaller(columns, kPieceElements);
      tile_rows = smaller(rows, kPieceElements / tile_columns);
    }
    row_tiles = (rows + tile_rows - 1) / tile_rows;
    column_tiles = (columns + tile_columns - 1) / tile_columns;
    tiles = loop.numel / (rows * columns) * row_tiles * column_tiles;
  }

  static PE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

  void operand(int k, const void* data, size_t bytes) {
    base[k] = static_cast<char*>(const_cast<void*>(data));
    item[k] = static_cast<int>(bytes);
  }

  void run(double nanoseconds_per_element) const {
    const int64_t per_piece =
        kPieceElements / (tile_rows * tile_columns) > 1 ? kPieceElements / (tile_rows * tile_columns) : 1;
    parallel_for((tiles + per_piece - 1) / per_piece, nanoseconds_per_element * static_cast<double>(loop.numel),
                 [&](int64_t piece) {
                   Buffers buffers;
                   const int64_t end = smaller(tiles, (piece + 1) * per_piece);
                   for (int64_t tile = piece * per_piece; tile < end; ++tile) run_tile(tile, buffers);
                   if (streams()) finish_streams();
                 });
  }

 private:
  struct Buffers {
    alignas(64) char data[kMaxOperands][kTileElements * 8];
    const char* gathered[kMaxOperands] = {};  // where a short-row tile came from: a repeated one is gathered once
    int64_t gathered_rows[kMaxOperands] = {};
  };

  bool streams() const {
    return (sizeof(Vec<float>) > 16) && access[0] == Access::direct && loop.numel * item[0] > kStreamBytes;
  }

  // A long row by way of a buffer in the L1 cache, so that the row functions need not know how to stream.
  void stream_row(int64_t n, char* const* p, const int64_t* step, char* buffer) const {
    for (int64_t i = 0; i < n; i += kTileElements) {
      const int64_t count = smaller(n - i, kTileElements);
      char* part[kMaxOperands];
      part[0] = buffer;
      for (int k = 1; k < loop.operands; ++k) part[k] = p[k] + i * step[k] * item[k];
      row(count, part, step, params);
      stream_bytes(p[0] + i * item[0], buffer, count * item[0]);
    }
  }

  void run_tile(int64_t tile, Buffers& buffers) const {
    const int64_t c0 = tile % column_tiles * tile_columns;
    tile /= column_tiles;
    const int64_t r0 = tile % row_tiles * tile_rows;
    tile /= row_tiles;
    const int64_t c_count = smaller(tile_columns, columns - c0), r_count = smaller(tile_rows, rows - r0);
    char* start[kMaxOperands];
    for (int k = 0; k < loop.operands; ++k) start[k] = base[k] + (r0 * row_stride[k] + c0 * column_stride[k]) * item[k];
    for (int d = loop.ndim - 3; d >= 0; --d) {
      const int64_t i = tile % loop.size[d];
      tile /= loop.size[d];
      for (int k = 0; k < loop.operands; ++k) start[k] += i * loop.stride[k][d] * item[k];
    }
    char* p[kMaxOperands];
    int64_t step[kMaxOperands];
    for (int k = 0; k < loop.operands; ++k) {
      p[k] = access[k] == Access::direct ? start[k] : buffers.data[k];
      step[k] = access[k] != Access::broadcast;
      if (access[k] != Access::gather || k == 0) continue;
      if (short_rows && buffers.gathered[k] == start[k] && buffers.gathered_rows[k] >= r_count) continue;
      move_tile(item[k], start[k], row_stride[k], column_stride[k], p[k], c_count, 1, r_count, c_count);
      buffers.gathered[k] = start[k];
      buffers.gathered_rows[k] = r_count;
    }
    const int64_t calls = short_rows ? 1 : r_count, n = short_rows ? r_count * c_count : c_count;
    for (int64_t r = 0; r < calls; ++r) {
      for (int k = 0; k < loop.operands; ++k) {
        if (access[k] == Access::broadcast && (r == 0 || row_stride[k] != 0))
          move_tile(item[k], start[k] + r * row_stride[k] * item[k], 0, 0, p[k], 0, 1, 1, smaller(n, kBroadcast));
      }
      if (streams())
        stream_row(n, p, step, buffers.data[0]);
      else
        row(n, p, step, params);
      for (int k = 0; k < loop.operands; ++k) {
        if (access[k] == Access::direct) p[k] += row_stride[k] * item[k];
        if (access[k] == Access::gather) p[k] += n * item[k];
      }
    }
    if (access[0] == Access::gather)
      move_tile(item[0], buffers.data[0], c_count, 1, start[0], row_stride[0], column_stride[0], r_count, c_count);
  }

  const Loop& loop;
  const Row row;
  const double* const params;
  char* base[kMaxOperands] = {};
  int item[kMaxOperands] = {};
  Access access[kMaxOperands];
  int64_t row_stride[kMaxOperands], column_stride[kMaxOperands];
  int64_t rows, columns;  // the sizes of the last two dimensions
  bool short_rows;
  int64_t tile_rows, tile_columns, row_tiles, column_tiles, tiles;
};

// Runs `row` over a loop with operands y, x[, a[, b]].
void run_loop(const Loop& loop, Row row, const double* params, double nanoseconds_per_element, size_t y_bytes, void* y,
              size_t x_bytes, const void* x, size_t a_bytes = 0, const void* a = nullptr, size_t b_bytes = 0,
              const void* b = nullptr) {
  if (loop.numel == 0 || row == nullptr) return;
  LoopRunner runner(loop, row, params);
  runner.operand(0, y, y_bytes);
  runner.operand(1, x, x_bytes);
  runner.operand(2, a, a_bytes);
  runner.operand(3, b, b_bytes);
  runner.run(nanoseconds_per_element);
}

}  // namespace

}  // namespace pe::PE_ISA
