// Depthwise convolution (groups == C == K), and grouped convolution with few channels per group: a matrix product per
// group would be too narrow, so direct kernels, vectorized over the output channels, do the work. They take one
// register's width of channels at a time, copied out of the image together with its zero padding (a "slice": rows of
// columns of one register each). Neighbouring pixels are then neighbours in memory, whatever C is, and no tap needs a
// bounds check. Along a row the kernel's window slides over registers: a pixel is loaded once for all the outputs that
// it meets. With several channels per group there are as many slices, one after the other: number i holds, in each
// lane, the i-th channel of the lane's group.
//
// The convolution serves the forward pass and, with dy as the image, the gradient with respect to the input.
#pragma once
#include "cpu/depthwise_kernel.h"

namespace pe::PE_ISA {
namespace {

constexpr int64_t kAheadBytes = 320 << 10;

// Grouped convolutions that are done here: few channels per group, and enough taps to pay for the slices.
PE_INLINE bool few_channels_per_group(const Conv2dShape& s) {
  if (s.groups == s.C && s.groups == s.K) return s.groups > 1;
  return s.groups > 1 && s.C / s.groups <= 16 && s.K / s.groups <= 16 && s.R * s.S > 1;
}

// packed[block of output channels][input of the group, tap][output channel]; backward, C and K change places.
template <class T>
PE_INLINE int64_t packed_groups_size(const Conv2dShape& s) {
  const int64_t padded = ceil_div(larger(s.C, s.K), Vec<T>::width) * Vec<T>::width;
  return padded * larger(s.C, s.K) / s.groups * s.R * s.S;
}
template <class T>
void pack_groups_forward(const Conv2dShape& s, const T* w, T* packed) {
  constexpr int64_t kWidth = Vec<T>::width;
  const int64_t depth = s.C / s.groups * s.R * s.S;
  parallel_for(ceil_div(s.K, kWidth), static_cast<double>(s.K * depth), [&](int64_t block) {
    T* const to = packed + block * depth * kWidth;
    for (int64_t i = 0; i < depth; i += kWidth)
      transpose_block(w + block * kWidth * depth + i, depth, smaller(kWidth, s.K - block * kWidth),
                      smaller(kWidth, depth - i),
                      [&](int j) __attribute__((always_inline)) { return to + (i + j) * kWidth; });
  });
}
template <class T>
void pack_groups_backward(const Conv2dShape& s, const T* w, T* packed) {
  constexpr int64_t kWidth = Vec<T>::width;
  const int64_t inputs = s.C / s.groups, outputs = s.K / s.groups, taps = s.R * s.S;
  if (inputs == 1 && outputs == 1) return pack_groups_forward(s, w, packed);
  parallel_for(ceil_div(s.C, kWidth), static_cast<double>(s.C * outputs * taps), [&](int64_t block) {
    T* to = packed + block * outputs * taps * kWidth;
    zero_run(to, outputs * taps * kWidth);
    for (int64_t k = 0; k < outputs; ++k)
      for (int64_t tap = 0; tap < taps; ++tap, to += kWidth)
        for (int64_t i = 0, c = block * kWidth; i < kWidth && c < s.C; ++i, ++c)
          to[i] = w[((c / inputs * outputs + k) * inputs + c % inputs) * taps + tap];
  });
}

// How an image is cut: bands of output rows whose slice stays in the L2 cache.
template <class T>
struct SliceShape {
  int64_t columns, bands;

