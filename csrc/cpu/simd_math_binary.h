// Mathematical functions of two vectors: what kernels/binary.def needs beyond cpu/simd_math.h.
#pragma once
#include "cpu/simd_math.h"

namespace pe::PE_ISA {

// --- powers: exp2(y log2 x) in double, since y multiplies the logarithm's error. 0.501 ulp

// For x >= 0 that came from a float; log2(0) is about -1075, which is small enough.
PE_INLINE Vec<double> log2_positive(Vec<double> x) {
  constexpr uint64_t kOne = 0x3ff0000000000000ull, kRootHalf = 0x3fe6a09e667f3bcdull;
  const Bits64 b = bits_of(x) + (kOne - kRootHalf);
  // the biased exponent as a double: its bits under those of 1.5 * 2^52
  const Vec<double> e = from_bits((b >> 52) + 0x4338000000000000ull) - (6755399441055744.0 + 1023.0);
  const Vec<double> m = from_bits((b & 0xfffffffffffffull) + kRootHalf);
  const Vec<double> s = (m - 1.0) / (m + 1.0), z = s * s;
  const Vec<double> p = polynomial(z, 0.666666666758200411, 0.399999956147823163, 0.285721099603999764,
                                   0.221761530462087996, 0.195846939083291924);
  return fma(fma(s * z, p, s + s), Vec<double>(kLog2E), e);
}

PE_INLINE Vec<double> exp2_clamped(Vec<double> x) {
  x = vmin(Vec<double>(200.0), vmax(Vec<double>(-200.0), x));
  const Vec<double> shifted = x + 6755399441055744.0;
  const Vec<double> r = x - (shifted - 6755399441055744.0);
  const Vec<double> p =
      polynomial(r, 1.0, 0.693147180545932064, 0.240226506955468055, 0.0555041094159449299, 0.00961812922108598958,
                 0.00133334500452315218, 0.000154034143772954284, 0.0000153102401144263126, 1.32637207383380676e-6);
  return p * from_bits((bits_of(shifted) + 1023u) << 52);
}

PE_INLINE Vec<float> pow(Vec<float> x, Vec<float> y) {
  const Vec<float> a = abs(x), size = abs(y);
  const DoublePair wide_a = widen(a), wide_y = widen(y);
  Vec<float> r = narrow(
      {exp2_clamped(log2_positive(wide_a.low) * wide_y.low), exp2_clamped(log2_positive(wide_a.high) * wide_y.high)});
  const Mask<float> zero = a < 1.17549435e-38, infinite = a == kInfinity;
  const Vec<float> at_infinity = select(y > 0.0, Vec<float>(kInfinity), Vec<float>(0.0));
  r = select(infinite, at_infinity, r);
  r = select(zero, select(y > 0.0, Vec<float>(0.0), Vec<float>(kInfinity)), r);
  // y = +-infinity: 0, 1 or infinity as |x| is on one side of 1 or the other
  const Mask<float> grows = {((a > 1.0).m ^ (y < 0.0).m)};
  r = select(size == kInfinity,
             select(a == 1.0, Vec<float>(1.0), select(grows, Vec<float>(kInfinity), Vec<float>(0.0))), r);
  // negative x: the sign of an odd y; NaN unless y is an integer (every float from 2^23 is one, from 2^24 even)
  const Mask<float> integer = (trunc(y) == y) | (size >= 8388608.0);
  const Vec<float> half = y * 0.5;
  const Mask<float> odd = {integer.m & (trunc(half) != half).m & (size < 16777216.0).m};
  const Mask<float> negative = {(Vec<float>::IntRaw)(bits_of(x)) < 0};
  r = select(negative & odd, -r, r);
  r = select(Mask<float>{(x < 0.0).m & ~integer.m & ~infinite.m & ~zero.m}, Vec<float>(kNaN), r);
  r = select((x != x) | (y != y), x + y, r);
  return select((x == 1.0) | (size < 1.17549435e-38), Vec<float>(1.0), r);
}

PE_INLINE Vec<double> pow(Vec<double> a, Vec<double> b) {
  return map_lanes(a, b, [](double x, double y) { return __builtin_pow(x, y); });
}

// --- Python's remainder and floor division, as PyTorch computes them

template <class T>
PE_INLINE Vec<T> remainder(Vec<T> a, Vec<T> b) {
  const Vec<T> m = fmod(a, b);
  const Mask<T> differ = {(m < 0.0).m ^ (b < 0.0).m};
  return select((m != 0.0) & differ, m + b, m);
}

template <class T>
PE_INLINE Vec<T> floor_divide(Vec<T> a, Vec<T> b) {
  const Vec<T> m = fmod(a, b);
  const Mask<T> differ = {(m < 0.0).m ^ (b < 0.0).m};
  Vec<T> q = (a - m) / b;
  q = select((m != 0.0) & differ, q - 1.0, q);
  const Vec<T> low = floor(q);
  const Vec<T> rounded = select(q - low > 0.5, low + 1.0, low);
  const Vec<T> quotient = a / b;
  return select(b == 0.0, quotient, select(q != 0.0, rounded, copysign(Vec<T>(0.0), quotient)));
}

}  // namespace pe::PE_ISA
