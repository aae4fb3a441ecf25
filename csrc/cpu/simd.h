// Vec<float> and Vec<double>: one vector register of the instruction set this file is compiled for.
// Everything lives in namespace pe::PE_ISA and is forced inline, so no symbol of one variant can serve another.
// Comparisons give a mask, select(mask, a, b) uses it. GCC's vector extensions carry the arithmetic; intrinsics appear
// only where the extensions have no form. -ffp-contract=off: a product and a sum fuse only where fma() says so.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(PE_ISA_AVX512) || defined(PE_ISA_AVX2)
#include <immintrin.h>
#elif defined(PE_ISA_NEON)
#include <arm_neon.h>
#endif

#define PE_INLINE inline __attribute__((always_inline))

namespace pe::PE_ISA {

#if defined(PE_ISA_AVX512)
constexpr int kVectorBytes = 64;
#elif defined(PE_ISA_AVX2)
constexpr int kVectorBytes = 32;
#else  // NEON; "scalar": 16 bytes that the compiler lowers to whatever the baseline has
constexpr int kVectorBytes = 16;
#endif

template <class T>
struct Register;
template <>
struct Register<float> {
  typedef float Raw __attribute__((vector_size(kVectorBytes)));
  typedef int32_t IntRaw __attribute__((vector_size(kVectorBytes)));
};
template <>
struct Register<double> {
  typedef double Raw __attribute__((vector_size(kVectorBytes)));
  typedef int64_t IntRaw __attribute__((vector_size(kVectorBytes)));
};

template <class T>
struct Vec {
  using Raw = typename Register<T>::Raw;
  using IntRaw = typename Register<T>::IntRaw;  // as many integers of the same size
  static constexpr int width = kVectorBytes / sizeof(T);

  Raw v;

  PE_INLINE Vec() = default;
  PE_INLINE Vec(Raw raw) : v(raw) {}
  PE_INLINE Vec(double x) : v(static_cast<T>(x) - Raw{}) {}  // minus: folds to a broadcast, also for -0

  static PE_INLINE Vec load(const T* p) {
    Vec r;
    std::memcpy(&r.v, p, sizeof r.v);
    return r;
  }
  PE_INLINE void store(T* p) const { std::memcpy(p, &v, sizeof v); }

