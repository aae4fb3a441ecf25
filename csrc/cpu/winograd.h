// Winograd's convolution: small tiles of an image and the kernel are evaluated, as polynomials, at six points; the
// products at the points, each a matrix product over the channels, are interpolated to the outputs. F(4x4, 3x3) needs
// 36 multiplications for 16 outputs instead of 144, F(2x2, 5x5) 36 for 4 instead of 100. S. Winograd: "Arithmetic
// Complexity of Computations" (1980); A. Lavin, S. Gray: "Fast Algorithms for Convolutional Neural Networks" (2016).
//
// In one dimension, for outputs y, kernel g and the six inputs d that meet them:  y = A^T ((G g) * (B^T d)).
// With V_n the 6 x n matrix whose rows are the powers 0 .. n - 1 of the points (the point infinity: 0 .. 0 1),
//   A^T = V_m^T      for m outputs,
//   G   = F V_r      for r taps, F a diagonal of scales,
//   B^T = the coefficients, for each point, of the product of (z - other point) over all other finite points.
// The gradients are the transposed maps: B^T and A = V_m on the way to the points, G^T = V_r^T F on the way back.
//
// The points are 0, +-a, +-b and infinity. In float the textbook's integers 0, +-1, +-2 cost more than a digit; with
// a = 1/sqrt(2), b = sqrt(2) it is about half of one: their powers stay near 1. And a b = 1 makes B^T simple. On the
// choice of points: B. Barabasz, A. Anderson, K. M. Soodhalter, D. Gregg: "Error Analysis and Improving the Accuracy of
// Winograd Convolution for Deep Neural Networks" (2020).
#pragma once
#include "cpu/gemm_kernel.h"
#include "kernels/shapes.h"

namespace pe::PE_ISA {
namespace {

constexpr int kPoints = 6, kPlanes = kPoints * kPoints;

using FloatVec = Vec<float>;

// Powers of a and b.
constexpr double kA[] = {1, 0.70710678118654752440, 0.5, 0.35355339059327376220, 0.25};
constexpr double kB[] = {1, 1.41421356237309504880, 2, 2.82842712474619009760, 4};

// F: 1 / the product of (point - other point) over all other finite points, for a^2 = 1/2 and b^2 = 2.
constexpr double kScaleA = -2.0 / 3;  // 1 / (2 a^2 (a^2 - b^2))
constexpr double kScaleB = 1.0 / 6;   // 1 / (2 b^2 (b^2 - a^2))
// and 1 = 1 / (a^2 b^2) for the point 0, 1 for infinity.

// B^T. Its rows are the coefficients of (z^2 - a^2)(z^2 - b^2), z (z +- a)(z^2 - b^2), z (z +- b)(z^2 - a^2) and
// z (z^2 - a^2)(z^2 - b^2).
struct InputTransform {
  static constexpr int kIn = kPoints, kOut = kPoints;
  static PE_INLINE void apply(const FloatVec* d, FloatVec* v) {
    const FloatVec even_a = fma(FloatVec(-kB[2]), d[2], d[4]), odd_a = fma(FloatVec(-kB[2]), d[1], d[3]);
    const FloatVec even_b = fma(FloatVec(-kA[2]), d[2], d[4]), odd_b = fma(FloatVec(-kA[2]), d[1], d[3]);
    v[0] = fma(FloatVec(-kA[2] - kB[2]), d[2], d[0] + d[4]);
    v[1] = fma(FloatVec(kA[1]), odd_a, even_a);
    v[2] = fma(FloatVec(-kA[1]), odd_a, even_a);
    v[3] = fma(FloatVec(kB[1]), odd_b, even_b);
    v[4] = fma(FloatVec(-kB[1]), odd_b, even_b);
    v[5] = fma(FloatVec(-kA[2] - kB[2]), d[3], d[1] + d[5]);
  }
};

// V_n: the values of a polynomial with n coefficients at the points.
template <int n>
struct Evaluate {
  static constexpr int kIn = n, kOut = kPoints;
  static PE_INLINE void pair(const FloatVec* x, const double* powers, double scale, FloatVec* plus, FloatVec* minus) {
    FloatVec even = scale == 1 ? x[0] : scale * x[0], odd = (scale * powers[1]) * x[1];
#pragma GCC unroll 2
    for (int i = 2; i < n; i += 2) even = fma(FloatVec(scale * powers[i]), x[i], even);
#pragma GCC unroll 2
    for (int i = 3; i < n; i += 2) odd = fma(FloatVec(scale * powers[i]), x[i], odd);
    *plus = even + odd;
    *minus = even - odd;
  }
  static PE_INLINE void apply(const FloatVec* x, FloatVec* v) {
    v[0] = x[0];
    pair(x, kA, 1, v + 1, v + 2);
    pair(x, kB, 1, v + 3, v + 4);
    v[5] = x[n - 1];
  }
};

// V_n^T.
template <int n>
struct EvaluateTransposed {
  static constexpr int kIn = kPoints, kOut = n;
  static PE_INLINE void scaled(const FloatVec* v, double scale_a, double scale_b, FloatVec* x) {
    const FloatVec even_a = v[1] + v[2], odd_a = v[1] - v[2], even_b = v[3] + v[4], odd_b = v[3] - v[4];
#pragma GCC unroll 5
    for (int i = 0; i < n; ++i) {
      const double a = scale_a * kA[i], b = scale_b * kB[i];
      const FloatVec in_a = i % 2 ? odd_a : even_a, in_b = i % 2 ? odd_b : even_b;
      x[i] = fma(FloatVec(a), in_a, i == 0 ? v[0] : i == n - 1 ? v[5] : FloatVec(typename FloatVec::Raw{}));
      x[i] = fma(FloatVec(b), in_b, x[i]);
    }
  }
  static PE_INLINE void apply(const FloatVec* v, FloatVec* x) { scaled(v, 1, 1, x); }
};

// G and G^T.
template <int n>
struct KernelTransform {
  static constexpr int kIn = n, kOut = kPoints;
  static PE_INLINE void apply(const FloatVec* g, FloatVec* u) {
    u[0] = g[0];
    Evaluate<n>::pair(g, kA, kScaleA, u + 1, u + 2);
    Evaluate<n>::pair(g, kB, kScaleB, u + 3, u + 4);
    u[5] = g[n - 1];
  }
};
template <int n>
struct KernelTransposed {
  static constexpr int kIn = kPoints, kOut = n;
  static PE_INLINE void apply(const FloatVec* u, FloatVec* g) { EvaluateTransposed<n>::scaled(u, kScaleA, kScaleB, g); }
};

// T X T^T of the square X that load(i, j) reads, element by element to store(i, j, value).
template <class Transform, class Load, class Store>
PE_INLINE void transform_2d(const Load& load, const Store& store) {
  constexpr int kIn = Transform::kIn, kOut = Transform::kOut;
  FloatVec half[kIn][kOut];
#pragma GCC unroll 6
  for (int i = 0; i < kIn; ++i) {
    FloatVec row[kIn];
#pragma GCC unroll 6
    for (int j = 0; j < kIn; ++j) row[j] = load(i, j);
    Transform::apply(row, half[i]);
  }
#pragma GCC unroll 6
  for (int j = 0; j < kOut; ++j) {
    FloatVec column[kIn], result[kOut];
#pragma GCC unroll 6
    for (int i = 0; i < kIn; ++i) column[i] = half[i][j];
    Transform::apply(column, result);
#pragma GCC unroll 6
    for (int i = 0; i < kOut; ++i) store(i, j, result[i]);
  }
}

// An odd number of cache lines: rows or planes at this distance spread over the sets of the L1 cache.
PE_INLINE int64_t odd_lines(int64_t floats) { return (ceil_div(floats, 16) | 1) * 16; }

// Values of tiles at the points: [kPlanes][tiles][ld].
struct Planes {
  float* data;
  int64_t ld, distance;  // floats between tiles and between planes

