// Planar convolution: the gradient of the weight (the scheme: conv2d_planar.h).
#include "cpu/conv2d_planar.h"

namespace pe::PE_ISA {
namespace {

constexpr int64_t kSliceBytes = 320 << 10;  // B of all units of one slice
constexpr int64_t kSumChunk = 4096;         // weights per piece when slices are added

// Sums of neighbours: the first half of the result from a, the second from b.
template <class T>
PE_INLINE Vec<T> pair_sums(Vec<T> a, Vec<T> b) {
  return even_lanes(a, b) + odd_lanes(a, b);
}

// sums[i] = the sum of the lanes of v[i]; count is a multiple of the width. Destroys v.
template <class T>
void lane_sums(int count, Vec<T>* v, T* sums) {
  for (int group = 0; group < count; group += kWidth<T>) {
    for (int n = kWidth<T> / 2; n > 0; n /= 2)
      for (int i = 0; i < n; ++i) v[group + i] = pair_sums(v[group + 2 * i], v[group + 2 * i + 1]);
    v[group].store(sums + group);
  }
}

// The units of one slice: their B, one after the other, and where each one's dy lies.
template <class T>
struct WeightSlice {
  const Conv2dShape& s;
  Bands bands;
  int64_t unit_begin, unit_end;
  const T* dy;
  const T* B;
  int64_t stride, unit_stride;  // between rows of B, between units of B
  T* dw;                        // this slice's sums, K C R S
};

// Adds the products of one vector of positions; `lanes` are the valid ones of a partial vector.
template <bool partial, class T, int rows, int taps>
PE_INLINE void accumulate(const T* const (&dy)[rows], const T* const (&x)[taps], int64_t j, int64_t lanes,
                          Vec<T> (&sum)[rows][taps]) {
  using V = Vec<T>;
  V xv[taps];
#pragma GCC unroll 8
  for (int t = 0; t < taps; ++t) xv[t] = partial ? V::load_partial(x[t] + j, lanes) : V::load(x[t] + j);
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    const V d = partial ? V::load_partial(dy[i] + j, lanes) : V::load(dy[i] + j);
#pragma GCC unroll 8
    for (int t = 0; t < taps; ++t) sum[i][t] = fma(xv[t], d, sum[i][t]);
  }
}

// dw of output channels k .. k + rows - 1 and taps tap .. tap + taps - 1, counted in the order (c, s, r) of B.
template <class T, int rows, int taps>
__attribute__((noinline)) void weight_tile(const WeightSlice<T>& a, int64_t k, int64_t tap) {
  using V = Vec<T>;
  const Conv2dShape& s = a.s;
  constexpr int padded = (rows * taps + V::width - 1) / V::width * V::width;
  V sum[rows][taps];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i)
#pragma GCC unroll 8
    for (int t = 0; t < taps; ++t) sum[i][t] = V(0.0);

  const T* x[taps];
  for (int t = 0; t < taps; ++t) x[t] = a.B + (tap + t) / s.R * a.stride + (tap + t) % s.R * s.Q;
  int64_t n = a.unit_begin / a.bands.count, band = a.unit_begin % a.bands.count;
  for (int64_t unit = a.unit_begin; unit < a.unit_end; ++unit) {
    const int64_t length = a.bands.rows(band) * s.Q;
    const T* dy[rows];
#pragma GCC unroll 8
    for (int i = 0; i < rows; ++i) dy[i] = a.dy + ((n * s.K + least(k + i, s.K - 1)) * s.P + a.bands.begin(band)) * s.Q;
    int64_t j = 0;
    for (; j + V::width <= length; j += V::width) accumulate<false, T, rows, taps>(dy, x, j, V::width, sum);
    if (j < length) accumulate<true, T, rows, taps>(dy, x, j, length - j, sum);
#pragma GCC unroll 8
    for (int t = 0; t < taps; ++t) x[t] += a.unit_stride;
    if (++band == a.bands.count) band = 0, ++n;
  }