  // The first n lanes (0 <= n <= width); the others are zero, and no memory behind them is touched.
  static PE_INLINE Vec load_partial(const T* p, int64_t n) {
#if defined(PE_ISA_AVX512)
    if constexpr (sizeof(T) == 4)
      return Vec((Raw)(_mm512_maskz_loadu_ps(static_cast<__mmask16>((1u << n) - 1u), p)));
    else
      return Vec((Raw)(_mm512_maskz_loadu_pd(static_cast<__mmask8>((1u << n) - 1u), p)));
#elif defined(PE_ISA_AVX2)
    if constexpr (sizeof(T) == 4)
      return Vec((Raw)(_mm256_maskload_ps(p, first_lanes(n))));
    else
      return Vec((Raw)(_mm256_maskload_pd(p, first_lanes(n))));
#else
    Vec r{Raw{}};
    std::memcpy(&r.v, p, static_cast<size_t>(n) * sizeof(T));
    return r;
#endif
  }
  PE_INLINE void store_partial(T* p, int64_t n) const {
#if defined(PE_ISA_AVX512)
    if constexpr (sizeof(T) == 4)
      _mm512_mask_storeu_ps(p, static_cast<__mmask16>((1u << n) - 1u), v);
    else
      _mm512_mask_storeu_pd(p, static_cast<__mmask8>((1u << n) - 1u), v);
#elif defined(PE_ISA_AVX2)
    if constexpr (sizeof(T) == 4)
      _mm256_maskstore_ps(p, first_lanes(n), v);
    else
      _mm256_maskstore_pd(p, first_lanes(n), v);
#else
    std::memcpy(p, &v, static_cast<size_t>(n) * sizeof(T));
#endif
  }

#if defined(PE_ISA_AVX2)
 private:
  static PE_INLINE __m256i first_lanes(int64_t n) {
    if constexpr (sizeof(T) == 4)
      return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
    else
      return _mm256_cmpgt_epi64(_mm256_set1_epi64x(n), _mm256_setr_epi64x(0, 1, 2, 3));
  }
#endif
};

// A lane is all ones (true) or all zeros.
template <class T>
struct Mask {
  typename Vec<T>::IntRaw m;
};

#define PE_VEC_OPERATOR(op)                          \
  template <class T>                                 \
  PE_INLINE Vec<T> operator op(Vec<T> a, Vec<T> b) { \
    return Vec<T>(a.v op b.v);                       \
  }                                                  \
  template <class T>                                 \
  PE_INLINE Vec<T> operator op(Vec<T> a, double b) { \
    return a op Vec<T>(b);                           \
  }                                                  \
  template <class T>                                 \
  PE_INLINE Vec<T> operator op(double a, Vec<T> b) { \
    return Vec<T>(a) op b;                           \
  }
PE_VEC_OPERATOR(+)
PE_VEC_OPERATOR(-)
PE_VEC_OPERATOR(*)
PE_VEC_OPERATOR(/)
#undef PE_VEC_OPERATOR

#define PE_VEC_COMPARE(op)                            \
  template <class T>                                  \
  PE_INLINE Mask<T> operator op(Vec<T> a, Vec<T> b) { \
    return {a.v op b.v};                              \
  }                                                   \
  template <class T>                                  \
  PE_INLINE Mask<T> operator op(Vec<T> a, double b) { \
    return a op Vec<T>(b);                            \
  }
PE_VEC_COMPARE(<)
PE_VEC_COMPARE(<=)
PE_VEC_COMPARE(>)
PE_VEC_COMPARE(>=)
PE_VEC_COMPARE(==)
PE_VEC_COMPARE(!=)
#undef PE_VEC_COMPARE

template <class T>
PE_INLINE Mask<T> operator&(Mask<T> a, Mask<T> b) {
  return {a.m & b.m};
}
template <class T>
PE_INLINE Mask<T> operator|(Mask<T> a, Mask<T> b) {
  return {a.m | b.m};
}

template <class T>
PE_INLINE Vec<T> operator-(Vec<T> a) {
  return Vec<T>(-a.v);
}

template <class T>
PE_INLINE Vec<T> select(Mask<T> m, Vec<T> a, Vec<T> b) {
  return Vec<T>(m.m ? a.v : b.v);
}
template <class T>
PE_INLINE Vec<T> select(Mask<T> m, double a, Vec<T> b) {
  return select(m, Vec<T>(a), b);
}
template <class T>
PE_INLINE Vec<T> select(Mask<T> m, Vec<T> a, double b) {
  return select(m, a, Vec<T>(b));
}

// a * b + c, rounded once where the instruction set has it.
template <class T>
PE_INLINE Vec<T> fma(Vec<T> a, Vec<T> b, Vec<T> c) {
#if defined(PE_ISA_AVX512)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((typename Vec<T>::Raw)(_mm512_fmadd_ps(a.v, b.v, c.v)));
  else
    return Vec<T>((typename Vec<T>::Raw)(_mm512_fmadd_pd(a.v, b.v, c.v)));
#elif defined(PE_ISA_AVX2)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((typename Vec<T>::Raw)(_mm256_fmadd_ps(a.v, b.v, c.v)));
  else
    return Vec<T>((typename Vec<T>::Raw)(_mm256_fmadd_pd(a.v, b.v, c.v)));
#elif defined(PE_ISA_NEON)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((typename Vec<T>::Raw)(vfmaq_f32(c.v, a.v, b.v)));
  else
    return Vec<T>((typename Vec<T>::Raw)(vfmaq_f64(c.v, a.v, b.v)));
#else
  return a * b + c;
#endif
}

template <class T>
PE_INLINE Vec<T> sqrt(Vec<T> a) {
#if defined(PE_ISA_AVX512)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((typename Vec<T>::Raw)(_mm512_maskz_sqrt_ps(0xffff, a.v)));
  else
    return Vec<T>((typename Vec<T>::Raw)(_mm512_maskz_sqrt_pd(0xff, a.v)));
#elif defined(PE_ISA_AVX2)
  if constexpr (sizeof(T) == 4)
    return Vec<T>((typename Vec<T>::Raw)(_mm256_sqrt_ps(a.v)));
  else
    return Vec<T>((typename Vec<T>::Raw)(_mm256_sqrt_pd(a.v)));
#else
  for (int i = 0; i < Vec<T>::width; ++i)
    a.v[i] = sizeof(T) == 4 ? T(__builtin_sqrtf(float(a.v[i]))) : T(__builtin_sqrt(a.v[i]));
  return a;
#endif
}

// The larger; b where either is NaN (hardware's rule; not NaN-propagating).
template <class T>
PE_INLINE Vec<T> vmax(Vec<T> a, Vec<T> b) {
  return select(a > b, a, b);
}
template <class T>
PE_INLINE Vec<T> vmin(Vec<T> a, Vec<T> b) {
  return select(a < b, a, b);
}

// Lanes added in a fixed tree: halves, then quarters, ...
template <class T>
PE_INLINE T horizontal_sum(Vec<T> a) {
#if defined(PE_ISA_AVX512) || defined(PE_ISA_AVX2)  // the same tree; GCC makes a scalar loop of the general form
  if constexpr (sizeof(T) == 4) {
#if defined(PE_ISA_AVX512)  // maskz: the plain form trips GCC's warning of uninitialized values
    const __m256 eight =
        _mm256_add_ps(_mm512_maskz_extractf32x8_ps(0xff, a.v, 0), _mm512_maskz_extractf32x8_ps(0xff, a.v, 1));
#else
    const __m256 eight = a.v;
#endif
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
  } else {
#if defined(PE_ISA_AVX512)
    const __m256d four =
        _mm256_add_pd(_mm512_maskz_extractf64x4_pd(0xf, a.v, 0), _mm512_maskz_extractf64x4_pd(0xf, a.v, 1));
#else
    const __m256d four = a.v;
#endif
    const __m128d two = _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
  }
#else
  T lane[Vec<T>::width];
  a.store(lane);
  for (int half = Vec<T>::width / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) lane[i] += lane[i + half];
  return lane[0];
#endif
}

// The first min(n, width) lanes, n > 0: one expression for the full vectors of a row and its tail.
template <class T>
PE_INLINE Vec<T> load_up_to(const T* p, int64_t n) {
  return n >= Vec<T>::width ? Vec<T>::load(p) : Vec<T>::load_partial(p, n);
}
template <class T>
PE_INLINE void store_up_to(T* p, int64_t n, Vec<T> a) {
  if (n >= Vec<T>::width)
    a.store(p);
  else
    a.store_partial(p, n);
}

template <class T>
PE_INLINE bool any(Mask<T> m) {
#if defined(PE_ISA_AVX512)
  return _mm512_test_epi32_mask((__m512i)m.m, (__m512i)m.m) != 0;
#elif defined(PE_ISA_AVX2)
  return _mm256_movemask_epi8((__m256i)m.m) != 0;
#else
  uint64_t half[2];
  static_assert(sizeof m.m == sizeof half);
  std::memcpy(half, &m.m, sizeof half);
  return (half[0] | half[1]) != 0;
#endif
}

// Half of a float vector as doubles, and back.
struct DoublePair {
  Vec<double> low, high;
};
typedef float HalfRaw __attribute__((vector_size(kVectorBytes / 2)));

PE_INLINE DoublePair widen(Vec<float> a) {
  HalfRaw half[2];
  std::memcpy(half, &a.v, sizeof half);
  return {Vec<double>(__builtin_convertvector(half[0], Vec<double>::Raw)),
          Vec<double>(__builtin_convertvector(half[1], Vec<double>::Raw))};
}
PE_INLINE Vec<float> narrow(DoublePair a) {
  const HalfRaw half[2] = {__builtin_convertvector(a.low.v, HalfRaw), __builtin_convertvector(a.high.v, HalfRaw)};
  Vec<float> r;
  std::memcpy(&r.v, half, sizeof half);
  return r;
}

}  // namespace pe::PE_ISA
