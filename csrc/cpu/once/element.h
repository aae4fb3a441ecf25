// Elements as the kernels that are compiled once see them.
#pragma once
#include <cstdint>
#include <type_traits>

#include "tensor/dtype.h"

namespace pe::once {

// A stored bool: adding is or, multiplying is and, and a byte other than 0 and 1 is no undefined behaviour.
struct Bool {
  uint8_t value;
};

// Integers wrap around, in unsigned arithmetic because signed overflow is undefined.
template <class T>
T add(T a, T b) {
  if constexpr (std::is_same_v<T, Bool>)
    return {static_cast<uint8_t>((a.value | b.value) != 0)};
  else if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) + static_cast<std::make_unsigned_t<T>>(b));
  else
    return a + b;
}

template <class T>
T multiply(T a, T b) {
  if constexpr (std::is_same_v<T, Bool>)
    return {static_cast<uint8_t>(a.value != 0 && b.value != 0)};
  else if constexpr (std::is_integral_v<T>)
    return static_cast<T>(static_cast<std::make_unsigned_t<T>>(a) * static_cast<std::make_unsigned_t<T>>(b));
  else
    return a * b;
}

template <class T>
struct TypeTag {
  using type = T;
};

// f(TypeTag<T>()) with the element type of t.
template <class F>
void with_element_type(DType t, const F& f) {
  switch (t) {
    case DType::Bool: return f(TypeTag<Bool>());
    case DType::UInt8: return f(TypeTag<uint8_t>());
    case DType::Int32: return f(TypeTag<int32_t>());
    case DType::Int64: return f(TypeTag<int64_t>());
    case DType::Float32: return f(TypeTag<float>());
    case DType::Float64: return f(TypeTag<double>());
  }
}

// The same for moving elements, where only their size matters.
template <class F>
void with_item_size(size_t item, const F& f) {
  switch (item) {
    case 1: return f(TypeTag<uint8_t>());
    case 2: return f(TypeTag<uint16_t>());
    case 4: return f(TypeTag<uint32_t>());
    case 8: return f(TypeTag<uint64_t>());
  }
}

}  // namespace pe::once
