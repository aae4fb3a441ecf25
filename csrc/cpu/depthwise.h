// Depthwise convolution (groups == C == K): a product has one row per group here, so a direct kernel that is vectorized
// over the channels does the work. It serves the forward pass and, with dy as the image, the gradient with respect to
// the input.
#pragma once
#include "cpu/im2col.h"

namespace pe::PE_ISA {
namespace {

constexpr int kDepthwiseTaps = 8;  // taps of a kernel row that share each element of dy

template <class T>
PE_INLINE Vec<T> load_channels(const T* p, int64_t n) {
  return n == Vec<T>::width ? Vec<T>::load(p) : Vec<T>::load_partial(p, n);
}
template <class T>
PE_INLINE void store_channels(Vec<T> v, T* p, int64_t n) {
  n == Vec<T>::width ? v.store(p) : v.store_partial(p, n);
}

// The positions q of which every tap lies inside the image.
template <class T>
PE_INLINE Range inner_positions(const Im2col<T>& image) {
  const int64_t last = image.w.offset + larger(image.w.count - 1, 0) * image.w.offset_step;
  const int64_t begin = image.w.offset >= 0 ? 0 : ceil_div(-image.w.offset, image.step_w);
  const int64_t end = image.W - last <= 0 ? 0 : ceil_div(image.W - last, image.step_w);
  return {smaller(begin, image.Q), clamped(end, smaller(begin, image.Q), image.Q)};
}

// packed[tap][c] of w[c][tap].
template <class T>
void pack_depthwise(const Conv2dShape& s, const T* w, T* packed) {
  const int64_t taps = s.R * s.S;
  parallel_for(1, static_cast<double>(s.C * taps), [&](int64_t) {
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < s.C; ++c) packed[tap * s.C + c] = w[c * taps + tap];
  });
}

// kCount outputs from position `at` on, of the n channels from c on; they share each weight. kInner: no tap leaves the
// image sideways.
template <class T, int kCount, bool kInner>
PE_INLINE void depthwise_outputs(const Im2col<T>& image, int64_t kernel_width, const T* weights, const Position& at,
                                 int64_t c, int64_t n, Vec<T> first, T* y, int64_t y_step) {
  Vec<T> acc[kCount];
#pragma GCC unroll 8
  for (int b = 0; b < kCount; ++b) acc[b] = first;
  for (int64_t i = 0; i < image.h.count; ++i) {
    const int64_t row = at.p * image.step_h + image.h.offset + i * image.h.offset_step;
    if (row < 0 || row >= image.H) continue;
    const T* const x_row = image.x + (at.n * image.H + row) * image.W * image.C + c;
    for (int64_t j = 0; j < image.w.count; ++j) {
      const int64_t column = at.q * image.step_w + image.w.offset + j * image.w.offset_step;
      const int64_t tap = image.h.index(i) * kernel_width + image.w.index(j);
      const Vec<T> weight = load_channels(weights + tap * image.C + c, n);
#pragma GCC unroll 8
      for (int b = 0; b < kCount; ++b) {
        const int64_t from = column + b * image.step_w;
        if (kInner || (from >= 0 && from < image.W))
          acc[b] = fma(load_channels(x_row + from * image.C, n), weight, acc[b]);
      }
    }
  }
#pragma GCC unroll 8
  for (int b = 0; b < kCount; ++b) {
    const Vec<T> sum = acc[b];
    store_channels(sum, y + b * y_step, n);
  }
}

// A row of outputs, kCount at a time; the last ones overlap those before them rather than being done one by one.
template <class T, int kCount>
__attribute__((noinline)) void depthwise_row_outputs(const Im2col<T>& image, Range inner, int64_t kernel_width,
                                                     const T* weights, Position at, int64_t c, Vec<T> first, T* y,
                                                     int64_t y_step) {
  constexpr int kWidth = Vec<T>::width;
  const int64_t n = smaller(kWidth, image.C - c);
  for (int64_t q = 0; q < image.Q; q += kCount) {
    at.q = smaller(q, image.Q - kCount);
    T* const to = y + at.q * y_step;
    if (n < kWidth)
      depthwise_outputs<T, kCount, false>(image, kernel_width, weights, at, c, n, first, to, y_step);
    else if (at.q < inner.begin || at.q + kCount > inner.end)
      depthwise_outputs<T, kCount, false>(image, kernel_width, weights, at, c, kWidth, first, to, y_step);
    else
      depthwise_outputs<T, kCount, true>(image, kernel_width, weights, at, c, kWidth, first, to, y_step);
  }
}

// y at every grid position = bias + the taps' products; weights are [tap][C].
template <class T>
void depthwise_convolve(const Im2col<T>& image, int64_t kernel_width, const T* weights, const Target<T>& to) {
  const Range inner = inner_positions(image);
  const int64_t rows = image.N * image.P, pieces = smaller(rows, 64), y_step = to.step_w * to.C;
  const double work =
      static_cast<double>(rows * image.Q * image.C) * static_cast<double>(image.h.count * image.w.count + 1);
  parallel_for(pieces, 2 * nanoseconds<T>(work), [&](int64_t piece) {
    const Range range = share(rows, pieces, piece);
    for (int64_t row = range.begin; row < range.end; ++row)
      for (int64_t c = 0; c < image.C; c += Vec<T>::width) {
        const Vec<T> first =
            to.bias ? load_channels(to.bias + c, smaller(Vec<T>::width, image.C - c)) : Vec<T>(typename Vec<T>::Raw{});
        const Position at = {row / image.P, row % image.P, 0};
        T* const y = to.y + to.row(at) * to.C + c;
        if (image.Q >= 8)
          depthwise_row_outputs<T, 8>(image, inner, kernel_width, weights, at, c, first, y, y_step);
        else if (image.Q >= 4)
          depthwise_row_outputs<T, 4>(image, inner, kernel_width, weights, at, c, first, y, y_step);
        else
          depthwise_row_outputs<T, 1>(image, inner, kernel_width, weights, at, c, first, y, y_step);
      }
  });
}

// sums[tap][c] += dy * x over one row of outputs, for kTaps taps of kernel row i from j on.
template <class T, int kTaps>
__attribute__((noinline)) void depthwise_row_gradient(const Im2col<T>& image, Range inner, const T* x_row, const T* dy,
                                                      int64_t j, int64_t n, T* sums) {
  Vec<T> acc[kTaps];
#pragma GCC unroll 8
  for (int t = 0; t < kTaps; ++t) acc[t] = load_channels(sums + t * image.C, n);
  const int64_t tap_step = image.w.offset_step * image.C;
  for (int64_t q = 0; q < image.Q; ++q) {
    const Vec<T> gradient = load_channels(dy + q * image.C, n);
    const int64_t column = q * image.step_w + image.w.offset + j * image.w.offset_step;
    if (q >= inner.begin && q < inner.end) {
      const T* const x = x_row + column * image.C;
#pragma GCC unroll 8
      for (int t = 0; t < kTaps; ++t) acc[t] = fma(load_channels(x + t * tap_step, n), gradient, acc[t]);
    } else {
#pragma GCC unroll 8
      for (int t = 0; t < kTaps; ++t) {
        const int64_t at = column + t * image.w.offset_step;
        if (at >= 0 && at < image.W) acc[t] = fma(load_channels(x_row + at * image.C, n), gradient, acc[t]);
      }
    }
  }
#pragma GCC unroll 8
  for (int t = 0; t < kTaps; ++t) {
    const Vec<T> sum = acc[t];
    store_channels(sum, sums + t * image.C, n);
  }
}

template <class T, int... kIndex>
PE_INLINE void depthwise_row(const Im2col<T>& image, Range inner, const T* x_row, const T* dy, int64_t j, int64_t taps,
                             int64_t n, T* sums, std::integer_sequence<int, kIndex...>) {
  using Row = void (*)(const Im2col<T>&, Range, const T*, const T*, int64_t, int64_t, T*);
  static constexpr Row rows[] = {depthwise_row_gradient<T, kIndex + 1>...};
  rows[taps - 1](image, inner, x_row, dy, j, n, sums);
}

template <class T>
void depthwise_backward_weight(const Conv2dShape& s, const T* x, const T* dy, T* dw) {
  const Im2col<T> image = forward_im2col(s, x);
  const Range inner = inner_positions(image);
  const int64_t rows = s.N * s.P, taps = s.R * s.S, size = taps * s.C, slices = clamped(rows / 16, 1, 32);
  T* const partial = scratch<T>(kScratchPartial, slices * size);
  const double work = static_cast<double>(rows * s.Q) * static_cast<double>(size);
  parallel_for(slices, 2 * nanoseconds<T>(work), [&](int64_t slice) {
    T* const sums = partial + slice * size;
    zero_run(sums, size);
    const Range range = share(rows, slices, slice);
    for (int64_t row = range.begin; row < range.end; ++row)
      for (int64_t i = 0; i < s.R; ++i) {
        const int64_t h = row % s.P * s.stride_h - s.pad_h + i * s.dilation_h;
        if (h < 0 || h >= s.H) continue;
        const T* const x_row = x + (row / s.P * s.H + h) * s.W * s.C;
        for (int64_t c = 0; c < s.C; c += Vec<T>::width)
          for (int64_t j = 0; j < s.S; j += kDepthwiseTaps)
            depthwise_row(image, inner, x_row + c, dy + row * s.Q * s.C + c, j, smaller(kDepthwiseTaps, s.S - j),
                          smaller(Vec<T>::width, s.C - c), sums + (i * s.S + j) * s.C + c,
                          std::make_integer_sequence<int, kDepthwiseTaps>());
      }
  });
  parallel_for(1, static_cast<double>(slices * size), [&](int64_t) {
    for (int64_t tap = 0; tap < taps; ++tap)
      for (int64_t c = 0; c < s.C; ++c) {
        T sum = 0;
        for (int64_t slice = 0; slice < slices; ++slice) sum += partial[slice * size + tap * s.C + c];
        dw[c * taps + tap] = sum;
      }
  });
}

}  // namespace
}  // namespace pe::PE_ISA
