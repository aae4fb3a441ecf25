// Depthwise convolution (groups == C == K): every channel has a filter of its own, so a matrix product would have one
// row; direct kernels, vectorized over the channels, do the work. They take one register's width of channels at a time,
// copied out of the image together with its zero padding (a "slice": rows of columns of one register each).
// Neighbouring pixels are then neighbours in memory, whatever C is, and no tap needs a bounds check. Along a row the
// kernel's window slides over registers: a pixel is loaded once for all the outputs that it meets.
//
// The convolution serves the forward pass and, with dy as the image, the gradient with respect to the input.
#pragma once
#include "cpu/im2col.h"

namespace pe::PE_ISA {
namespace {

constexpr int kTapsAtOnce = 7;     // taps of a kernel row that stay in registers
constexpr int kOutputsAtOnce = 8;  // outputs of a row
constexpr int64_t kSliceBytes = 256 << 10;

// Columns from `offset` on of image rows: zeros outside, and in the lanes behind the last of `lanes` channels.
template <class T>
PE_INLINE void copy_slice(const T* x, int64_t W, int64_t C, int64_t lanes, int64_t rows, int64_t columns,
                          int64_t offset, T* to) {
  constexpr int64_t kWidth = Vec<T>::width;
  const int64_t begin = clamped(-offset, 0, columns), end = clamped(W - offset, begin, columns);
  for (int64_t row = 0; row < rows; ++row, x += W * C, to += columns * kWidth) {
    zero_run(to, begin * kWidth);
    const T* const from = x + offset * C;
    if (lanes >= kWidth) {
      for (int64_t i = begin; i < end; ++i) Vec<T>::load(from + i * C).store(to + i * kWidth);
    } else {
      for (int64_t i = begin; i < end; ++i) Vec<T>::load_partial(from + i * C, lanes).store(to + i * kWidth);
    }
    zero_run(to + end * kWidth, (columns - end) * kWidth);
  }
}

// packed[block of channels][tap][channel] of w[channel][tap].
template <class T>
PE_INLINE int64_t packed_depthwise_size(const Conv2dShape& s) {
  return ceil_div(s.C, Vec<T>::width) * Vec<T>::width * s.R * s.S;
}
template <class T>
void pack_depthwise(const Conv2dShape& s, const T* w, T* packed) {
  constexpr int64_t kWidth = Vec<T>::width;
  const int64_t taps = s.R * s.S;
  parallel_for(ceil_div(s.C, kWidth), static_cast<double>(s.C * taps), [&](int64_t block) {
    T* const to = packed + block * taps * kWidth;
    for (int64_t tap = 0; tap < taps; tap += kWidth)
      transpose_block(w + block * kWidth * taps + tap, taps, smaller(kWidth, s.C - block * kWidth),
                      smaller(kWidth, taps - tap),
                      [&](int i) __attribute__((always_inline)) { return to + (tap + i) * kWidth; });
  });
}

// Taps that are side by side are done up to kTapsAtOnce together; with gaps between them, one by one.
template <class T>
PE_INLINE int64_t tap_groups(const Im2col<T>& image) {
  const bool side_by_side = image.w.offset_step == 1 && image.step_w <= 2;
  return side_by_side ? ceil_div(image.w.count, kTapsAtOnce) : image.w.count;
}

// The table entry for `taps` taps, side by side, and outputs `step` columns apart.
template <class Function, class Single, class Step1, class Step2>
PE_INLINE Function for_taps(int64_t taps, int64_t step, Single single, const Step1& step1, const Step2& step2) {
  return taps <= 1 ? single : step == 1 ? step1[taps - 2] : step2[taps - 2];
}
using SeveralTaps = std::make_integer_sequence<int, kTapsAtOnce - 1>;

// Columns that `count` outputs meet.
constexpr int columns_of(int count, int taps, int step) { return (count - 1) * step + taps; }

// ---- the convolution

// A row of outputs, and the taps of `rows` kernel rows that reach it.
template <class T>
struct DepthwiseRow {
  const T* x;           // the slice, where the first output meets the first tap
  int64_t x_row, step;  // distances between the rows of taps; columns between outputs
  Range inside;         // the columns from there that lie inside the image
  const T* w;
  int64_t w_row, w_tap, rows;
  T* y;
  int64_t y_step, outputs, lanes;
  const T* bias;    // or null
  bool accumulate;  // add to y
};

// kCount outputs, of which `outputs` exist. kStep 0: any distance between them. kEdge: only the columns `inside` count.
template <class T, int kTaps, int kStep, int kCount, bool kEdge>
PE_INLINE void depthwise_outputs(const DepthwiseRow<T>& row, const T* x, Range inside, T* y, int64_t outputs) {
  constexpr int kWidth = Vec<T>::width, kColumns = columns_of(kCount, kTaps, kStep);
  Vec<T> acc[kCount];
  const Vec<T> first = row.bias ? load_up_to(row.bias, row.lanes) : Vec<T>(typename Vec<T>::Raw{});
#pragma GCC unroll 8
  for (int b = 0; b < kCount; ++b) acc[b] = first;
  if (row.accumulate) {
#pragma GCC unroll 8
    for (int b = 0; b < kCount; ++b)
      if (b < outputs) acc[b] = load_up_to(y + b * row.y_step, row.lanes);
  }
  const T* w = row.w;
  for (int64_t i = row.rows; i > 0; --i, x += row.x_row, w += row.w_row) {
    Vec<T> weight[kTaps];
#pragma GCC unroll 8
    for (int k = 0; k < kTaps; ++k) weight[k] = Vec<T>::load(w + k * row.w_tap);
    if constexpr (kStep == 0) {
#pragma GCC unroll 8
      for (int b = 0; b < kCount; ++b) acc[b] = fma(Vec<T>::load(x + b * row.step * kWidth), weight[0], acc[b]);
    } else {
#pragma GCC unroll 32
      for (int j = 0; j < kColumns; ++j) {
        if (kEdge && (j < inside.begin || j >= inside.end)) continue;
        const Vec<T> v = Vec<T>::load(x + j * kWidth);
#pragma GCC unroll 8
        for (int k = 0; k < kTaps; ++k) {
          const int b = (j - k) / kStep;
          if (j >= k && b * kStep == j - k && b < kCount) acc[b] = fma(v, weight[k], acc[b]);
        }
      }
    }
  }
#pragma GCC unroll 8
  for (int b = 0; b < kCount; ++b) {
    const Vec<T> sum = acc[b];  // a copy: partial stores may take the address
    if (b < outputs) store_up_to(y + b * row.y_step, row.lanes, sum);
  }
}

template <class T, int kTaps, int kStep, int kCount>
PE_INLINE void depthwise_outputs(const DepthwiseRow<T>& row, int64_t q) {
  const int64_t column = q * (kStep ? kStep : row.step), columns = columns_of(kCount, kTaps, kStep);
  const Range inside = {row.inside.begin - column, row.inside.end - column};
  const T* const x = row.x + column * Vec<T>::width;
  T* const y = row.y + q * row.y_step;
  // Where the image ends, the zeros beside it are skipped: they are most of what a large kernel meets in a small image.
  if (kStep > 0 && (inside.begin > 0 || inside.end < columns))
    depthwise_outputs<T, kTaps, kStep, kCount, (kStep > 0)>(row, x, inside, y, row.outputs - q);
  else
    depthwise_outputs<T, kTaps, kStep, kCount, false>(row, x, inside, y, row.outputs - q);
}

template <class T, int kTaps, int kStep>
__attribute__((noinline)) void depthwise_row(const DepthwiseRow<T>& row) {
  for (int64_t q = 0; q < row.outputs; q += kOutputsAtOnce) {
    if (row.outputs - q > kOutputsAtOnce / 2)
      depthwise_outputs<T, kTaps, kStep, kOutputsAtOnce>(row, q);
    else
      depthwise_outputs<T, kTaps, kStep, kOutputsAtOnce / 2>(row, q);
  }
}

template <class T>
using DepthwiseRowFunction = void (*)(const DepthwiseRow<T>&);

template <class T, int... kIndex>
PE_INLINE DepthwiseRowFunction<T> depthwise_row_function(int64_t taps, int64_t step,
                                                         std::integer_sequence<int, kIndex...>) {
  static constexpr DepthwiseRowFunction<T> step1[] = {depthwise_row<T, kIndex + 2, 1>...};
  static constexpr DepthwiseRowFunction<T> step2[] = {depthwise_row<T, kIndex + 2, 2>...};
  return for_taps<DepthwiseRowFunction<T>>(taps, step, depthwise_row<T, 1, 0>, step1, step2);
}

// How an image is cut: bands of output rows whose slice stays in the L2 cache.
template <class T>
struct SliceShape {
  int64_t columns, bands;

