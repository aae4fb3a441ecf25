// Average pooling, over windows of a fixed size and adaptive ones.
#include "cpu/pool2d.h"

namespace pe::PE_ISA {
namespace {

// The windows of one dimension, clipped to the image, and how much each one counts in the divisor.
struct FixedWindows {
  StridedAxis axis;
  int64_t count;
  bool count_include_pad;

  PE_INLINE Span window(int64_t p) const {
    const Span taps = axis.taps(p);
    return {axis.start(p) + taps.begin, axis.start(p) + taps.end};
  }
  PE_INLINE Span covering(int64_t h) const { return axis.covering(h, count); }
  // Padding may count, but not what ceil_mode adds beyond it.
  PE_INLINE int64_t extent(int64_t p) const {
    if (!count_include_pad) return axis.taps(p).length();
    return least(axis.start(p) + axis.kernel, axis.size + axis.pad) - axis.start(p);
  }
};

struct AdaptiveWindows {
  AdaptiveAxis axis;

  PE_INLINE Span window(int64_t p) const { return axis.window(p); }
  PE_INLINE Span covering(int64_t h) const { return axis.covering(h); }
  PE_INLINE int64_t extent(int64_t p) const { return axis.window(p).length(); }
};

template <class Windows>
struct Average {
  Windows vertical, horizontal;
  int64_t divisor;      // > 0: the same for every window
  int64_t common;       // what most windows count
  double common_scale;  // and its reciprocal

