// Element types. Plain enough for kernels to include: no standard containers, nothing but constants and small
// functions.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pe {

// The order is PyTorch's promotion order within a category; Float16 and BFloat16 will go before Float32.
enum class DType : uint8_t { Bool, UInt8, Int32, Int64, Float32, Float64 };
constexpr int kNumDTypes = 6;

constexpr size_t kItemSize[kNumDTypes] = {1, 1, 4, 8, 4, 8};
constexpr const char* kDTypeName[kNumDTypes] = {"bool", "uint8", "int32", "int64", "float32", "float64"};

constexpr size_t item_size(DType t) { return kItemSize[static_cast<int>(t)]; }
constexpr const char* dtype_name(DType t) { return kDTypeName[static_cast<int>(t)]; }
constexpr bool is_floating(DType t) { return t == DType::Float32 || t == DType::Float64; }
constexpr bool is_integral(DType t) { return t == DType::UInt8 || t == DType::Int32 || t == DType::Int64; }

// What Python floats and float results of integer operations become; float32 unless changed.
DType default_dtype();
void set_default_dtype(DType t);

}  // namespace pe