  V lanes[padded];
  T sums[padded];
#pragma GCC unroll 32
  for (int i = 0; i < padded; ++i) lanes[i] = i < rows * taps ? sum[i / taps][i % taps] : V(0.0);
  lane_sums(padded, lanes, sums);
  for (int i = 0; i < rows && k + i < s.K; ++i)
    for (int t = 0; t < taps; ++t) {
      const int64_t r = (tap + t) % s.R, c = (tap + t) / s.R / s.S, shift = (tap + t) / s.R % s.S;
      a.dw[(((k + i) * s.C + c) * s.R + r) * s.S + shift] = sums[i * taps + t];
    }
}

template <class T, int rows>
void weight_taps(const WeightSlice<T>& a, int taps, int64_t k, int64_t tap) {
  switch (taps) {
    case 1: return weight_tile<T, rows, 1>(a, k, tap);
    case 2: return weight_tile<T, rows, 2>(a, k, tap);
#if defined(PE_ISA_AVX512) || defined(PE_ISA_NEON)
    case 3: return weight_tile<T, rows, 3>(a, k, tap);
    case 4: return weight_tile<T, rows, 4>(a, k, tap);
#endif
  }
}

template <class T>
void weight_slice(const WeightSlice<T>& a) {
  const int64_t all_taps = a.s.C * a.s.S * a.s.R;
  for (int64_t k = 0; k < a.s.K;) {
    const int rows = next_rows(a.s.K - k);
    for (int64_t tap = 0; tap < all_taps;) {
      const int taps = next_columns(all_taps - tap);
      if (rows == 6)
        weight_taps<T, 6>(a, taps, k, tap);
      else if (rows == 4)
        weight_taps<T, 4>(a, taps, k, tap);
      else
        weight_taps<T, 2>(a, taps, k, tap);
      tap += taps;
    }
    k += rows;
  }
}

template <class T>
void backward_weight(const Conv2dShape& s, const T* x, const T* dy, T* dw) {
  const int64_t size = s.K * s.C * s.R * s.S;
  const Bands bands = forward_bands<T>(s);
  const int64_t units = s.N * bands.count;
  if (units == 0) return parallel_for(1, 0, [&](int64_t) { zero(size, dw); });
  const int64_t stride = shifted_stride<T>(s, bands.size), unit_stride = s.C * s.S * stride;
  const int64_t unit_bytes = unit_stride * static_cast<int64_t>(sizeof(T));
  // A multiple of four, so that two or four threads share evenly.
  const int64_t slices = least(units, ceil_div(ceil_div(units * unit_bytes, kSliceBytes), 4) * 4);
  T* const partial = slices == 1 ? dw : scratch<T>(kPartialSlot, slices * size);
  parallel_for(slices, nanoseconds(s), [&](int64_t slice) {
    const int64_t begin = slice * units / slices, end = (slice + 1) * units / slices;
    T* const B = scratch<T>(kRowsSlot, (end - begin) * unit_stride + kWidth<T>);
    for (int64_t unit = begin; unit < end; ++unit) {
      const int64_t p0 = bands.begin(unit % bands.count);
      const T* image = x + unit / bands.count * s.C * s.H * s.W;
      shift_rows(s, p0, bands.rows(unit % bands.count), image, stride, B + (unit - begin) * unit_stride);
    }
    weight_slice<T>({s, bands, begin, end, dy, B, stride, unit_stride, partial + slice * size});
  });
  if (slices == 1) return;
  parallel_for(ceil_div(size, kSumChunk), static_cast<double>(slices * size) * 0.1, [&](int64_t chunk) {
    const int64_t end = least(size, (chunk + 1) * kSumChunk);
    for (int64_t i = chunk * kSumChunk; i < end; i += kWidth<T>) {
      const int64_t lanes = least(kWidth<T>, end - i);
      Vec<T> sum(0.0);
      for (int64_t slice = 0; slice < slices; ++slice)
        sum = sum + Vec<T>::load_partial(partial + slice * size + i, lanes);
      sum.store_partial(dw + i, lanes);
    }
  });
}

}  // namespace

void conv2d_planar_backward_weight(const Conv2dShape& s, DType t, const void* x, const void* dy, void* dw) {
  if (t == DType::Float32)
    backward_weight(s, static_cast<const float*>(x), static_cast<const float*>(dy), static_cast<float*>(dw));
  else
    backward_weight(s, static_cast<const double*>(x), static_cast<const double*>(dy), static_cast<double*>(dw));
}

}  // namespace pe::PE_ISA
