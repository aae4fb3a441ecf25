// What the pooling kernels share: which windows exist, which of their taps lie inside the image, the walk over them.
//
// A run is a number of outputs computed in the lanes of one vector: neighbouring channels of one window when memory is
// channels-last, else neighbouring windows of one row that lie inside the image as a whole; a window at the edge is a
// run of one.
#pragma once
#include "cpu/shuffle.h"
#include "kernels/shapes.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {
namespace {

constexpr int64_t kPieceElements = 16384;
constexpr double kElementNanoseconds = 0.25;  // a rough cost of an input element

PE_INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
PE_INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
PE_INLINE int64_t most(int64_t a, int64_t b) { return a > b ? a : b; }

struct Span {
  int64_t begin, end;
  PE_INLINE int64_t length() const { return end - begin; }
};

// One dimension of a pooling.
struct StridedAxis {
  int64_t size, kernel, stride, pad, dilation;

  PE_INLINE int64_t start(int64_t p) const { return p * stride - pad; }

  // The taps of window p that lie inside the image.
  PE_INLINE Span taps(int64_t p) const {
    const int64_t first = start(p);
    if (dilation == 1) return {most(0, -first), least(kernel, size - first)};
    return {first < 0 ? ceil_div(-first, dilation) : 0,
            first < size ? least(kernel, ceil_div(size - first, dilation)) : 0};
  }

  // The windows of `count` that may cover position h; with dilation some of them skip it.
  PE_INLINE Span covering(int64_t h, int64_t count) const {
    const int64_t first = h + pad - (kernel - 1) * dilation;
    return {first > 0 ? ceil_div(first, stride) : 0, least(count, (h + pad) / stride + 1)};
  }

  // The windows that lie inside the image as a whole.
  PE_INLINE Span interior(int64_t count) const {
    const int64_t last = size - (kernel - 1) * dilation - 1 + pad;
    return {ceil_div(pad, stride), last < 0 ? 0 : least(count, last / stride + 1)};
  }
};

PE_INLINE StridedAxis height_axis(const Pool2dShape& s) { return {s.H, s.kernel_h, s.stride_h, s.pad_h, s.dilation_h}; }
PE_INLINE StridedAxis width_axis(const Pool2dShape& s) { return {s.W, s.kernel_w, s.stride_w, s.pad_w, s.dilation_w}; }

// One dimension of an adaptive pooling: window p covers floor(p * size / count) to ceil((p + 1) * size / count).
struct AdaptiveAxis {
  int64_t size, count;

  PE_INLINE Span window(int64_t p) const { return {p * size / count, ceil_div((p + 1) * size, count)}; }
  PE_INLINE Span covering(int64_t h) const { return {h * count / size, ceil_div((h + 1) * count, size)}; }
};

// f(plane, row) for every row of every plane, in pieces of about kPieceElements of the input.
template <class F>
void for_each_row(int64_t planes, int64_t rows, int64_t elements_per_row, const F& f) {
  const int64_t all = planes * rows, per_piece = most(1, kPieceElements / most(1, elements_per_row));
  const double nanoseconds = static_cast<double>(all * elements_per_row) * kElementNanoseconds;
  parallel_for(ceil_div(all, per_piece), nanoseconds, [&](int64_t piece) {
    const int64_t begin = piece * per_piece, end = least(all, begin + per_piece);
    int64_t plane = begin / rows, row = begin % rows;
    for (int64_t i = begin; i < end; ++i) {
      f(plane, row);
      if (++row == rows) row = 0, ++plane;
    }
  });
}

struct Run {
  int64_t x;  // offset of the first lane's tap (0, 0), which may lie outside the image
  int64_t y;  // offset of the first lane's output
  int64_t lanes;
  int64_t p, q;  // the first lane's window
  Span r, s;     // its taps inside the image

