// Softmax and log-softmax of dense rows, shifted by the row's maximum so that no exponential overflows.
#include "cpu/rows.h"
#include "cpu/simd_math.h"
#include "kernels/shapes.h"

namespace pe::PE_ISA {
namespace {

template <class T>
constexpr double kNsPerElement = sizeof(T) == 4 ? 1.5 : 12;

// y may be x.
template <class T, bool kTile, bool kLog>
PE_INLINE void softmax_block(const T* x, T* y, int64_t n) {
  const Vec<T> m = row_max<T, kTile>(x, n);
  const Vec<T> s = row_sum<T, kTile>(n, [=](auto lanes, int64_t i) __attribute__((always_inline)) {
    const Vec<T> e = exp(lanes.load(x + i) - m);
    if constexpr (!kLog) lanes.store(y + i, e);
    return e;
  });
  const Vec<T> last = kLog ? log(s) : 1.0 / s;
  each_vector<T>(n, [=](auto lanes, int64_t i) __attribute__((always_inline)) {
    if constexpr (kLog)
      lanes.store(y + i, (lanes.load(x + i) - m) - last);
    else
      lanes.store(y + i, lanes.load(y + i) * last);
  });
}

// dx = (dy - sum(dy y)) y; of the logarithm dx = dy - exp(y) sum(dy). dx may be dy.
template <class T, bool kTile, bool kLog>
PE_INLINE void softmax_backward_block(const T* dy, const T* y, T* dx, int64_t n) {
  const Vec<T> s = row_sum<T, kTile>(n, [=](auto lanes, int64_t i) __attribute__((always_inline)) {
    const Vec<T> d = lanes.load(dy + i);
    return kLog ? d : d * lanes.load(y + i);
  });
  each_vector<T>(n, [=](auto lanes, int64_t i) __attribute__((always_inline)) {
    const Vec<T> d = lanes.load(dy + i), v = lanes.load(y + i);
    lanes.store(dx + i, kLog ? d - exp(v) * s : (d - s) * v);
  });
}

template <class T, bool kLog>
void softmax_rows(int64_t rows, int64_t cols, const T* x, T* y) {
  for_each_row<T>(
      rows, cols, kNsPerElement<T>,
      [=](int64_t row, int64_t n) {
        Tile<T> tile;
        tile.read(x + row * cols, n, cols);
        softmax_block<T, true, kLog>(tile.data, tile.data, cols * Vec<T>::width);
        tile.write(y + row * cols, n, cols);
      },
      [=](int64_t row) { softmax_block<T, false, kLog>(x + row * cols, y + row * cols, cols); });
}

template <class T, bool kLog>
void softmax_backward_rows(int64_t rows, int64_t cols, const T* dy, const T* y, T* dx) {
  for_each_row<T>(
      rows, cols, kNsPerElement<T>,
      [=](int64_t row, int64_t n) {
        Tile<T> dy_tile, y_tile;
        dy_tile.read(dy + row * cols, n, cols);
        y_tile.read(y + row * cols, n, cols);
        softmax_backward_block<T, true, kLog>(dy_tile.data, y_tile.data, dy_tile.data, cols * Vec<T>::width);
        dy_tile.write(dx + row * cols, n, cols);
      },
      [=](int64_t row) {
        softmax_backward_block<T, false, kLog>(dy + row * cols, y + row * cols, dx + row * cols, cols);
      });
}

template <class T>
void forward(int64_t rows, int64_t cols, bool log, const void* x, void* y) {
  const auto* in = static_cast<const T*>(x);
  auto* out = static_cast<T*>(y);
  log ? softmax_rows<T, true>(rows, cols, in, out) : softmax_rows<T, false>(rows, cols, in, out);
}

template <class T>
void backward(int64_t rows, int64_t cols, bool log, const void* dy, const void* y, void* dx) {
  const auto *d = static_cast<const T*>(dy), *in = static_cast<const T*>(y);
  auto* out = static_cast<T*>(dx);
  log ? softmax_backward_rows<T, true>(rows, cols, d, in, out)
      : softmax_backward_rows<T, false>(rows, cols, d, in, out);
}

}  // namespace

void softmax(int64_t rows, int64_t cols, DType t, bool log, const void* x, void* y) {
  t == DType::Float32 ? forward<float>(rows, cols, log, x, y) : forward<double>(rows, cols, log, x, y);
}

void softmax_backward(int64_t rows, int64_t cols, DType t, bool log, const void* dy, const void* y, void* dx) {
  t == DType::Float32 ? backward<float>(rows, cols, log, dy, y, dx) : backward<double>(rows, cols, log, dy, y, dx);
}

}  // namespace pe::PE_ISA