  PE_INLINE double scale(int64_t p, int64_t q) const {
    const int64_t by = divisor > 0 ? divisor : vertical.extent(p) * horizontal.extent(q);
    if (by == common) return common_scale;
    return by > 0 ? 1.0 / static_cast<double>(by) : 0.0;
  }
};

Average<FixedWindows> fixed(const Pool2dShape& s) {
  const int64_t common = s.divisor > 0 ? s.divisor : s.kernel_h * s.kernel_w;
  return {{height_axis(s), s.P, s.count_include_pad},
          {width_axis(s), s.Q, s.count_include_pad},
          s.divisor,
          common,
          1.0 / static_cast<double>(common)};
}
Average<AdaptiveWindows> adaptive(const Pool2dShape& s) {
  const int64_t common = most(1, s.H / s.P) * most(1, s.W / s.Q);
  return {{{s.H, s.P}}, {{s.W, s.Q}}, 0, common, 1.0 / static_cast<double>(common)};
}

// ----------------------------------------------------------------------------------------------------------- forward

template <class T>
void forward_2x2(const Pool2dShape& s, const T* x, T* y) {
  const Vec<T> scale(fixed(s).common_scale);
  for_each_2x2<T>(s, [&](int64_t from, int64_t to, int64_t lanes) {
    Vec<T> a, b, c, d;
    load_pairs(x + from, lanes, a, b);
    load_pairs(x + from + s.W, lanes, c, d);
    store_lanes(((a + b) + (c + d)) * scale, y + to, lanes);
  });
}

// The sum of each lane's window; size > 0: it is size x size, all inside the image.
template <int size, class T>
PE_INLINE Vec<T> window_sum(const T* x, int64_t row_step, int64_t column_step, Span r, Span s, int64_t lanes,
                            int64_t lane_stride) {
  if (size > 0) r = s = {0, size};
  Vec<T> sum(0.0);
  for (int64_t i = r.begin; i < r.end; ++i)
    for (int64_t j = s.begin; j < s.end; ++j)
      sum = sum + load_strided(x + i * row_step + j * column_step, lanes, lane_stride);
  return sum;
}

template <class T>
void forward(const Pool2dShape& s, const T* x, T* y) {
  if (is_planar_2x2(s)) return forward_2x2(s, x, y);
  const Average<FixedWindows> average = fixed(s);
  const int64_t pixel = s.channels_last ? s.C : 1, lane_stride = s.channels_last ? 1 : s.stride_w;
  const int64_t square = s.kernel_h == s.kernel_w ? s.kernel_h : 0;
  for_each_run<T>(s, [&](const Run& run) {
    const T* from = x + run.x;
    Vec<T> sum;
    if (square == 2 && run.whole(s))
      sum = window_sum<2>(from, s.W * pixel, pixel, run.r, run.s, run.lanes, lane_stride);
    else if (square == 3 && run.whole(s))
      sum = window_sum<3>(from, s.W * pixel, pixel, run.r, run.s, run.lanes, lane_stride);
    else
      sum = window_sum<0>(from, s.W * pixel, pixel, run.r, run.s, run.lanes, lane_stride);
    store_lanes(sum * average.scale(run.p, run.q), y + run.y, run.lanes);
  });
}

template <class T>
PE_INLINE T sum_of(const T* x, int64_t n) {
  Vec<T> sum(0.0);
  int64_t i = 0;
  for (; i + Vec<T>::width <= n; i += Vec<T>::width) sum = sum + Vec<T>::load(x + i);
  if (i < n) sum = sum + Vec<T>::load_partial(x + i, n - i);
  return horizontal_sum(sum);
}

// Sums are made row by row and then added, which also keeps the rounding of large windows small.
template <class T>
void adaptive_forward(const Pool2dShape& s, const T* x, T* y) {
  const Average<AdaptiveWindows> average = adaptive(s);
  const int64_t planes = s.channels_last ? s.N : s.N * s.C, pixel = s.channels_last ? s.C : 1;
  for_each_row(planes, s.P, ceil_div(s.H, s.P) * s.W * pixel, [&](int64_t plane, int64_t p) {
    const Span h = average.vertical.window(p);
    for (int64_t q = 0; q < s.Q; ++q) {
      const Span w = average.horizontal.window(q);
      const T* from = x + ((plane * s.H + h.begin) * s.W + w.begin) * pixel;
      T* to = y + ((plane * s.P + p) * s.Q + q) * pixel;
      const double scale = average.scale(p, q);
      if (!s.channels_last) {
        T sum = 0;
        if (w.length() == s.W)
          sum = sum_of(from, h.length() * s.W);
        else
          for (int64_t r = 0; r < h.length(); ++r) sum += sum_of(from + r * s.W, w.length());
        *to = sum * static_cast<T>(scale);
        continue;
      }
      for (int64_t c = 0; c < s.C; c += Vec<T>::width) {
        const int64_t lanes = least(Vec<T>::width, s.C - c);
        Vec<T> sum(0.0);
        for (int64_t r = 0; r < h.length(); ++r) {
          Vec<T> row_sum(0.0);
          for (int64_t t = 0; t < w.length(); ++t)
            row_sum = row_sum + load_lanes(from + (r * s.W + t) * s.C + c, lanes);
          sum = sum + row_sum;
        }
        store_lanes(sum * scale, to + c, lanes);
      }
    }
  });
}

// ---------------------------------------------------------------------------------------------------------- backward

// Every element of dx belongs to one window.
template <class T>
void backward_2x2(const Pool2dShape& s, const T* dy, T* dx) {
  const Vec<T> scale(fixed(s).common_scale);
  for_each_2x2<T>(s, [&](int64_t to, int64_t from, int64_t lanes) {
    const Vec<T> d = load_lanes(dy + from, lanes) * scale;
    store_pairs(d, d, dx + to, lanes);
    store_pairs(d, d, dx + to + s.W, lanes);
  });
}

// Each row of dx is cleared and takes its share of the windows that cover it, in their order.
template <class T, class Windows>
void backward(const Pool2dShape& s, const Average<Windows>& average, const T* dy, T* dx) {
  const int64_t planes = s.channels_last ? s.N : s.N * s.C, pixel = s.channels_last ? s.C : 1;
  for_each_row(planes, s.H, s.W * pixel, [&](int64_t plane, int64_t h) {
    T* to = dx + (plane * s.H + h) * s.W * pixel;
    std::memset(to, 0, static_cast<size_t>(s.W * pixel) * sizeof(T));
    const Span rows = average.vertical.covering(h);
    for (int64_t p = rows.begin; p < rows.end; ++p)
      for (int64_t q = 0; q < s.Q; ++q) {
        const Span w = average.horizontal.window(q);
        const double scale = average.scale(p, q);
        const T* from = dy + ((plane * s.P + p) * s.Q + q) * pixel;
        if (!s.channels_last) {
          const T share = *from * static_cast<T>(scale);
          for (int64_t i = w.begin; i < w.end; ++i) to[i] += share;
          continue;
        }
        for (int64_t c = 0; c < s.C; c += Vec<T>::width) {
          const int64_t lanes = least(Vec<T>::width, s.C - c);
          const Vec<T> share = load_lanes(from + c, lanes) * scale;
          for (int64_t i = w.begin; i < w.end; ++i) {
            T* d = to + i * s.C + c;
            store_lanes(load_lanes(d, lanes) + share, d, lanes);
          }
        }
      }
  });
}

template <class T>
void fixed_backward(const Pool2dShape& s, const T* dy, T* dx) {
  if (is_planar_2x2(s) && s.H == 2 * s.P && s.W == 2 * s.Q) return backward_2x2(s, dy, dx);
  backward(s, fixed(s), dy, dx);
}

template <class T>
void adaptive_backward(const Pool2dShape& s, const T* dy, T* dx) {
  backward(s, adaptive(s), dy, dx);
}

}  // namespace

void avg_pool2d(const Pool2dShape& s, DType t, const void* x, void* y) {
  if (t == DType::Float32)
    forward(s, static_cast<const float*>(x), static_cast<float*>(y));
  else
    forward(s, static_cast<const double*>(x), static_cast<double*>(y));
}

void avg_pool2d_backward(const Pool2dShape& s, DType t, const void* dy, void* dx) {
  if (t == DType::Float32)
    fixed_backward(s, static_cast<const float*>(dy), static_cast<float*>(dx));
  else
    fixed_backward(s, static_cast<const double*>(dy), static_cast<double*>(dx));
}

void adaptive_avg_pool2d(const Pool2dShape& s, DType t, const void* x, void* y) {
  if (t == DType::Float32)
    adaptive_forward(s, static_cast<const float*>(x), static_cast<float*>(y));
  else
    adaptive_forward(s, static_cast<const double*>(x), static_cast<double*>(y));
}

void adaptive_avg_pool2d_backward(const Pool2dShape& s, DType t, const void* dy, void* dx) {
  if (t == DType::Float32)
    adaptive_backward(s, static_cast<const float*>(dy), static_cast<float*>(dx));
  else
    adaptive_backward(s, static_cast<const double*>(dy), static_cast<double*>(dx));
}

}  // namespace pe::PE_ISA
