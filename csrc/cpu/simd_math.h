// Mathematical functions of Vec<float> and Vec<double>, by the names that kernels/unary.def and binary.def use.
// float32: vector code, polynomials fitted with the Remez algorithm to the reduced argument. "ulp" in a comment is the
// worst error measured against float64 over a dense sample of all floats (every 211th), with fma / without where they
// differ. float64 and the rare functions ask the C library lane by lane. Denormal inputs count as zero (kernels run in
// that mode).
#pragma once
#include "cpu/simd.h"

namespace pe::PE_ISA {

typedef uint32_t Bits32 __attribute__((vector_size(kVectorBytes)));
typedef uint64_t Bits64 __attribute__((vector_size(kVectorBytes)));

PE_INLINE Bits32 bits_of(Vec<float> a) { return (Bits32)a.v; }
PE_INLINE Bits64 bits_of(Vec<double> a) { return (Bits64)a.v; }
PE_INLINE Vec<float> from_bits(Bits32 b) { return Vec<float>((Vec<float>::Raw)b); }
PE_INLINE Vec<double> from_bits(Bits64 b) { return Vec<double>((Vec<double>::Raw)b); }

constexpr double kInfinity = __builtin_inf();
constexpr double kNaN = __builtin_nan("");

// c0 + c1 x + c2 x^2 + ...
template <class V>
PE_INLINE V polynomial(V, double c0) {
  return V(c0);
}
template <class V, class... Rest>
PE_INLINE V polynomial(V x, double c0, Rest... rest) {
  return fma(polynomial(x, rest...), x, V(c0));
}

// --- the C library, lane by lane

namespace {

template <class T, class F>
Vec<T> map_lanes(Vec<T> a, F f) {
  T x[Vec<T>::width];
  a.store(x);
  for (int i = 0; i < Vec<T>::width; ++i) x[i] = f(x[i]);
  return Vec<T>::load(x);
}

template <class T, class F>
Vec<T> map_lanes(Vec<T> a, Vec<T> b, F f) {
  T x[Vec<T>::width], y[Vec<T>::width];
  a.store(x);
  b.store(y);
  for (int i = 0; i < Vec<T>::width; ++i) x[i] = f(x[i], y[i]);
  return Vec<T>::load(x);
}

}  // namespace

#define PE_LIBRARY_DOUBLE(name)                                        \
  PE_INLINE Vec<double> name(Vec<double> a) {                          \
    return map_lanes(a, [](double x) { return __builtin_##name(x); }); \
  }
#define PE_LIBRARY(name)                                                 \
  PE_LIBRARY_DOUBLE(name)                                                \
  PE_INLINE Vec<float> name(Vec<float> a) {                              \
    return map_lanes(a, [](float x) { return __builtin_##name##f(x); }); \
  }
#define PE_LIBRARY2(name)                                                               \
  PE_INLINE Vec<double> name(Vec<double> a, Vec<double> b) {                            \
    return map_lanes(a, b, [](double x, double y) { return __builtin_##name(x, y); });  \
  }                                                                                     \
  PE_INLINE Vec<float> name(Vec<float> a, Vec<float> b) {                               \
    return map_lanes(a, b, [](float x, float y) { return __builtin_##name##f(x, y); }); \
  }
PE_LIBRARY(tan)
PE_LIBRARY(asin)
PE_LIBRARY(acos)
PE_LIBRARY(atan)
PE_LIBRARY(sinh)
PE_LIBRARY(cosh)
PE_LIBRARY(asinh)
PE_LIBRARY(acosh)
PE_LIBRARY(atanh)
PE_LIBRARY2(atan2)
PE_LIBRARY2(fmod)
PE_LIBRARY_DOUBLE(exp)
PE_LIBRARY_DOUBLE(exp2)
PE_LIBRARY_DOUBLE(expm1)
PE_LIBRARY_DOUBLE(log)
PE_LIBRARY_DOUBLE(log2)
PE_LIBRARY_DOUBLE(log10)
PE_LIBRARY_DOUBLE(log1p)
PE_LIBRARY_DOUBLE(sin)
PE_LIBRARY_DOUBLE(cos)
PE_LIBRARY_DOUBLE(tanh)
PE_LIBRARY_DOUBLE(erf)
#undef PE_LIBRARY
#undef PE_LIBRARY2
#undef PE_LIBRARY_DOUBLE

// --- rounding; round is half to even

#if defined(PE_ISA_AVX512)
#define PE_ROUNDING(name, mode, neon, library)                                             \
  PE_INLINE Vec<float> name(Vec<float> a) {                                                \
    return Vec<float>((Vec<float>::Raw)_mm512_maskz_roundscale_ps(0xffff, a.v, mode | 8)); \
  }                                                                                        \
  PE_INLINE Vec<double> name(Vec<double> a) {                                              \
    return Vec<double>((Vec<double>::Raw)_mm512_maskz_roundscale_pd(0xff, a.v, mode | 8)); \
  }
#elif defined(PE_ISA_AVX2)
#define PE_ROUNDING(name, mode, neon, library)                                                                    \
  PE_INLINE Vec<float> name(Vec<float> a) { return Vec<float>((Vec<float>::Raw)_mm256_round_ps(a.v, mode | 8)); } \
  PE_INLINE Vec<double> name(Vec<double> a) { return Vec<double>((Vec<double>::Raw)_mm256_round_pd(a.v, mode | 8)); }
#elif defined(PE_ISA_NEON)
#define PE_ROUNDING(name, mode, neon, library)                                                     \
  PE_INLINE Vec<float> name(Vec<float> a) { return Vec<float>((Vec<float>::Raw)neon##_f32(a.v)); } \
  PE_INLINE Vec<double> name(Vec<double> a) { return Vec<double>((Vec<double>::Raw)neon##_f64(a.v)); }
#else
#define PE_ROUNDING(name, mode, neon, library)                              \
  PE_INLINE Vec<float> name(Vec<float> a) {                                 \
    return map_lanes(a, [](float x) { return __builtin_##library##f(x); }); \
  }                                                                         \
  PE_INLINE Vec<double> name(Vec<double> a) {                               \
    return map_lanes(a, [](double x) { return __builtin_##library(x); });   \
  }
#endif
PE_ROUNDING(round, 0, vrndnq, rint)
PE_ROUNDING(floor, 1, vrndmq, floor)
PE_ROUNDING(ceil, 2, vrndpq, ceil)
PE_ROUNDING(trunc, 3, vrndq, trunc)
#undef PE_ROUNDING

// --- signs and comparisons

PE_INLINE Vec<float> abs(Vec<float> a) { return from_bits(bits_of(a) & 0x7fffffffu); }
PE_INLINE Vec<double> abs(Vec<double> a) { return from_bits(bits_of(a) & 0x7fffffffffffffffull); }
PE_INLINE Vec<float> copysign(Vec<float> a, Vec<float> sign) {
  return from_bits((bits_of(a) & 0x7fffffffu) | (bits_of(sign) & 0x80000000u));
}
PE_INLINE Vec<double> copysign(Vec<double> a, Vec<double> sign) {
  return from_bits((bits_of(a) & 0x7fffffffffffffffull) | (bits_of(sign) & 0x8000000000000000ull));
}
PE_INLINE Vec<float> with_sign_of(Vec<float> sign, Vec<float> a) {  // for a >= 0
  return from_bits(bits_of(a) | (bits_of(sign) & 0x80000000u));
}
template <class T>
PE_INLINE Vec<T> sign(Vec<T> a) {  // 0 for NaN, as PyTorch
  return select(a > 0.0, Vec<T>(1.0), select(a < 0.0, Vec<T>(-1.0), Vec<T>(0.0)));
}
template <class T>
PE_INLINE Vec<T> maximum(Vec<T> a, Vec<T> b) {  // NaN if either is
  return select((a > b) | (a != a), a, b);
}
template <class T>
PE_INLINE Vec<T> minimum(Vec<T> a, Vec<T> b) {
  return select((a < b) | (a != a), a, b);
}

// --- exponentials

// The integer nearest to a, |a| < 2^22, as a float and in the low bits of `bits`: adding 1.5 * 2^23 leaves no fraction
// bits.
struct Nearest {
  Vec<float> value;
  Bits32 bits;
};
PE_INLINE Nearest nearest(Vec<float> a) {
  const Vec<float> shifted = a + 12582912.0;
  return {shifted - 12582912.0, bits_of(shifted)};
}
PE_INLINE Vec<float> power_of_two(Bits32 n) {
  return from_bits((n + 127u) << 23);
}  // -126 <= n <= 127; upper bits are lost

// a 2^n for any n that a finite exponential can have; under- and overflow as they should.
PE_INLINE Vec<float> scale(Vec<float> a, Nearest n) {
#if defined(PE_ISA_AVX512)
  return Vec<float>((Vec<float>::Raw)_mm512_maskz_scalef_ps(0xffff, a.v, n.value.v));
#else
  const Bits32 half = (Bits32)((Vec<float>::IntRaw)(n.bits << 10) >> 11);  // n / 2 rounded down, sign kept
  return a * power_of_two(half) * power_of_two(n.bits - half);
#endif
}

constexpr double kLog2E = 1.44269504088896340736;
// ln 2 in two parts, the first so short that n times it is exact
constexpr double kLn2High = 0.693359375, kLn2Low = -2.12194440054690583e-4;

// 1.02 ulp
PE_INLINE Vec<float> exp(Vec<float> x) {
  x = vmin(Vec<float>(89.0), vmax(Vec<float>(-104.0), x));  // the order of the operands lets NaN through
  const Nearest n = nearest(x * kLog2E);
  const Vec<float> r = fma(n.value, Vec<float>(-kLn2Low), fma(n.value, Vec<float>(-kLn2High), x));
  const Vec<float> q =
      polynomial(r, 0.500000010097, 0.166665128905, 0.0416661872775, 0.00836959821943, 0.00139517185782);
  return scale(fma(r * r, q, r) + 1.0, n);
}

// 2^r for |r| <= 1/2
PE_INLINE Vec<float> exp2_reduced(Vec<float> r) {
  const Vec<float> q = polynomial(r, 0.693147206553, 0.240226513566, 0.055503271273, 0.00961800261072, 0.00134005369289,
                                  0.000154766554696);
  return fma(r, q, Vec<float>(1.0));
}

// 0.95 / 1.24 ulp
PE_INLINE Vec<float> exp2(Vec<float> x) {
  x = vmin(Vec<float>(129.0), vmax(Vec<float>(-151.0), x));
  const Nearest n = nearest(x);
  return scale(exp2_reduced(x - n.value), n);
}

// exp(r) - 1 for |r| <= ln(2) / 2
PE_INLINE Vec<float> expm1_reduced(Vec<float> r) {
  const Vec<float> q = polynomial(r, 0.500000004923, 0.166666668269, 0.0416663421373, 0.00833327050512,
                                  0.00139420458957, 0.000199156796159);
  return fma(r * r, q, r);
}

// 1.40 / 1.45 ulp
PE_INLINE Vec<float> expm1(Vec<float> x) {
  const Vec<float> clamped = vmin(Vec<float>(89.0), vmax(Vec<float>(-20.0), x));
  const Nearest n = nearest(clamped * kLog2E);
  const Vec<float> r = fma(n.value, Vec<float>(-kLn2Low), fma(n.value, Vec<float>(-kLn2High), clamped));
  // 2^n (p + 1) - 1, with half of 2^n because n may be 128
  const Vec<float> half = power_of_two(n.bits - 1u);
  const Vec<float> y = fma(expm1_reduced(r), half, half - 0.5) * 2.0;
  return select(abs(x) < 1e-8, x, y);
}

// tanh |x| = e / (e + 2), e = expm1(2 |x|); no cancellation, and one division. 2.35 ulp
PE_INLINE Vec<float> tanh(Vec<float> x) {
  const Vec<float> a = vmin(Vec<float>(10.0), abs(x));
  const Vec<float> twice = a + a;
  const Nearest n = nearest(twice * kLog2E);
  const Vec<float> r = fma(n.value, Vec<float>(-kLn2Low), fma(n.value, Vec<float>(-kLn2High), twice));
  const Vec<float> s = power_of_two(n.bits);
  const Vec<float> e = fma(expm1_reduced(r), s, s - 1.0);
  return with_sign_of(x, e / (e + 2.0));
}

// 2.30 / 2.43 ulp
template <class T>
PE_INLINE Vec<T> sigmoid(Vec<T> x) {
  return 1.0 / (exp(-x) + 1.0);
}

// --- logarithms

// x = 2^exponent (1 + f), f in [sqrt(1/2) - 1, sqrt(2) - 1]; for x > 0, normal and finite
struct LogParts {
  Vec<float> exponent, f;
};
PE_INLINE LogParts log_parts(Vec<float> x) {
  constexpr uint32_t kOne = 0x3f800000u, kRootHalf = 0x3f3504f3u;
  const Bits32 b = bits_of(x) + (kOne - kRootHalf);
  const auto e = (Vec<float>::IntRaw)(b >> 23) - 127;
  return {Vec<float>(__builtin_convertvector(e, Vec<float>::Raw)), from_bits((b & 0x7fffffu) + kRootHalf) - 1.0};
}

// log(1 + f) - f
PE_INLINE Vec<float> log_remainder(Vec<float> f) {
  const Vec<float> z = f * f;
  const Vec<float> p = polynomial(f, 0.333333316906, -0.250008209993, 0.200012277653, -0.16623359376, 0.142017438407,
                                  -0.13160150119, 0.127616484775, -0.0763466025794);
  return fma(z * f, p, z * -0.5);
}

// What every logarithm of base > 1 gives at and below zero, at infinity and NaN; y elsewhere.
PE_INLINE Vec<float> log_edges(Vec<float> x, Vec<float> y) {
  y = select(x < kInfinity, y, x);
  y = select(x < 1.17549435e-38, Vec<float>(-kInfinity), y);
  return select(x < 0.0, Vec<float>(kNaN), y);
}

// 0.83 / 0.89 ulp
PE_INLINE Vec<float> log(Vec<float> x) {
  const LogParts p = log_parts(x);
  const Vec<float> y = fma(p.exponent, Vec<float>(kLn2Low), log_remainder(p.f)) + p.f;
  return log_edges(x, fma(p.exponent, Vec<float>(kLn2High), y));
}

// log2(m) = log(m) + (log2(e) - 1) log(m): the rounding of the product counts less than half. 1.31 / 1.38 ulp
PE_INLINE Vec<float> log2(Vec<float> x) {
  const LogParts p = log_parts(x);
  const Vec<float> rest = log_remainder(p.f);
  Vec<float> y = fma(rest, Vec<float>(kLog2E - 1.0), p.f * (kLog2E - 1.0));
  y = y + rest;
  y = y + p.f;
  return log_edges(x, y + p.exponent);
}

// 1.81 ulp
PE_INLINE Vec<float> log10(Vec<float> x) {
  constexpr double kLog10E = 0.434294481903251827651, kLog10TwoHigh = 0.30078125, kLog10TwoLow = 2.48745663981195e-4;
  const LogParts p = log_parts(x);
  const Vec<float> y = (log_remainder(p.f) + p.f) * kLog10E;
  return log_edges(x, fma(p.exponent, Vec<float>(kLog10TwoHigh), fma(p.exponent, Vec<float>(kLog10TwoLow), y)));
}

// With u = 1 + x rounded, the rounding error of u is put back into f. 1.44 ulp
PE_INLINE Vec<float> log1p(Vec<float> x) {
  const Vec<float> u = x + 1.0;
  const Vec<float> error = select(x < 1.0, x - (u - 1.0), 1.0 - (u - x));
  LogParts p = log_parts(u);
  p.f = p.f + error / u * (p.f + 1.0);  // error 2^-exponent
  const Vec<float> y = fma(p.exponent, Vec<float>(kLn2Low), log_remainder(p.f)) + p.f;
  return select(abs(x) < 1e-8, x, log_edges(u, fma(p.exponent, Vec<float>(kLn2High), y)));
}

// 1.66 ulp
template <class T>
PE_INLINE Vec<T> log_sigmoid(Vec<T> x) {
  return select(x < 0.0, x, 0.0) - log1p(exp(-abs(x)));
}

// --- sine and cosine

// a * b + c with an exact product, also where there is no fma.
PE_INLINE Vec<float> fma_exact(Vec<float> a, Vec<float> b, Vec<float> c) {
#if defined(PE_ISA_AVX512) || defined(PE_ISA_AVX2) || defined(PE_ISA_NEON)
  return fma(a, b, c);
#else
  const DoublePair x = widen(a), y = widen(b), z = widen(c);
  return narrow({x.low * y.low + z.low, x.high * y.high + z.high});
#endif
}

// sin(x + quarter pi/2). Cody and Waite's reduction: x - n pi/2, with pi/2 in three parts, good to the last bit up to
// 1e5; beyond, the C library. 1.54 ulp, the cosine 1.57
PE_INLINE Vec<float> sin_shifted(Vec<float> x, uint32_t quarter) {
  const Nearest n = nearest(x * 0.636619772367581343076);
  Vec<float> r = fma_exact(n.value, Vec<float>(-1.57079637050628662109375), x);
  r = fma_exact(n.value, Vec<float>(4.37113900018624283e-8), r);
  r = fma_exact(n.value, Vec<float>(1.71512451000563665e-15), r);
  const Vec<float> z = r * r;
  const Vec<float> sine =
      fma(r * z, polynomial(z, -0.166666666415, 0.00833332937412, -0.000198393309941, 2.7182744449e-6), r);
  const Vec<float> cosine =
      fma(z * z, polynomial(z, 0.0416666468107, -0.00138873646627, 2.4438109976e-5), 1.0 - z * 0.5);
  const Bits32 q = n.bits + quarter;
  const Mask<float> odd = {(q & 1u) != 0u};
  return from_bits(bits_of(select(odd, cosine, sine)) ^ ((q & 2u) << 30));
}

PE_INLINE Vec<float> sin(Vec<float> x) {
  Vec<float> y = select(x == 0.0, x, sin_shifted(x, 0));
  const Mask<float> near = abs(x) <= 1e5;
  if (any(Mask<float>{~near.m})) y = select(near, y, map_lanes(x, [](float v) { return __builtin_sinf(v); }));
  return y;
}

PE_INLINE Vec<float> cos(Vec<float> x) {
  Vec<float> y = sin_shifted(x, 1);
  const Mask<float> near = abs(x) <= 1e5;
  if (any(Mask<float>{~near.m})) y = select(near, y, map_lanes(x, [](float v) { return __builtin_cosf(v); }));
  return y;
}

// --- error function: an odd polynomial below 0.9, 1 - 2^u(|x|) above, and 1 from 3.95 on. Where erf is near 1 a
// quotient of polynomials would lose several bits; here the error of 2^u hardly counts. 2.43 ulp
PE_INLINE Vec<float> erf(Vec<float> x) {
  const Vec<float> a = vmin(Vec<float>(3.95), abs(x));
  const Vec<float> t = a * a;
  const Vec<float> near_zero = a * polynomial(t, 1.1283791538, -0.376125232772, 0.112821408209, -0.0267789092094,
                                              0.00501196320219, -0.000609036169977);
  const Vec<float> u = polynomial(a, -0.000240155881918, -1.62706738349, -0.918962435002, -0.150204094499,
                                  0.0321939443434, -0.00442253937752, 0.000285967376748);
  const Nearest n = nearest(u);
  const Vec<float> minus_scale = from_bits((n.bits + (256u + 127u)) << 23);
  const Vec<float> beyond = fma(exp2_reduced(u - n.value), minus_scale, Vec<float>(1.0));
  return with_sign_of(x, select(a < 0.9, near_zero, beyond));
}

// --- the normal distribution function: 2^v(|x|) below zero, v a polynomial, and 1 - that of -x above; nothing from -6
// on. 3.1 ulp above -1 and 0.8 epsilons of 1 everywhere; in the negative tail the error grows with |v|, to 65 ulp at
// -6. This is the form that gelu needs: 1 + erf would lose all digits of the tail, and take two polynomials.
PE_INLINE Vec<float> ndtr(Vec<float> x) {
  const Vec<float> a = vmin(Vec<float>(6.0), abs(x));
  const Vec<float> v =
      polynomial(a, -1.0, -1.15110591387, -0.459202209379, -0.0525072681136, 0.00705571206722, -9.63775688181e-5,
                 -2.30471869896e-4, 6.15853126062e-5, -8.34338003966e-6, 6.09542036032e-7, -1.89903895053e-8);
  const Nearest n = nearest(v);
  const Vec<float> tail = select(a >= 6.0, 0.0, exp2_reduced(v - n.value) * power_of_two(n.bits));
  return select(x < 0.0, tail, 1.0 - tail);
}
PE_INLINE Vec<double> ndtr(Vec<double> x) {
  return map_lanes(x, [](double v) { return 0.5 * __builtin_erfc(v * -0.707106781186547524401); });
}

}  // namespace pe::PE_ISA
