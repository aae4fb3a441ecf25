// Direct convolution over planar memory (x N C H W, y N K P Q) for few channels: stride 1, dilation 1, one group.
//
// Every pass becomes a one-dimensional correlation of long dense rows. Let B hold the padded input once per horizontal
// tap,
//   B[(c, s)][h * Q + q] = x_padded[c][h][q + s],
// so that its rows have the pitch Q of the output and a vertical tap r is the offset r * Q. With j = p * Q + q:
//   forward          y[k][j]        = sum over (c, s), r of w[k][c][r][s] * B[(c, s)][j + r * Q]
//   backward_weight  dw[k][c][r][s] = sum over j of dy[k][j] * B[(c, s)][j + r * Q]
//   backward_input   dB[(c, s)][i]  = sum over k, r of w[k][c][r][s] * dy[k][i - r * Q], and dx adds up dB's
//                                  shifted rows.
// Vectors run on across the ends of image rows; only the last one of a plane is partial.
//
// The work is cut into units: one image, or a band of its rows when B would outgrow the cache.
#pragma once
#include "cpu/shuffle.h"
#include "kernels/shapes.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {
namespace {

// Register tiles: kTileRows rows (channels) by kTileColumns vectors or taps, which leaves registers for the operands.
constexpr int kTileRows = 6;
#if defined(PE_ISA_AVX512) || defined(PE_ISA_NEON)
constexpr int kTileColumns = 4;
#else
constexpr int kTileColumns = 2;
#endif
constexpr int64_t kUnitBytes = 128 << 10;  // one unit's buffers: a part of L2
constexpr double kFlopsPerNanosecond = 32;

enum ScratchSlot { kWeightSlot, kRowsSlot, kPaddedSlot, kPartialSlot };

template <class T>
constexpr int kWidth = Vec<T>::width;

PE_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
PE_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
PE_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

template <class T>
int64_t round_to_vector(int64_t n) {
  return ceil_div(n, kWidth<T>) * kWidth<T>;
}

template <class T>
T* scratch(ScratchSlot slot, int64_t elements) {
  return static_cast<T*>(thread_scratch(slot, static_cast<size_t>(elements) * sizeof(T)));
}

// The next tile when n rows are left: whole tiles, then an even size (a row too many is computed and dropped).
PE_INLINE int next_rows(int64_t n) { return n >= kTileRows ? kTileRows : static_cast<int>((n + 1) / 2 * 2); }

// The next tile when n columns are left; two middling tiles run faster than a full and a thin one.
PE_INLINE int next_columns(int64_t n) {
  if (n > kTileColumns && n < 2 * kTileColumns) return static_cast<int>((n + 1) / 2);
  return static_cast<int>(least(n, kTileColumns));
}

// The rows of an image, cut into bands of `size` rows (the last one may be smaller).
struct Bands {
  int64_t total, count, size;
  Bands(int64_t total, int64_t largest) : total(total), count(ceil_div(total, largest)), size(ceil_div(total, count)) {}
  int64_t begin(int64_t band) const { return band * size; }
  int64_t rows(int64_t band) const { return least(size, total - band * size); }
};

template <class T>
void copy_row(int64_t n, const T* from, T* to) {
  int64_t i = 0;
  for (; i + kWidth<T> <= n; i += kWidth<T>) Vec<T>::load(from + i).store(to + i);
  if (i < n) Vec<T>::load_partial(from + i, n - i).store_partial(to + i, n - i);
}

template <class T>
void zero(int64_t n, T* to) {
  std::memset(to, 0, static_cast<size_t>(n) * sizeof(T));
}

// The distance between rows of B that hold `rows` output rows and the R - 1 below them.
template <class T>
int64_t shifted_stride(const Conv2dShape& s, int64_t rows) {
  return round_to_vector<T>((rows + s.R - 1) * s.Q);
}

// B for output rows p0 .. p0 + rows - 1 of one image. Writes up to a vector behind B's end.
template <class T>
void shift_rows(const Conv2dShape& s, int64_t p0, int64_t rows, const T* x, int64_t stride, T* B) {
  constexpr int width = kWidth<T>;
  const int64_t height = rows + s.R - 1, pitch = s.Q + s.S - 1;  // pitch == W + 2 * pad_w
  T* const padded = scratch<T>(kPaddedSlot, height * pitch + width);
  zero(height * pitch, padded);
  const int64_t begin = most(0, s.pad_h - p0), end = least(height, s.pad_h + s.H - p0);
  for (int64_t c = 0; c < s.C; ++c, x += s.H * s.W) {
    for (int64_t h = begin; h < end; ++h) copy_row(s.W, x + (p0 + h - s.pad_h) * s.W, padded + h * pitch + s.pad_w);
    for (int64_t shift = 0; shift < s.S; ++shift, B += stride)
      for (int64_t h = 0; h < height; ++h)
        // Whole vectors: what spills over the end of a row is overwritten by the next.
        for (int64_t q = 0; q < s.Q; q += width) Vec<T>::load(padded + h * pitch + shift + q).store(B + h * s.Q + q);
  }
}

template <class T>
Bands forward_bands(const Conv2dShape& s) {
  const int64_t bytes_per_row = most(1, s.C * s.S * s.Q * static_cast<int64_t>(sizeof(T)));
  return Bands(s.P, most(1, kUnitBytes / bytes_per_row - (s.R - 1)));
}

PE_INLINE double nanoseconds(const Conv2dShape& s) {
  return 2.0 * s.N * s.K * s.P * s.Q * s.C * s.R * s.S / kFlopsPerNanosecond;
}

}  // namespace
}  // namespace pe::PE_ISA