  PE_INLINE bool whole(const Pool2dShape& s_) const { return r.length() == s_.kernel_h && s.length() == s_.kernel_w; }
};

// f(run) for every run of the pooling.
template <class T, class F>
void for_each_run(const Pool2dShape& s, const F& f) {
  constexpr int64_t width = Vec<T>::width;
  const StridedAxis vertical = height_axis(s), horizontal = width_axis(s);
  if (s.channels_last) {
    return for_each_row(s.N, s.P, s.stride_h * s.W * s.C, [&](int64_t n, int64_t p) {
      const Span r = vertical.taps(p);
      for (int64_t q = 0; q < s.Q; ++q) {
        const Span taps = horizontal.taps(q);
        const int64_t x = ((n * s.H + vertical.start(p)) * s.W + horizontal.start(q)) * s.C;
        const int64_t y = ((n * s.P + p) * s.Q + q) * s.C;
        for (int64_t c = 0; c < s.C; c += width) f(Run{x + c, y + c, least(width, s.C - c), p, q, r, taps});
      }
    });
  }
  // Lanes with a distance of more than two are not worth gathering.
  const Span interior = s.stride_w <= 2 ? horizontal.interior(s.Q) : Span{0, 0};
  for_each_row(s.N * s.C, s.P, s.stride_h * s.W, [&](int64_t plane, int64_t p) {
    const Span r = vertical.taps(p);
    for (int64_t q = 0; q < s.Q;) {
      const bool inside = q >= interior.begin && q < interior.end;
      const int64_t lanes = inside ? least(width, interior.end - q) : 1;
      const int64_t x = (plane * s.H + vertical.start(p)) * s.W + horizontal.start(q);
      f(Run{x, (plane * s.P + p) * s.Q + q, lanes, p, q, r, inside ? Span{0, s.kernel_w} : horizontal.taps(q)});
      q += lanes;
    }
  });
}

// The commonest pooling in planar memory has loops of its own: 2x2 windows side by side, all inside the image.
PE_INLINE bool is_planar_2x2(const Pool2dShape& s) {
  return !s.channels_last && s.kernel_h == 2 && s.kernel_w == 2 && s.stride_h == 2 && s.stride_w == 2 && s.pad_h == 0 &&
         s.pad_w == 0 && s.dilation_h == 1 && s.dilation_w == 1 && s.H >= 2 * s.P && s.W >= 2 * s.Q;
}

// f(x, y, lanes) for every vector of such windows: offsets of the first one's tap (0, 0) and of its output.
template <class T, class F>
void for_each_2x2(const Pool2dShape& s, const F& f) {
  for_each_row(s.N * s.C, s.P, 2 * s.W, [&](int64_t plane, int64_t p) {
    const int64_t x = (plane * s.H + 2 * p) * s.W, y = (plane * s.P + p) * s.Q;
    for (int64_t q = 0; q < s.Q; q += Vec<T>::width) f(x + 2 * q, y + q, least(Vec<T>::width, s.Q - q));
  });
}

// n elements from p on, `stride` apart: 1 or 2 (any, where n == 1). Touches no memory behind the last.
template <class T>
PE_INLINE Vec<T> load_strided(const T* p, int64_t n, int64_t stride) {
  constexpr int64_t width = Vec<T>::width;
  if (stride == 1 || n == 1) return load_lanes(p, n);
  const int64_t span = 2 * n - 1;
  return even_lanes(load_lanes(p, span), span > width ? Vec<T>::load_partial(p + width, span - width) : Vec<T>(0.0));
}

// Window positions: integers in the lanes, bytes in memory. GCC takes a plain conversion apart, hence the intrinsics.
template <class T>
using Positions = typename Vec<T>::IntRaw;

template <class T>
PE_INLINE Positions<T> load_positions(const uint8_t* p, int64_t n) {
#if defined(PE_ISA_AVX512) || defined(PE_ISA_AVX2)
#if defined(PE_ISA_AVX512)
  const __mmask16 lanes = static_cast<__mmask16>((1u << n) - 1u);
  const __m128i bytes = _mm_maskz_loadu_epi8(lanes, p);
  if constexpr (sizeof(T) == 4)
    return (Positions<T>)_mm512_maskz_cvtepu8_epi32(lanes, bytes);
  else
    return (Positions<T>)_mm512_maskz_cvtepu8_epi64(static_cast<__mmask8>(lanes), bytes);
#else
  uint64_t packed = 0;
  if (n >= Vec<T>::width)
    std::memcpy(&packed, p, Vec<T>::width);
  else
    for (int64_t i = 0; i < n; ++i) packed |= uint64_t{p[i]} << (8 * i);
  const __m128i bytes = _mm_cvtsi64_si128(static_cast<int64_t>(packed));
  if constexpr (sizeof(T) == 4)
    return (Positions<T>)_mm256_cvtepu8_epi32(bytes);
  else
    return (Positions<T>)_mm256_cvtepu8_epi64(bytes);
#endif
#else
  Positions<T> positions{};
  for (int i = 0; i < Vec<T>::width && i < n; ++i) positions[i] = p[i];
  return positions;
#endif
}

template <class T>
PE_INLINE void store_positions(Positions<T> positions, uint8_t* p, int64_t n) {
#if defined(PE_ISA_AVX512)
  const __mmask16 lanes = static_cast<__mmask16>((1u << n) - 1u);
  if constexpr (sizeof(T) == 4)
    _mm_mask_storeu_epi8(p, lanes, _mm512_maskz_cvtepi32_epi8(lanes, (__m512i)positions));
  else
    _mm_mask_storeu_epi8(p, lanes, _mm512_maskz_cvtepi64_epi8(static_cast<__mmask8>(lanes), (__m512i)positions));
#else
  constexpr int width = Vec<T>::width;
  uint8_t lane[width];
  for (int i = 0; i < width; ++i) lane[i] = static_cast<uint8_t>(positions[i]);
  if (n >= width)
    std::memcpy(p, lane, width);
  else
    for (int64_t i = 0; i < n; ++i) p[i] = lane[i];
#endif
}

}  // namespace
}  // namespace pe::PE_ISA
