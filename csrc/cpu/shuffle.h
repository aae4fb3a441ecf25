// Rearranging the lanes of two vectors: every second lane, and its inverse.
#pragma once
#include "cpu/simd.h"

namespace pe::PE_ISA {

// Lanes 0, 2, 4, ... of a, then of b.
template <class T>
PE_INLINE Vec<T> even_lanes(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::width == 16)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30));
  else if constexpr (Vec<T>::width == 8)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 0, 2, 4, 6, 8, 10, 12, 14));
  else if constexpr (Vec<T>::width == 4)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 0, 2, 4, 6));
  else
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 0, 2));
}

// Lanes 1, 3, 5, ... of a, then of b.
template <class T>
PE_INLINE Vec<T> odd_lanes(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::width == 16)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31));
  else if constexpr (Vec<T>::width == 8)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 1, 3, 5, 7, 9, 11, 13, 15));
  else if constexpr (Vec<T>::width == 4)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 1, 3, 5, 7));
  else
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 1, 3));
}

// a0 b0 a1 b1 ...: the first half of the lanes.
template <class T>
PE_INLINE Vec<T> interleave_low(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::width == 16)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23));
  else if constexpr (Vec<T>::width == 8)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 0, 8, 1, 9, 2, 10, 3, 11));
  else if constexpr (Vec<T>::width == 4)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 0, 4, 1, 5));
  else
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 0, 2));
}

// The second half.
template <class T>
PE_INLINE Vec<T> interleave_high(Vec<T> a, Vec<T> b) {
  if constexpr (Vec<T>::width == 16)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31));
  else if constexpr (Vec<T>::width == 8)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 4, 12, 5, 13, 6, 14, 7, 15));
  else if constexpr (Vec<T>::width == 4)
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 2, 6, 3, 7));
  else
    return Vec<T>(__builtin_shufflevector(a.v, b.v, 1, 3));
}

// The first n lanes, 0 <= n <= width; a whole vector takes the short way.
template <class T>
PE_INLINE Vec<T> load_lanes(const T* p, int64_t n) {
  return n >= Vec<T>::width ? Vec<T>::load(p) : Vec<T>::load_partial(p, n);
}
template <class T>
PE_INLINE void store_lanes(Vec<T> v, T* p, int64_t n) {
  if (n >= Vec<T>::width)
    v.store(p);
  else
    v.store_partial(p, n);
}

// The 2n elements from p on as n even and n odd ones, 0 < n <= width.
template <class T>
PE_INLINE void load_pairs(const T* p, int64_t n, Vec<T>& even, Vec<T>& odd) {
  constexpr int64_t width = Vec<T>::width;
  const Vec<T> low = load_lanes(p, 2 * n), high = 2 * n > width ? load_lanes(p + width, 2 * n - width) : Vec<T>(0.0);
  even = even_lanes(low, high);
  odd = odd_lanes(low, high);
}

template <class T>
PE_INLINE void store_pairs(Vec<T> even, Vec<T> odd, T* p, int64_t n) {
  constexpr int64_t width = Vec<T>::width;
  store_lanes(interleave_low(even, odd), p, 2 * n);
  if (2 * n > width) store_lanes(interleave_high(even, odd), p + width, 2 * n - width);
}

}  // namespace pe::PE_ISA
