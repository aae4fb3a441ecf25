// The inner kernels of depthwise convolution (depthwise.h): slices of an image, a row of outputs, and the weight
// gradient of a few taps. Along a row the kernel's window slides over registers: a pixel is loaded once for all the
// outputs that it meets.
#pragma once
#include "cpu/im2col.h"

namespace pe::PE_ISA {
namespace {

constexpr int kTapsAtOnce = 7;     // taps of a kernel row that stay in registers
constexpr int kOutputsAtOnce = 8;  // outputs of a row
constexpr int64_t kSlicesAtOnce = 4;
constexpr int64_t kSliceBytes = 256 << 10;

#if defined(PE_ISA_AVX512) || defined(PE_ISA_AVX2)
PE_INLINE Vec<float> permuted(Vec<float> a, Vec<float>::IntRaw index) {
#if defined(PE_ISA_AVX512)
  return Vec<float>((Vec<float>::Raw)_mm512_maskz_permutexvar_ps(0xffff, (__m512i)index, a.v));
#else
  return Vec<float>((Vec<float>::Raw)_mm256_permutevar8x32_ps(a.v, (__m256i)index));
#endif
}
template <class T>
constexpr bool kCanPermute = sizeof(T) == 4;
#else
template <class T>
constexpr bool kCanPermute = false;
#endif

// Where the lanes of a block of output channels find their groups in a pixel of the image.
template <class T>
struct GroupLanes {
  static constexpr int kWidth = Vec<T>::width;
  enum { kNeighbours, kPermuted, kApart } kind;
  int64_t first, span;  // the channels from the first lane's group to that of the last
  typename Vec<T>::IntRaw offset;

  // Output channels c to c + lanes, `outputs` of them per group, which has `inputs` channels in the image.
  GroupLanes(int64_t c, int64_t lanes, int64_t outputs, int64_t inputs) : first(c / outputs * inputs), offset{} {
    for (int64_t i = 0; i < lanes; ++i)
      offset[i] = static_cast<decltype(offset[i] + 0)>((c + i) / outputs * inputs - first);
    span = (c + lanes - 1) / outputs * inputs - first + 1;
    kind = outputs == 1 && inputs == 1 ? kNeighbours : kCanPermute<T> && span <= kWidth ? kPermuted : kApart;
  }
  template <int kKind>
  PE_INLINE Vec<T> load(const T* pixel) const {
    if constexpr (kKind == kNeighbours) return load_up_to(pixel, span);
    if constexpr (kKind == kPermuted && kCanPermute<T>) return permuted(load_up_to(pixel, span), offset);
    T lane[kWidth];
    for (int i = 0; i < kWidth; ++i) lane[i] = pixel[offset[i]];
    return Vec<T>::load(lane);
  }
};

template <class T, int kKind>
PE_INLINE void copy_pixels(const GroupLanes<T>& lanes, const T* from, int64_t C, int64_t n, T* to) {
  const GroupLanes<T> local = lanes;  // stays in registers: stores to T cannot change it
  for (int64_t i = 0; i < n; ++i) local.template load<kKind>(from + i * C).store(to + i * Vec<T>::width);
}

// Columns from `offset` on of image rows, and zeros outside; x is the first row's channel for the first lane.
template <class T>
PE_INLINE void copy_slice(const T* x, int64_t W, int64_t C, const GroupLanes<T>& lanes, int64_t rows, int64_t columns,
                          int64_t offset, T* to) {
  constexpr int64_t kWidth = Vec<T>::width;
  const int64_t begin = clamped(-offset, 0, columns), end = clamped(W - offset, begin, columns);
  for (int64_t row = 0; row < rows; ++row, x += W * C, to += columns * kWidth) {
    zero_run(to, begin * kWidth);
    const T* const from = x + (begin + offset) * C;
    if (lanes.kind == GroupLanes<T>::kNeighbours)
      copy_pixels<T, GroupLanes<T>::kNeighbours>(lanes, from, C, end - begin, to + begin * kWidth);
    else if (lanes.kind == GroupLanes<T>::kPermuted)
      copy_pixels<T, GroupLanes<T>::kPermuted>(lanes, from, C, end - begin, to + begin * kWidth);
    else
      copy_pixels<T, GroupLanes<T>::kApart>(lanes, from, C, end - begin, to + begin * kWidth);
    zero_run(to + end * kWidth, (columns - end) * kWidth);
  }
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

// A row of outputs, and the taps of `rows` kernel rows that reach it in each of some slices.
template <class T>
struct DepthwiseRow {
  const T* x;                    // the first slice, where the first output meets the first tap
  int64_t x_slice, x_row, step;  // distances between slices and between the rows of taps; columns between outputs
  Range inside;                  // the columns from there that lie inside the image
  const T* w;
  int64_t w_slice, w_row, w_tap;
  int64_t slices, rows;
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
  for (int64_t slice = 0; slice < row.slices; ++slice) {
    const T *from = x + slice * row.x_slice, *w = row.w + slice * row.w_slice;
    for (int64_t i = row.rows; i > 0; --i, from += row.x_row, w += row.w_row) {
      Vec<T> weight[kTaps];
#pragma GCC unroll 8
      for (int k = 0; k < kTaps; ++k) weight[k] = Vec<T>::load(w + k * row.w_tap);
      if constexpr (kStep == 0) {
#pragma GCC unroll 8
        for (int b = 0; b < kCount; ++b) acc[b] = fma(Vec<T>::load(from + b * row.step * kWidth), weight[0], acc[b]);
      } else {
#pragma GCC unroll 32
        for (int j = 0; j < kColumns; ++j) {
          if (kEdge && (j < inside.begin || j >= inside.end)) continue;
          const Vec<T> v = Vec<T>::load(from + j * kWidth);
#pragma GCC unroll 8
          for (int k = 0; k < kTaps; ++k) {
            const int b = (j - k) / kStep;
            if (j >= k && b * kStep == j - k && b < kCount) acc[b] = fma(v, weight[k], acc[b]);
          }
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

}  // namespace
}  // namespace pe::PE_ISA