  explicit SliceShape(const Im2col<T>& image) {
    const int64_t outputs = ceil_div(image.Q, kOutputsAtOnce) * kOutputsAtOnce;
    const int64_t overlap = larger(image.h.count - 1, 0) * image.h.offset_step;
    columns = (outputs - 1) * image.step_w + larger(image.w.count - 1, 0) * image.w.offset_step + 1;
    const int64_t most_rows = kSliceBytes / static_cast<int64_t>(columns * Vec<T>::width * sizeof(T));
    bands = ceil_div(image.P, larger(1, (most_rows - overlap) / image.step_h));
  }
};

// The image's rows that the outputs of rows p meet.
template <class T>
PE_INLINE Range rows_met(const Im2col<T>& image, Range p) {
  const int64_t last = larger(image.h.count - 1, 0) * image.h.offset_step;
  const int64_t begin = clamped(p.begin * image.step_h + image.h.offset, 0, image.H);
  return {begin, clamped((p.end - 1) * image.step_h + image.h.offset + last + 1, begin, image.H)};
}

// One band of one image, one register of channels from c on.
template <class T>
PE_INLINE void depthwise_band(const Im2col<T>& image, int64_t n, Range band, int64_t c, int64_t columns,
                              int64_t kernel_width, const T* weights, const Target<T>& to) {
  constexpr int64_t kWidth = Vec<T>::width;
  const int64_t lanes = smaller(kWidth, image.C - c), x_row = columns * kWidth, groups = larger(1, tap_groups(image));
  const Range met = rows_met(image, band);
  T* const slice = scratch<T>(kScratchA, met.size() * x_row);
  copy_slice(image.x + (n * image.H + met.begin) * image.W * image.C + c, image.W, image.C, lanes, met.size(), columns,
             image.w.offset, slice);
  for (int64_t p = band.begin; p < band.end; ++p) {
    // the kernel's rows that lie inside the image
    const int64_t top = p * image.step_h + image.h.offset;
    Range inside = {0, image.h.count};
    while (inside.size() > 0 && top + inside.begin * image.h.offset_step < 0) ++inside.begin;
    while (inside.size() > 0 && top + (inside.end - 1) * image.h.offset_step >= image.H) --inside.end;
    for (int64_t group = 0; group < groups; ++group) {
      const Range taps = share(image.w.count, groups, group);
      const int64_t tap = image.h.index(inside.begin) * kernel_width + image.w.index(taps.begin);
      const int64_t row = top + inside.begin * image.h.offset_step - met.begin;
      const int64_t column = image.w.offset + taps.begin * image.w.offset_step;
      DepthwiseRow<T> outputs = {.x = slice,
                                 .x_row = image.h.offset_step * x_row,
                                 .step = image.step_w,
                                 .inside = {-column, image.W - column},
                                 .w = weights + tap * kWidth,
                                 .w_row = image.h.step * kernel_width * kWidth,
                                 .w_tap = image.w.step * kWidth,
                                 .rows = taps.size() > 0 ? inside.size() : 0,
                                 .y = to.y + to.row({n, p, 0}) * to.C + c,
                                 .y_step = to.step_w * to.C,
                                 .outputs = image.Q,
                                 .lanes = lanes,
                                 .bias = to.bias ? to.bias + c : nullptr,
                                 .accumulate = group > 0};
      if (outputs.rows > 0) outputs.x += row * x_row + taps.begin * image.w.offset_step * kWidth;
      depthwise_row_function<T>(taps.size(), image.step_w, SeveralTaps())(outputs);
    }
  }
}

PE_INLINE int64_t depthwise_pieces(double work, int64_t units) {
  return static_cast<int64_t>(clamped(static_cast<int64_t>(work / 250e3), 1, smaller(units, 64)));
}

// y at every grid position = bias + the taps' products.
template <class T>
void depthwise_convolve(const Im2col<T>& image, int64_t kernel_width, const T* packed, int64_t taps,
                        const Target<T>& to) {
  const SliceShape<T> shape(image);
  const int64_t blocks = ceil_div(image.C, Vec<T>::width), units = image.N * shape.bands * blocks;
  const double work =
      static_cast<double>(image.rows() * image.C) * static_cast<double>(image.h.count * image.w.count + 4);
  const int64_t pieces = depthwise_pieces(work, units);
  parallel_for(pieces, nanoseconds<T>(work), [&](int64_t piece) {
    const Range range = share(units, pieces, piece);
    for (int64_t unit = range.begin; unit < range.end; ++unit) {
      const int64_t block = unit % blocks, band = unit / blocks % shape.bands;
      depthwise_band(image, unit / (blocks * shape.bands), share(image.P, shape.bands, band), block * Vec<T>::width,
                     shape.columns, kernel_width, packed + block * taps * Vec<T>::width, to);
    }
  });
}

// ---- the weight gradient: dw[tap] = the sum over outputs of dy[output] * x[output + tap]

// The outputs of some rows, and taps of one kernel row.
template <class T>
struct DepthwiseTaps {
  const T* x;  // the slice, where the first output meets the first tap
  int64_t x_row, step;
  const T* dy;  // rows of `outputs` registers
  int64_t rows, outputs;
  T* sums;  // one register per tap, added to
};

template <class T, int kTaps, int kStep, int kSets, int kCount>
PE_INLINE void depthwise_gradient_block(const T* x, int64_t step, const T* dy, Vec<T> (&acc)[kSets][kTaps]) {
  constexpr int kWidth = Vec<T>::width, kColumns = columns_of(kCount, kTaps, kStep);
  Vec<T> gradient[kCount];
#pragma GCC unroll 8
  for (int b = 0; b < kCount; ++b) gradient[b] = Vec<T>::load(dy + b * kWidth);
  if constexpr (kStep == 0) {
#pragma GCC unroll 8
    for (int b = 0; b < kCount; ++b)
      acc[b % kSets][0] = fma(Vec<T>::load(x + b * step), gradient[b], acc[b % kSets][0]);
  } else {
#pragma GCC unroll 32
    for (int j = 0; j < kColumns; ++j) {
      const Vec<T> v = Vec<T>::load(x + j * kWidth);
#pragma GCC unroll 8
      for (int k = 0; k < kTaps; ++k) {
        const int b = (j - k) / kStep;
        if (j >= k && b * kStep == j - k && b < kCount) acc[b % kSets][k] = fma(v, gradient[b], acc[b % kSets][k]);
      }
    }
  }
}

template <class T, int kTaps, int kStep>
__attribute__((noinline)) void depthwise_taps(const DepthwiseTaps<T>& taps) {
  constexpr int kWidth = Vec<T>::width;
  constexpr int kSets = kTaps >= 5 ? 1 : kTaps >= 3 ? 2 : 4;  // enough sums side by side to keep the FMA units busy
  Vec<T> acc[kSets][kTaps];
#pragma GCC unroll 4
  for (int set = 0; set < kSets; ++set)
#pragma GCC unroll 8
    for (int k = 0; k < kTaps; ++k) acc[set][k] = Vec<T>(typename Vec<T>::Raw{});
  const int64_t step = (kStep ? kStep : taps.step) * kWidth;
  const T *x = taps.x, *dy = taps.dy;
  for (int64_t row = 0; row < taps.rows; ++row, x += taps.x_row) {
    const T* at = x;
    int64_t left = taps.outputs;
    for (; left >= 8; left -= 8, at += 8 * step, dy += 8 * kWidth)
      depthwise_gradient_block<T, kTaps, kStep, kSets, 8>(at, step, dy, acc);
    if (left & 4) {
      depthwise_gradient_block<T, kTaps, kStep, kSets, 4>(at, step, dy, acc);
      at += 4 * step, dy += 4 * kWidth;
    }
    for (left &= 3; left > 0; --left, at += step, dy += kWidth)
      depthwise_gradient_block<T, kTaps, kStep, kSets, 1>(at, step, dy, acc);
  }
#pragma GCC unroll 8
  for (int k = 0; k < kTaps; ++k) {
    Vec<T> sum = acc[0][k];
#pragma GCC unroll 4
    for (int set = 1; set < kSets; ++set) sum = sum + acc[set][k];
    (Vec<T>::load(taps.sums + k * kWidth) + sum).store(taps.sums + k * kWidth);
  }
}

template <class T>
using DepthwiseTapsFunction = void (*)(const DepthwiseTaps<T>&);

template <class T, int... kIndex>
PE_INLINE DepthwiseTapsFunction<T> depthwise_taps_function(int64_t taps, int64_t step,
                                                           std::integer_sequence<int, kIndex...>) {
  static constexpr DepthwiseTapsFunction<T> step1[] = {depthwise_taps<T, kIndex + 2, 1>...};
  static constexpr DepthwiseTapsFunction<T> step2[] = {depthwise_taps<T, kIndex + 2, 2>...};
  return for_taps<DepthwiseTapsFunction<T>>(taps, step, depthwise_taps<T, 1, 0>, step1, step2);
}

// Adds the sums of one band of one image, one register of channels from c on.
template <class T>
PE_INLINE void depthwise_gradient_band(const Conv2dShape& s, const Im2col<T>& image, const T* dy, int64_t n, Range band,
                                       int64_t c, int64_t columns, T* sums) {
  constexpr int64_t kWidth = Vec<T>::width;
  const int64_t lanes = smaller(kWidth, s.C - c), x_row = columns * kWidth, groups = tap_groups(image);
  const Range met = rows_met(image, band);
  T* const slice = scratch<T>(kScratchA, met.size() * x_row);
  T* const dy_slice = scratch<T>(kScratchB, band.size() * s.Q * kWidth);
  copy_slice(image.x + (n * s.H + met.begin) * s.W * s.C + c, s.W, s.C, lanes, met.size(), columns, image.w.offset,
             slice);
  copy_slice(dy + (n * s.P + band.begin) * s.Q * s.C + c, s.Q, s.C, lanes, band.size(), s.Q, 0, dy_slice);
  for (int64_t r = 0; r < s.R; ++r) {
    // the output rows whose tap r lies inside the image
    const int64_t offset = r * s.dilation_h - s.pad_h;
    const int64_t begin = clamped(offset < 0 ? ceil_div(-offset, s.stride_h) : 0, band.begin, band.end);
    const int64_t end = clamped(s.H > offset ? ceil_div(s.H - offset, s.stride_h) : 0, begin, band.end);
    if (begin == end) continue;
    for (int64_t group = 0; group < groups; ++group) {
      const Range taps = share(s.S, groups, group);
      const T* const x = slice + (begin * s.stride_h + offset - met.begin) * x_row;
      depthwise_taps_function<T>(taps.size(), s.stride_w,
                                 SeveralTaps())({.x = x + taps.begin * s.dilation_w * kWidth,
                                                 .x_row = s.stride_h * x_row,
                                                 .step = s.stride_w,
                                                 .dy = dy_slice + (begin - band.begin) * s.Q * kWidth,
                                                 .rows = end - begin,
                                                 .outputs = s.Q,
                                                 .sums = sums + (r * s.S + taps.begin) * kWidth});
    }
  }
}

template <class T>
void depthwise_backward_weight(const Conv2dShape& s, const T* x, const T* dy, T* dw) {
  constexpr int64_t kWidth = Vec<T>::width, kPieces = 32;
  const Im2col<T> image = forward_im2col(s, x);
  const SliceShape<T> shape(image);
  const int64_t blocks = ceil_div(s.C, kWidth), taps = s.R * s.S, size = taps * kWidth;
  const double work = static_cast<double>(image.rows() * s.C) * static_cast<double>(taps + 4);
  // Slices of the images, each with sums of its own; few images are also cut along the channels.
  const int64_t units = s.N * shape.bands, pieces = depthwise_pieces(work, units * blocks);
  const int64_t slices = smaller(smaller(pieces, kPieces), units), parts = smaller(ceil_div(pieces, slices), blocks);
  T* const partial = scratch<T>(kScratchPartial, slices * blocks * size);
  parallel_for(slices * parts, nanoseconds<T>(work), [&](int64_t piece) {
    const Range range = share(units, slices, piece / parts), part = share(blocks, parts, piece % parts);
    T* const sums = partial + piece / parts * blocks * size;
    zero_run(sums + part.begin * size, part.size() * size);
    for (int64_t unit = range.begin; unit < range.end; ++unit)
      for (int64_t block = part.begin; block < part.end; ++block)
        depthwise_gradient_band(s, image, dy, unit / shape.bands, share(s.P, shape.bands, unit % shape.bands),
                                block * kWidth, shape.columns, sums + block * size);
  });
  parallel_for(blocks, static_cast<double>(slices * s.C * taps), [&](int64_t block) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      const T* const from = partial + block * size + tap * kWidth;
      Vec<T> sum = Vec<T>::load(from);
      for (int64_t slice = 1; slice < slices; ++slice) sum = sum + Vec<T>::load(from + slice * blocks * size);
      T lane[kWidth];
      sum.store(lane);
      for (int64_t i = 0; i < smaller(kWidth, s.C - block * kWidth); ++i)
        dw[(block * kWidth + i) * taps + tap] = lane[i];
    }
  });
}

}  // namespace
}  // namespace pe::PE_ISA
