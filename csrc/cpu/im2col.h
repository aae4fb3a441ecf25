// The columns of an image as an operand of the matrix product: row = a position of the output grid, column = (r, s, c).
// They are copied block by block into the packed operands; positions outside the image read as zeros.
#pragma once
#include "cpu/gemm_kernel.h"
#include "kernels/shapes.h"

namespace pe::PE_ISA {
namespace {

// The kernel's taps along one axis that meet a grid position: tap i is kernel index first + i * step and reads the
// image at the position's start + offset + i * offset_step.
struct TapAxis {
  int64_t count, first, step, offset, offset_step;
  PE_INLINE int64_t index(int64_t i) const { return first + i * step; }
};

struct Position {
  int64_t n, p, q;
};

// Where the results of a grid go: to the pixels (p * step_h + h, q * step_w + w) of the image y.
template <class T>
struct Target {
  T* y;
  int64_t H, W, C, step_h, step_w, h, w;
  const T* bias;  // C elements, or null

  PE_INLINE int64_t row(const Position& at) const { return (at.n * H + at.p * step_h + h) * W + at.q * step_w + w; }
};

template <class T>
struct Im2col {
  const T* x;
  int64_t N, H, W, C;            // the image; C is the distance between pixels
  int64_t P, Q, step_h, step_w;  // the grid: position (p, q) starts at (p * step_h, q * step_w)
  TapAxis h, w;
  int64_t channels;  // that are read of each pixel
  // Taps side by side whose pixels touch in memory are copied as one run.
  int64_t run, runs_per_row, taps_per_run;

  PE_INLINE int64_t depth() const { return h.count * w.count * channels; }
  PE_INLINE int64_t rows() const { return N * P * Q; }
  PE_INLINE bool is_matrix() const {  // a 1x1 kernel, stride 1: the columns are the pixels
    return h.count == 1 && w.count == 1 && h.offset == 0 && w.offset == 0 && step_h == 1 && step_w == 1 && P == H &&
           Q == W;
  }

  PE_INLINE Position position(int64_t row) const { return {row / (P * Q), row / Q % P, row % Q}; }
  PE_INLINE void advance(Position& at) const {
    if (++at.q < Q) return;
    at.q = 0;
    if (++at.p < P) return;
    at.p = 0;
    ++at.n;
  }

  // A range of columns as the run it starts in (row i of the kernel, run j of that row) and the offset in it.
  struct Span {
    int64_t i, j, offset, count;
  };
  PE_INLINE Span span(Range k) const {
    const int64_t index = k.begin / run;
    return {index / runs_per_row, index % runs_per_row, k.begin % run, k.size()};
  }