  explicit SliceShape(const Im2col<T>& image) {
    const int64_t outputs = ceil_div(image.Q, kOutputsAtOnce) * kOutputsAtOnce;
    const int64_t overlap = larger(image.h.count - 1, 0) * image.h.offset_step;
    columns = (outputs - 1) * image.step_w + larger(image.w.count - 1, 0) * image.w.offset_step + 1;
    const int64_t row_bytes = columns * Vec<T>::width * static_cast<int64_t>(sizeof(T));
    const int64_t most_rows = kSliceBytes / (row_bytes * smaller(kSlicesAtOnce, image.channels));
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

// What all pieces of a convolution share. `outputs` of to.C channels belong to a group.
template <class T>
struct GroupedConvolution {
  Im2col<T> image;
  Target<T> to;
  const T* weights;
  int64_t outputs, kernel_height, kernel_width;

  int64_t taps() const { return kernel_height * kernel_width; }
};

// Memory that is wanted soon, brought to the L2 cache a part at a time while the kernels compute.
struct Ahead {
  const char* data;
  int64_t lines;

  // Part i of `parts`.
  PE_INLINE Ahead part(int64_t parts, int64_t i) const {
    const Range range = share(lines, parts, i);
    return {data + range.begin * 64, range.size()};
  }
  PE_INLINE void fetch() const {
    for (int64_t i = 0; i < lines; ++i) __builtin_prefetch(data + i * 64, 0, 2);
  }
};

// The outputs of one band of one image, one register of channels from c on.
template <class T>
PE_INLINE void grouped_band(const GroupedConvolution<T>& conv, int64_t n, Range band, int64_t c, int64_t columns,
                            const Ahead& ahead) {
  constexpr int64_t kWidth = Vec<T>::width;
  const Im2col<T>& image = conv.image;
  const Target<T>& to = conv.to;
  const int64_t lanes = smaller(kWidth, to.C - c), x_row = columns * kWidth, groups = larger(1, tap_groups(image));
  const GroupLanes<T> group_lanes(c, lanes, conv.outputs, image.channels);
  const Range met = rows_met(image, band);
  const int64_t slice_size = met.size() * x_row;
  T* const slices = scratch<T>(kScratchA, smaller(kSlicesAtOnce, image.channels) * slice_size);
  for (int64_t input = 0; input < image.channels; input += kSlicesAtOnce) {
    const int64_t inputs = smaller(kSlicesAtOnce, image.channels - input);
    const T* const weights = conv.weights + (c * image.channels + input * kWidth) * conv.taps();
    const T* const from = image.x + (n * image.H + met.begin) * image.W * image.C + group_lanes.first + input;
    for (int64_t i = 0; i < inputs; ++i)
      copy_slice(from + i, image.W, image.C, group_lanes, met.size(), columns, image.w.offset, slices + i * slice_size);
    for (int64_t p = band.begin; p < band.end; ++p) {
      if (input == 0) ahead.part(band.size(), p - band.begin).fetch();
      T* const y = to.y + to.row({n, p, 0}) * to.C + c;
      const int64_t y_step = to.step_w * to.C;
      if (p + 1 < band.end)
        for (int64_t q = 0, row = to.step_h * to.W * to.C; q < image.Q; ++q)
          __builtin_prefetch(y + row + q * y_step, 1);
      // the kernel's rows that lie inside the image
      const int64_t top = p * image.step_h + image.h.offset;
      Range inside = {0, image.h.count};
      while (inside.size() > 0 && top + inside.begin * image.h.offset_step < 0) ++inside.begin;
      while (inside.size() > 0 && top + (inside.end - 1) * image.h.offset_step >= image.H) --inside.end;
      for (int64_t group = 0; group < groups; ++group) {
        const Range taps = share(image.w.count, groups, group);
        const int64_t tap = image.h.index(inside.begin) * conv.kernel_width + image.w.index(taps.begin);
        const int64_t row = top + inside.begin * image.h.offset_step - met.begin;
        const int64_t column = image.w.offset + taps.begin * image.w.offset_step;
        DepthwiseRow<T> outputs = {.x = slices,
                                   .x_slice = slice_size,
                                   .x_row = image.h.offset_step * x_row,
                                   .step = image.step_w,
                                   .inside = {-column, image.W - column},
                                   .w = weights + tap * kWidth,
                                   .w_slice = conv.taps() * kWidth,
                                   .w_row = image.h.step * conv.kernel_width * kWidth,
                                   .w_tap = image.w.step * kWidth,
                                   .slices = inputs,
                                   .rows = taps.size() > 0 ? inside.size() : 0,
                                   .y = y,
                                   .y_step = y_step,
                                   .outputs = image.Q,
                                   .lanes = lanes,
                                   .bias = to.bias ? to.bias + c : nullptr,
                                   .accumulate = group > 0 || input > 0};
        if (outputs.rows > 0) outputs.x += row * x_row + taps.begin * image.w.offset_step * kWidth;
        depthwise_row_function<T>(taps.size(), image.step_w, SeveralTaps())(outputs);
      }
    }
  }
}

PE_INLINE int64_t depthwise_pieces(double work, int64_t units) {
  return static_cast<int64_t>(clamped(static_cast<int64_t>(work / 250e3), 1, smaller(units, 64)));
}

// y at every grid position = bias + the taps' products.
template <class T>
void grouped_convolve(const GroupedConvolution<T>& conv) {
  const Im2col<T>& image = conv.image;
  const SliceShape<T> shape(image);
  const int64_t blocks = ceil_div(conv.to.C, Vec<T>::width), units = image.N * shape.bands * blocks;
  const double per_output =
      static_cast<double>(image.channels) * static_cast<double>(image.h.count * image.w.count + 4);
  const double work = static_cast<double>(image.rows() * conv.to.C) * per_output;
  const int64_t pieces = depthwise_pieces(work, units);
  parallel_for(pieces, nanoseconds<T>(work), [&](int64_t piece) {
    const Range range = share(units, pieces, piece);
    for (int64_t unit = range.begin; unit < range.end; ++unit) {
      const int64_t block = unit % blocks, n = unit / (blocks * shape.bands);
      const Range band = share(image.P, shape.bands, unit / blocks % shape.bands);
      // The next image's rows, while this one's are computed: only if both fit in the cache.
      Ahead ahead = {nullptr, 0};
      const int64_t row_bytes = image.W * image.C * static_cast<int64_t>(sizeof(T));
      if (n + 1 < image.N && shape.bands == 1 && image.H * row_bytes <= kAheadBytes)
        ahead = {reinterpret_cast<const char*>(image.x) + (n + 1) * image.H * row_bytes, image.H * row_bytes / 64};
      grouped_band(conv, n, band, block * Vec<T>::width, shape.columns, ahead.part(blocks, block));
    }
  });
}

// ---- the weight gradient

// Adds the sums of one band of one image, one register of output channels from c on.
template <class T>
PE_INLINE void grouped_gradient_band(const Conv2dShape& s, const Im2col<T>& image, const T* dy, int64_t n, Range band,
                                     int64_t c, int64_t columns, T* sums) {
  constexpr int64_t kWidth = Vec<T>::width;
  const int64_t lanes = smaller(kWidth, s.K - c), x_row = columns * kWidth, groups = tap_groups(image);
  const Range met = rows_met(image, band);
  T* const slice = scratch<T>(kScratchA, met.size() * x_row);
  T* const dy_slice = scratch<T>(kScratchB, band.size() * s.Q * kWidth);
  copy_slice(dy + (n * s.P + band.begin) * s.Q * s.K + c, s.Q, s.K, GroupLanes<T>(c, lanes, 1, 1), band.size(), s.Q, 0,
             dy_slice);
  const GroupLanes<T> group_lanes(c, lanes, s.K / s.groups, image.channels);
  for (int64_t input = 0; input < image.channels; ++input, sums += s.R * s.S * kWidth) {
    copy_slice(image.x + (n * s.H + met.begin) * s.W * s.C + group_lanes.first + input, s.W, s.C, group_lanes,
               met.size(), columns, image.w.offset, slice);
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
}

template <class T>
void grouped_backward_weight(const Conv2dShape& s, const T* x, const T* dy, T* dw) {
  constexpr int64_t kWidth = Vec<T>::width, kPieces = 32;
  const Im2col<T> image = forward_im2col(s, x);
  const SliceShape<T> shape(image);
  const int64_t blocks = ceil_div(s.K, kWidth), depth = image.depth(), size = depth * kWidth;
  const double work = static_cast<double>(image.rows() * s.K) * static_cast<double>(depth + 4 * image.channels);
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
        grouped_gradient_band(s, image, dy, unit / shape.bands, share(s.P, shape.bands, unit % shape.bands),
                              block * kWidth, shape.columns, sums + block * size);
  });
  parallel_for(blocks, static_cast<double>(slices * s.K * depth), [&](int64_t block) {
    for (int64_t i = 0; i < depth; ++i) {
      const T* const from = partial + block * size + i * kWidth;
      Vec<T> sum = Vec<T>::load(from);
      for (int64_t slice = 1; slice < slices; ++slice) sum = sum + Vec<T>::load(from + slice * blocks * size);
      T lane[kWidth];
      sum.store(lane);
      for (int64_t k = 0; k < smaller(kWidth, s.K - block * kWidth); ++k)
        dw[(block * kWidth + k) * depth + i] = lane[k];
    }
  });
}

}  // namespace
}  // namespace pe::PE_ISA
