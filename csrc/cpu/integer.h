// Integer<T>: an element of an integer tensor whose arithmetic never traps and is never undefined. Overflow wraps, a
// zero divisor gives 0 (the op layer raises before), and a shift by a negative or too large count gives what shifting
// on and on would. For bool, + is or and * is and. Loops over it vectorize like loops over T.
#pragma once
#include <cstdint>

#include "cpu/simd.h"

namespace pe::PE_ISA {

template <class T>
struct Integer {
  T v;
  static constexpr int bits = 8 * static_cast<int>(sizeof(T));
  static constexpr bool is_signed = T(-1) < T(0);
};

// Sums and products are formed in unsigned 64 (or, as fast as T's vectors allow, 32) bits.
template <class T>
struct Wide {
  using Type = uint32_t;
};
template <>
struct Wide<int64_t> {
  using Type = uint64_t;
};

#define PE_INTEGER_OPERATOR(op)                                          \
  template <class T>                                                     \
  PE_INLINE Integer<T> operator op(Integer<T> a, Integer<T> b) {         \
    using U = typename Wide<T>::Type;                                    \
    return {static_cast<T>(static_cast<U>(a.v) op static_cast<U>(b.v))}; \
  }
PE_INTEGER_OPERATOR(+)
PE_INTEGER_OPERATOR(-)
PE_INTEGER_OPERATOR(*)
PE_INTEGER_OPERATOR(&)
PE_INTEGER_OPERATOR(|)
PE_INTEGER_OPERATOR(^)
#undef PE_INTEGER_OPERATOR

PE_INLINE Integer<bool> operator+(Integer<bool> a, Integer<bool> b) { return {a.v || b.v}; }
PE_INLINE Integer<bool> operator-(Integer<bool> a, Integer<bool> b) { return {a.v != b.v}; }

template <class T>
PE_INLINE Integer<T> maximum(Integer<T> a, Integer<T> b) {
  return a.v > b.v ? a : b;
}
template <class T>
PE_INLINE Integer<T> minimum(Integer<T> a, Integer<T> b) {
  return a.v < b.v ? a : b;
}

// Rounded towards zero. -1 is taken apart because the processor traps on the lowest number / -1.
template <class T>
PE_INLINE Integer<T> quotient(Integer<T> a, Integer<T> b) {
  if (b.v == 0) return {T(0)};
  if (Integer<T>::is_signed && b.v == T(-1)) return Integer<T>{T(0)} - a;
  return {static_cast<T>(a.v / b.v)};
}
template <class T>
PE_INLINE Integer<T> operator%(Integer<T> a, Integer<T> b) {
  if (b.v == 0 || (Integer<T>::is_signed && b.v == T(-1))) return {T(0)};
  return {static_cast<T>(a.v % b.v)};
}

// Python's // and %: rounded down, so the remainder has the divisor's sign.
template <class T>
PE_INLINE Integer<T> floor_remainder(Integer<T> a, Integer<T> b) {
  const Integer<T> m = a % b;
  return m.v != 0 && (m.v < T(0)) != (b.v < T(0)) ? m + b : m;
}
template <class T>
PE_INLINE Integer<T> floor_quotient(Integer<T> a, Integer<T> b) {
  const T m = (a % b).v;
  const Integer<T> q = quotient(a, b);
  return m != 0 && (m < T(0)) != (b.v < T(0)) ? q - Integer<T>{T(1)} : q;
}

// A negative exponent gives the truncated reciprocal: 0 unless the base is 1 or -1.
template <class T>
PE_INLINE Integer<T> integer_pow(Integer<T> a, Integer<T> b) {
  if (b.v < T(0)) {
    if (a.v == T(1)) return a;
    if (Integer<T>::is_signed && a.v == T(-1)) return (b & Integer<T>{T(1)}).v != 0 ? a : Integer<T>{T(1)};
    return {T(0)};
  }
  Integer<T> r{T(1)};
  for (uint64_t n = static_cast<uint64_t>(b.v); n != 0; n >>= 1) {
    if (n & 1) r = r * a;
    a = a * a;
  }
  return r;
}

template <class T>
PE_INLINE Integer<T> operator<<(Integer<T> a, Integer<T> b) {
  using U = typename Wide<T>::Type;
  const bool inside = b.v >= T(0) && static_cast<int64_t>(b.v) < Integer<T>::bits;
  return {inside ? static_cast<T>(static_cast<U>(a.v) << static_cast<U>(b.v)) : T(0)};
}
template <class T>
PE_INLINE Integer<T> operator>>(Integer<T> a, Integer<T> b) {  // keeps the sign
  const bool inside = b.v >= T(0) && static_cast<int64_t>(b.v) < Integer<T>::bits;
  return {static_cast<T>(a.v >> (inside ? static_cast<int>(b.v) : Integer<T>::bits - 1) >> (inside ? 0 : 1))};
}

}  // namespace pe::PE_ISA
