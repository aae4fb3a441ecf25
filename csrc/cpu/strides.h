// Positions in strided memory, and elements of which only the size matters.
#pragma once
#include "cpu/simd.h"

namespace pe::PE_ISA {

// The type to move elements of some size with.
template <int bytes>
struct Item;
template <>
struct Item<1> {
  typedef uint8_t Type __attribute__((may_alias));
};
template <>
struct Item<4> {
  typedef uint32_t Type __attribute__((may_alias));
};
template <>
struct Item<8> {
  typedef uint64_t Type __attribute__((may_alias));
};

// The offset of flat position i in a row-major list of dimensions.
PE_INLINE int64_t offset_of(int64_t i, int ndim, const int64_t* size, const int64_t* stride) {
  if (ndim == 1) return i * stride[0];
  int64_t offset = 0;
  for (int d = ndim - 1; d >= 0; --d) {
    offset += i % size[d] * stride[d];
    i /= size[d];
  }
  return offset;
}

}  // namespace pe::PE_ISA
