// The position of the largest or smallest element. Positions count the reduced dimensions in row-major order as the op
// names them, so these are not reordered. The first of equal elements wins, and the first NaN over everything.
#include "cpu/strides.h"
#include "kernels/op_codes.h"
#include "kernels/shapes.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {

namespace {

constexpr int64_t kTileOuts = 64;  // outputs followed together
constexpr int64_t kBlock = 1024;   // elements whose extreme is found before a position is looked for
constexpr int64_t kPieceWork = 32768;

PE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

template <bool largest, class T>
PE_INLINE bool better(T x, T best) {
  return (largest ? x > best : x < best) || (x != x && best == best);
}

// Whether some element of x[0 .. n) is better than best: a plain loop that vectorizes.
template <bool largest, class T>
PE_INLINE bool any_better(const T* x, int64_t n, T best) {
  unsigned found = 0;
  for (int64_t i = 0; i < n; ++i) found |= static_cast<unsigned>(better<largest>(x[i], best));
  return found != 0;
}

template <bool largest, class T>
int64_t position_in_row(const T* x, int64_t n) {
  T best = x[0];
  int64_t position = 0;
  for (int64_t block = 0; block < n; block += kBlock) {
    const int64_t end = smaller(n, block + kBlock);
    if (end - block > 32 && !any_better<largest>(x + block, end - block, best)) continue;
    for (int64_t i = block; i < end; ++i)
      if (better<largest>(x[i], best)) best = x[i], position = i;
  }
  return position;
}

// Several outputs at once: for each reduced position all of them are compared, so that neighbours share cache lines.
template <bool largest, class T>
void positions_of_tile(const ReduceShape& s, const T* x, int64_t first, int64_t count, int64_t* y) {
  int64_t offset[kTileOuts], position[kTileOuts] = {};
  T best[kTileOuts];
  for (int64_t k = 0; k < count; ++k) {
    offset[k] = offset_of(first + k, s.out_ndim, s.out_size, s.x_out_stride);
    best[k] = x[offset[k]];
  }
  const int last = s.red_ndim - 1;
  for (int64_t i = 0; i < s.red_numel; i += s.red_size[last]) {
    const T* run = x + offset_of(i, s.red_ndim, s.red_size, s.x_red_stride);
    for (int64_t j = 0; j < s.red_size[last]; ++j, run += s.x_red_stride[last])
      for (int64_t k = 0; k < count; ++k) {
        const T v = run[offset[k]];
        const bool take = better<largest>(v, best[k]);
        best[k] = take ? v : best[k];
        position[k] = take ? i + j : position[k];
      }
  }
  for (int64_t k = 0; k < count; ++k) y[offset_of(first + k, s.out_ndim, s.out_size, s.y_stride)] = position[k];
}

template <bool largest, class T>
void arg_reduce_typed(const ReduceShape& s, const void* data, int64_t* y) {
  if (s.out_numel == 0 || s.red_numel == 0) return;
  const T* x = static_cast<const T*>(data);
  const bool in_rows = s.red_ndim == 1 && (s.x_red_stride[0] == 1 || s.red_numel == 1);
  int64_t outs = kPieceWork / s.red_numel;
  outs = outs < 1 ? 1 : in_rows ? outs : smaller(outs, kTileOuts);
  if (!in_rows && s.out_numel > outs && outs < 16) outs = smaller(s.out_numel, 16);
  const double work = static_cast<double>(s.out_numel) * static_cast<double>(s.red_numel);
  parallel_for((s.out_numel + outs - 1) / outs, work, [&](int64_t piece) {
    const int64_t first = piece * outs, count = smaller(s.out_numel - first, outs);
    if (!in_rows) return positions_of_tile<largest>(s, x, first, count, y);
    for (int64_t k = first; k < first + count; ++k)
      y[offset_of(k, s.out_ndim, s.out_size, s.y_stride)] =
          position_in_row<largest>(x + offset_of(k, s.out_ndim, s.out_size, s.x_out_stride), s.red_numel);
  });
}

template <class T>
void arg_reduce_of(bool largest, const ReduceShape& s, const void* x, int64_t* y) {
  if (largest)
    arg_reduce_typed<true, T>(s, x, y);
  else
    arg_reduce_typed<false, T>(s, x, y);
}

}  // namespace

void arg_reduce(bool largest, DType t, const ReduceShape& s, const void* x, int64_t* y) {
  switch (t) {
    case DType::Float32: return arg_reduce_of<float>(largest, s, x, y);
    case DType::Float64: return arg_reduce_of<double>(largest, s, x, y);
    case DType::Int64: return arg_reduce_of<int64_t>(largest, s, x, y);
    case DType::Int32: return arg_reduce_of<int32_t>(largest, s, x, y);
    case DType::UInt8:
    case DType::Bool: return arg_reduce_of<uint8_t>(largest, s, x, y);
  }
}

}  // namespace pe::PE_ISA