  PE_INLINE void gather(const Position& at, const Span& span, T* to) const {
    int64_t i = span.i, j = span.j, offset = span.offset;
    const int64_t h0 = at.p * step_h + h.offset, w0 = at.q * step_w + w.offset;
    for (int64_t left = span.count; left > 0;) {
      const int64_t n = smaller(run - offset, left);
      const int64_t row = h0 + i * h.offset_step, column = w0 + j * w.offset_step;
      if (row < 0 || row >= H) {
        zero_run(to, n);
      } else {
        const int64_t from = ((at.n * H + row) * W + column) * C + offset;
        if (column >= 0 && column + taps_per_run <= W) {
          copy_run(to, x + from, n);
        } else {  // the part of the run that lies inside the image
          const int64_t begin = clamped(-column * channels - offset, 0, n);
          const int64_t end = clamped((W - column) * channels - offset, begin, n);
          zero_run(to, begin);
          if (begin < end) copy_run(to + begin, x + from + begin, end - begin);
          zero_run(to + end, n - end);
        }
      }
      to += n;
      left -= n;
      offset = 0;
      if (++j == runs_per_row) j = 0, ++i;
    }
  }
};

template <class T>
PE_INLINE Im2col<T> make_im2col(const T* x, int64_t N, int64_t H, int64_t W, int64_t C, int64_t P, int64_t Q,
                                int64_t step_h, int64_t step_w, TapAxis h, TapAxis w, int64_t channels) {
  const int64_t taps_per_run = channels == C && w.offset_step == 1 ? larger(w.count, 1) : 1;
  Im2col<T> image = {x, N, H, W, C, P, Q, step_h, step_w, h, w, channels, 1, 1, taps_per_run};
  image.run = larger(taps_per_run * channels, 1);
  image.runs_per_row = larger(w.count / taps_per_run, 1);
  return image;
}

template <class T>
PE_INLINE Im2col<T> forward_im2col(const Conv2dShape& s, const T* x) {
  return make_im2col(x, s.N, s.H, s.W, s.C, s.P, s.Q, s.stride_h, s.stride_w, {s.R, 0, 1, -s.pad_h, s.dilation_h},
                     {s.S, 0, 1, -s.pad_w, s.dilation_w}, s.C / s.groups);
}

// The taps r that input positions phase, phase + stride, ... meet: those where phase + pad - r * dilation is a multiple
// of stride. They are listed from the largest r down, so that the positions in dy ascend.
PE_INLINE TapAxis phase_taps(int64_t taps, int64_t stride, int64_t pad, int64_t dilation, int64_t phase) {
  TapAxis axis = {0, 0, 0, 0, 0};
  for (int64_t r = taps - 1; r >= 0; --r) {
    if ((phase + pad - r * dilation) % stride != 0) continue;
    const int64_t offset = (phase + pad - r * dilation) / stride;
    if (axis.count == 0) axis.first = r, axis.offset = offset;
    if (axis.count == 1) axis.step = r - axis.first, axis.offset_step = offset - axis.offset;
    ++axis.count;
  }
  return axis;
}

// dy as the image for the input positions (phase_h + i * stride_h, phase_w + j * stride_w).
template <class T>
PE_INLINE Im2col<T> backward_im2col(const Conv2dShape& s, const T* dy, int64_t phase_h, int64_t phase_w) {
  return make_im2col(dy, s.N, s.P, s.Q, s.K, ceil_div(s.H - phase_h, s.stride_h), ceil_div(s.W - phase_w, s.stride_w),
                     1, 1, phase_taps(s.R, s.stride_h, s.pad_h, s.dilation_h, phase_h),
                     phase_taps(s.S, s.stride_w, s.pad_w, s.dilation_w, phase_w), s.K / s.groups);
}

template <class T>
struct Im2colA {
  static constexpr Layout kLayout = Layout::kRows;
  Im2col<T> columns;

  bool direct() const { return columns.is_matrix() && !aliases<T>(columns.C); }
  int64_t buffer_size(int64_t rows, int64_t k) const { return direct() ? 0 : rows * padded_stride<T>(k); }
  BlockA<T> block(Range m, Range k, T* buffer) const {
    if (direct()) return {columns.x + m.begin * columns.C + k.begin, columns.C, columns.C, 0};
    const int64_t stride = padded_stride<T>(k.size());
    const auto span = columns.span(k);
    Position at = columns.position(m.begin);
    for (int64_t i = 0; i < m.size(); ++i, columns.advance(at)) columns.gather(at, span, buffer + i * stride);
    return {buffer, stride, stride, 0};
  }
};

// Panels whose rows are positions (the sum over positions gives the weight gradient).
template <class T>
struct Im2colB {
  static constexpr bool kBuffer = true;
  Im2col<T> columns;

  PanelB<T> panel(int64_t index, Range positions, T* buffer) const {
    if (columns.is_matrix())
      return MatrixB<T>{columns.x, columns.C, columns.channels, false, false}.panel(index, positions, buffer);
    const int64_t first = index * kPanel<T>, n = smaller(kPanel<T>, columns.depth() - first);
    const auto span = columns.span({first, first + n});
    const bool one_run = n == kPanel<T> && span.offset + n <= columns.run;
    const int64_t row = columns.h.offset + span.i * columns.h.offset_step;
    const int64_t column = columns.w.offset + span.j * columns.w.offset_step, last = columns.W - columns.taps_per_run;
    Position at = columns.position(positions.begin);
    for (int64_t i = 0; i < positions.size(); ++i, columns.advance(at)) {
      T* const to = buffer + i * kPanel<T>;
      const int64_t h = at.p * columns.step_h + row, w = at.q * columns.step_w + column;
      if (one_run && h >= 0 && h < columns.H && w >= 0 && w <= last) {
        copy_panel_row(to, columns.x + ((at.n * columns.H + h) * columns.W + w) * columns.C + span.offset, kPanel<T>);
        continue;
      }
      columns.gather(at, span, to);
      zero_run(to + n, kPanel<T> - n);
    }
    return {buffer, kPanel<T>};
  }
};

}  // namespace
}  // namespace pe::PE_ISA
