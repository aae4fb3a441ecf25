// Max pooling, over windows of a fixed size and adaptive ones. The first of equal values in row-major window order
// wins; NaN wins over every number. The position found is kept for the gradient.
#include "cpu/pool2d.h"

namespace pe::PE_ISA {
namespace {

template <class T>
struct Largest {
  Vec<T> value;
  Positions<T> position;  // r * kernel_w + s

  PE_INLINE void start(int64_t first) {
    value = Vec<T>(-__builtin_inf());
    position = Positions<T>{} + static_cast<decltype(position[0] + 0)>(first);
  }
  PE_INLINE void offer(Vec<T> v, int64_t at) {
    const Mask<T> wins = (v > value) | (v != v);
    value = select(wins, v, value);
    position = wins.m ? Positions<T>{} + static_cast<decltype(position[0] + 0)>(at) : position;
  }
};

// The largest of each lane's window; size > 0: it is size x size, all inside the image.
template <int size, class T>
PE_INLINE Largest<T> largest_in_window(const T* x, int64_t row_step, int64_t column_step, Span r, Span s,
                                       int64_t kernel_w, int64_t lanes, int64_t lane_stride) {
  if (size > 0) r = s = {0, size}, kernel_w = size;
  Largest<T> best;
  best.start(r.begin * kernel_w + s.begin);
  for (int64_t i = r.begin; i < r.end; ++i)
    for (int64_t j = s.begin; j < s.end; ++j)
      best.offer(load_strided(x + i * row_step + j * column_step, lanes, lane_stride), i * kernel_w + j);
  return best;
}

template <class T>
void store_plane_positions(const Pool2dShape& s, const Run& run, Positions<T> position, int32_t* argmax) {
  const StridedAxis vertical = height_axis(s), horizontal = width_axis(s);
  for (int64_t i = 0; i < run.lanes; ++i) {
    const int64_t tap = position[i], q = s.channels_last ? run.q : run.q + i;
    const int64_t h = vertical.start(run.p) + tap / s.kernel_w * s.dilation_h;
    const int64_t w = horizontal.start(q) + tap % s.kernel_w * s.dilation_w;
    argmax[i] = static_cast<int32_t>(h * s.W + w);
  }
}

template <class T>
void forward_2x2(const Pool2dShape& s, const T* x, T* y, uint8_t* argmax) {
  for_each_2x2<T>(s, [&](int64_t from, int64_t to, int64_t lanes) {
    Vec<T> a, b, c, d;
    load_pairs(x + from, lanes, a, b);
    load_pairs(x + from + s.W, lanes, c, d);
    Largest<T> best;
    best.start(0);
    best.offer(a, 0);
    best.offer(b, 1);
    best.offer(c, 2);
    best.offer(d, 3);
    store_lanes(best.value, y + to, lanes);
    if (argmax != nullptr) store_positions<T>(best.position, argmax + to, lanes);
  });
}

template <class T>
void forward(const Pool2dShape& s, const T* x, T* y, void* argmax) {
  const int64_t pixel = s.channels_last ? s.C : 1, lane_stride = s.channels_last ? 1 : s.stride_w;
  const int64_t row_step = s.dilation_h * s.W * pixel, column_step = s.dilation_w * pixel;
  const int64_t square = s.kernel_h == s.kernel_w ? s.kernel_h : 0;
  if (is_planar_2x2(s) && (argmax == nullptr || s.argmax_bytes == 1))
    return forward_2x2(s, x, y, static_cast<uint8_t*>(argmax));
  for_each_run<T>(s, [&](const Run& run) {
    const T* from = x + run.x;
    Largest<T> best;
    if (square == 2 && run.whole(s))
      best = largest_in_window<2>(from, row_step, column_step, run.r, run.s, 2, run.lanes, lane_stride);
    else if (square == 3 && run.whole(s))
      best = largest_in_window<3>(from, row_step, column_step, run.r, run.s, 3, run.lanes, lane_stride);
    else
      best = largest_in_window<0>(from, row_step, column_step, run.r, run.s, s.kernel_w, run.lanes, lane_stride);
    store_lanes(best.value, y + run.y, run.lanes);
    if (argmax == nullptr) return;
    if (s.argmax_bytes == 1)
      store_positions<T>(best.position, static_cast<uint8_t*>(argmax) + run.y, run.lanes);
    else
      store_plane_positions<T>(s, run, best.position, static_cast<int32_t*>(argmax) + run.y);
  });
}

// ---------------------------------------------------------------------------------------------------------- backward

// Every element of dx belongs to one window.
template <class T>
void backward_2x2(const Pool2dShape& s, const T* dy, const uint8_t* argmax, T* dx) {
  for_each_2x2<T>(s, [&](int64_t to, int64_t from, int64_t lanes) {
    const Vec<T> d = load_lanes(dy + from, lanes), zero(0.0);
    const Positions<T> position = load_positions<T>(argmax + from, lanes);
    store_pairs(select(Mask<T>{position == 0}, d, zero), select(Mask<T>{position == 1}, d, zero), dx + to, lanes);
    store_pairs(select(Mask<T>{position == 2}, d, zero), select(Mask<T>{position == 3}, d, zero), dx + to + s.W, lanes);
  });
}

// Channels-last, byte positions: every pixel of dx asks the windows that cover it.
template <class T>
void backward_gather(const Pool2dShape& s, const T* dy, const uint8_t* argmax, T* dx) {
  constexpr int64_t width = Vec<T>::width;
  const StridedAxis vertical = height_axis(s), horizontal = width_axis(s);
  for_each_row(s.N, s.H, s.W * s.C, [&](int64_t n, int64_t h) {
    const Span rows = vertical.covering(h, s.P);
    for (int64_t w = 0; w < s.W; ++w) {
      // At most one window per tap, and bytes count at most 256 taps.
      struct {
        int64_t output;
        int tap;
      } windows[256];
      int count = 0;
      const Span columns = horizontal.covering(w, s.Q);
      for (int64_t p = rows.begin; p < rows.end; ++p)
        for (int64_t q = columns.begin; q < columns.end; ++q) {
          int64_t r = h - vertical.start(p), t = w - horizontal.start(q);
          if (s.dilation_h != 1 || s.dilation_w != 1) {
            if (r % s.dilation_h != 0 || t % s.dilation_w != 0) continue;
            r /= s.dilation_h, t /= s.dilation_w;
          }
          windows[count++] = {((n * s.P + p) * s.Q + q) * s.C, static_cast<int>(r * s.kernel_w + t)};
        }
      T* to = dx + ((n * s.H + h) * s.W + w) * s.C;
      for (int64_t c = 0; c < s.C; c += width) {
        const int64_t lanes = least(width, s.C - c);
        Vec<T> sum(0.0);
        for (int i = 0; i < count; ++i) {
          const int64_t from = windows[i].output + c;
          const Mask<T> here = {load_positions<T>(argmax + from, lanes) == windows[i].tap};
          sum = sum + select(here, load_lanes(dy + from, lanes), 0.0);
        }
        store_lanes(sum, to + c, lanes);
      }
    }
  });
}

// Everything else: each plane (or, channels-last, each image) is cleared and its windows' gradients added in order.
// target(i, p, q) is the position in the plane that output i, of window (p, q), came from.
template <class T, class Target>
void backward_scatter(const Pool2dShape& s, const T* dy, T* dx, const Target& target) {
  const int64_t planes = s.channels_last ? s.N : s.N * s.C, pixel = s.channels_last ? s.C : 1;
  const int64_t plane_size = s.H * s.W * pixel;
  for_each_row(planes, 1, plane_size, [&](int64_t plane, int64_t) {
    T* to = dx + plane * plane_size;
    std::memset(to, 0, static_cast<size_t>(plane_size) * sizeof(T));
    int64_t i = plane * s.P * s.Q * pixel;
    for (int64_t p = 0; p < s.P; ++p)
      for (int64_t q = 0; q < s.Q; ++q)
        for (int64_t c = 0; c < pixel; ++c, ++i) to[target(i, p, q) * pixel + c] += dy[i];
  });
}

template <class T>
void backward_plane_positions(const Pool2dShape& s, const T* dy, const int32_t* argmax, T* dx) {
  backward_scatter(s, dy, dx, [&](int64_t i, int64_t, int64_t) { return static_cast<int64_t>(argmax[i]); });
}

template <class T>
void backward(const Pool2dShape& s, const T* dy, const void* argmax, T* dx) {
  if (s.argmax_bytes == 4) return backward_plane_positions(s, dy, static_cast<const int32_t*>(argmax), dx);
  const uint8_t* bytes = static_cast<const uint8_t*>(argmax);
  if (s.channels_last) return backward_gather(s, dy, bytes, dx);
  if (is_planar_2x2(s) && s.H == 2 * s.P && s.W == 2 * s.Q) return backward_2x2(s, dy, bytes, dx);
  int64_t offset[256];
  for (int64_t tap = 0; tap < 256; ++tap)
    offset[tap] = tap / s.kernel_w * s.dilation_h * s.W + tap % s.kernel_w * s.dilation_w;
  const StridedAxis vertical = height_axis(s), horizontal = width_axis(s);
  backward_scatter(s, dy, dx, [&](int64_t i, int64_t p, int64_t q) {
    return vertical.start(p) * s.W + horizontal.start(q) + offset[bytes[i]];
  });
}

// ---------------------------------------------------------------------------------------------------------- adaptive

template <class T>
void adaptive_forward(const Pool2dShape& s, const T* x, T* y, int32_t* argmax) {
  const AdaptiveAxis vertical{s.H, s.P}, horizontal{s.W, s.Q};
  const int64_t planes = s.channels_last ? s.N : s.N * s.C, pixel = s.channels_last ? s.C : 1;
  for_each_row(planes, s.P, ceil_div(s.H, s.P) * s.W * pixel, [&](int64_t plane, int64_t p) {
    const Span h = vertical.window(p);
    for (int64_t q = 0; q < s.Q; ++q) {
      const Span w = horizontal.window(q);
      const T* from = x + ((plane * s.H + h.begin) * s.W + w.begin) * pixel;
      const int64_t to = ((plane * s.P + p) * s.Q + q) * pixel;
      for (int64_t c = 0; c < pixel; c += Vec<T>::width) {
        const int64_t lanes = least(Vec<T>::width, pixel - c);
        const Largest<T> best =
            largest_in_window<0>(from + c, s.W * pixel, pixel, {0, h.length()}, {0, w.length()}, w.length(), lanes, 1);
        store_lanes(best.value, y + to + c, lanes);
        if (argmax == nullptr) continue;
        for (int64_t i = 0; i < lanes; ++i) {
          const int64_t tap = best.position[i];
          argmax[to + c + i] = static_cast<int32_t>((h.begin + tap / w.length()) * s.W + w.begin + tap % w.length());
        }
      }
    }
  });
}

}  // namespace

void max_pool2d(const Pool2dShape& s, DType t, const void* x, void* y, void* argmax) {
  if (t == DType::Float32)
    forward(s, static_cast<const float*>(x), static_cast<float*>(y), argmax);
  else
    forward(s, static_cast<const double*>(x), static_cast<double*>(y), argmax);
}

void max_pool2d_backward(const Pool2dShape& s, DType t, const void* dy, const void* argmax, void* dx) {
  if (t == DType::Float32)
    backward(s, static_cast<const float*>(dy), argmax, static_cast<float*>(dx));
  else
    backward(s, static_cast<const double*>(dy), argmax, static_cast<double*>(dx));
}

void adaptive_max_pool2d(const Pool2dShape& s, DType t, const void* x, void* y, void* argmax) {
  if (t == DType::Float32)
    adaptive_forward(s, static_cast<const float*>(x), static_cast<float*>(y), static_cast<int32_t*>(argmax));
  else
    adaptive_forward(s, static_cast<const double*>(x), static_cast<double*>(y), static_cast<int32_t*>(argmax));
}

void adaptive_max_pool2d_backward(const Pool2dShape& s, DType t, const void* dy, const void* argmax, void* dx) {
  if (t == DType::Float32)
    backward_plane_positions(s, static_cast<const float*>(dy), static_cast<const int32_t*>(argmax),
                             static_cast<float*>(dx));
  else
    backward_plane_positions(s, static_cast<const double*>(dy), static_cast<const int32_t*>(argmax),
                             static_cast<double*>(dx));
}

}  // namespace pe::PE_ISA