  static PE_INLINE int64_t size(int64_t tiles, int64_t channels) {
    return kPlanes * odd_lines(tiles * odd_lines(channels));
  }
  static PE_INLINE Planes make(float* data, int64_t tiles, int64_t channels) {
    return {data, odd_lines(channels), odd_lines(tiles * odd_lines(channels))};
  }
  PE_INLINE float* plane(int64_t i) const { return data + i * distance; }
};

// A channels-last image.
template <class T>
struct Image {
  T* data;
  int64_t N, H, W, C;
};

// The tiles of kSide x kSide outputs that cover an image of outputs, row by row; what sticks out is cut off.
template <int kSide>
struct TileGrid {
  int64_t N, H, W, rows, columns;

  PE_INLINE TileGrid(int64_t images, int64_t height, int64_t width)
      : N(images), H(height), W(width), rows(ceil_div(height, kSide)), columns(ceil_div(width, kSide)) {}
  PE_INLINE int64_t count() const { return N * rows * columns; }

  struct Place {
    int64_t n, h, w;  // the tile's first output
  };
  PE_INLINE Place place(int64_t tile) const {
    return {tile / (rows * columns), tile / columns % rows * kSide, tile % columns * kSide};
  }
};

// The tiles' inputs at the points. The first tile goes to row 0 of `to`.
template <int kSide>
__attribute__((noinline)) void transform_input(const TileGrid<kSide>& grid, Range tiles, const Image<const float>& x,
                                               int64_t pad_h, int64_t pad_w, const Planes& to) {
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const auto place = grid.place(tile);
    const int64_t h = place.h - pad_h, w = place.w - pad_w, corner = ((place.n * x.H + h) * x.W + w) * x.C;
    const bool inside = h >= 0 && w >= 0 && h + kPoints <= x.H && w + kPoints <= x.W;
    float* const values = to.data + (tile - tiles.begin) * to.ld;
    for (int64_t c = 0; c < x.C; c += FloatVec::width) {
      const auto store = [&](int i, int j, FloatVec v)
                             __attribute__((always_inline)) { v.store(values + (i * kPoints + j) * to.distance + c); };
      const int64_t first = corner + c, n = x.C - c;
      if (inside && n >= FloatVec::width)
        transform_2d<InputTransform>(
            [&](int i, int j)
                __attribute__((always_inline)) { return FloatVec::load(x.data + first + (i * x.W + j) * x.C); },
            store);
      else
        transform_2d<InputTransform>(
            [&](int i, int j) __attribute__((always_inline)) {
              const bool padding = h + i < 0 || h + i >= x.H || w + j < 0 || w + j >= x.W;
              return padding ? FloatVec(typename FloatVec::Raw{}) : load_up_to(x.data + first + (i * x.W + j) * x.C, n);
            },
            store);
    }
  }
}

}  // namespace
}  // namespace pe::PE_ISA
