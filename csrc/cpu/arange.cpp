// y[i] = start + i * step.
#include "cpu/simd.h"
#include "kernels/op_codes.h"
#include "kernels/shapes.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {

namespace {

constexpr int64_t kPieceElements = 16384;

// Floats in double, so that the last element is as exact as the first; integers in wrapping 64 bits.
template <class T, class Number>
void arange_typed(int64_t n, Number start, Number step, T* y) {
  parallel_for((n + kPieceElements - 1) / kPieceElements, 0.3 * static_cast<double>(n), [=](int64_t piece) {
    const int64_t end = n - piece * kPieceElements < kPieceElements ? n : (piece + 1) * kPieceElements;
    for (int64_t i = piece * kPieceElements; i < end; ++i) y[i] = static_cast<T>(start + static_cast<Number>(i) * step);
  });
}

}  // namespace

void arange(DType t, int64_t n, double start, double step, void* y) {
  const uint64_t first = static_cast<uint64_t>(static_cast<int64_t>(start)),
                 add = static_cast<uint64_t>(static_cast<int64_t>(step));
  switch (t) {
    case DType::Float32: return arange_typed(n, start, step, static_cast<float*>(y));
    case DType::Float64: return arange_typed(n, start, step, static_cast<double*>(y));
    case DType::Int64: return arange_typed(n, first, add, static_cast<int64_t*>(y));
    case DType::Int32: return arange_typed(n, first, add, static_cast<int32_t*>(y));
    case DType::UInt8: return arange_typed(n, first, add, static_cast<uint8_t*>(y));
    case DType::Bool: return arange_typed(n, first, add, static_cast<bool*>(y));
  }
}

}  // namespace pe::PE_ISA
