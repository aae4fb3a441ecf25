// Elementwise functions of two tensors: every row of kernels/binary.def, over vector registers for floats and over
// Integer<T> for integers and bool.
#include "cpu/integer.h"
#include "cpu/loop.h"
#include "cpu/simd_math_binary.h"
#include "kernels/op_codes.h"

namespace pe::PE_ISA {

namespace {

struct None {};
constexpr None NONE;  // a formula that does not exist; ops/binary.cpp never asks for it

template <class V>
constexpr bool kExists = true;
template <>
constexpr bool kExists<None> = false;

#define BINARY(name, float_formula, integer_formula)                                \
  struct name##_op {                                                                \
    template <class V>                                                              \
    static PE_INLINE auto on_floats([[maybe_unused]] V a, [[maybe_unused]] V b) {   \
      return float_formula;                                                         \
    }                                                                               \
    template <class I>                                                              \
    static PE_INLINE auto on_integers([[maybe_unused]] I a, [[maybe_unused]] I b) { \
      return integer_formula;                                                       \
    }                                                                               \
  };
#include "kernels/binary.def"
#undef BINARY

template <class T, class Op>
void float_row(int64_t n, char* const* p, const int64_t* step, const double*) {
  T* y = reinterpret_cast<T*>(p[0]);
  const T* a = reinterpret_cast<const T*>(p[1]);
  const T* b = reinterpret_cast<const T*>(p[2]);
  constexpr int64_t w = Vec<T>::width;
  const int64_t a_step = step[1] * w, b_step = step[2] * w;
  for (; n > 0; n -= w, y += w, a += a_step, b += b_step)
    store_up_to(y, n, Op::on_floats(load_up_to(a, n), load_up_to(b, n)));
}

template <class T, class Op>
void integer_row(int64_t n, char* const* p, const int64_t* step, const double*) {
  T* y = reinterpret_cast<T*>(p[0]);
  const T* a = reinterpret_cast<const T*>(p[1]);
  const T* b = reinterpret_cast<const T*>(p[2]);
  for (int64_t i = 0; i < n; i += kBroadcast, y += kBroadcast, a += kBroadcast * step[1], b += kBroadcast * step[2]) {
    const int64_t count = n - i < kBroadcast ? n - i : kBroadcast;
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) y[j] = Op::on_integers(Integer<T>{a[j]}, Integer<T>{b[j]}).v;
  }
}

template <class T, class Op>
Row float_row_or_null() {
  if constexpr (kExists<decltype(Op::on_floats(Vec<T>{}, Vec<T>{}))>)
    return float_row<T, Op>;
  else
    return nullptr;
}

template <class T, class Op>
Row integer_row_or_null() {
  if constexpr (kExists<decltype(Op::on_integers(Integer<T>{}, Integer<T>{}))>)
    return integer_row<T, Op>;
  else
    return nullptr;
}

template <class T>
Row float_row_of(BinaryOp op) {
  switch (op) {
#define BINARY(name, ...) \
  case BinaryOp::name: return float_row_or_null<T, name##_op>();
#include "kernels/binary.def"
#undef BINARY
  }
  return nullptr;
}

template <class T>
Row integer_row_of(BinaryOp op) {
  switch (op) {
#define BINARY(name, ...) \
  case BinaryOp::name: return integer_row_or_null<T, name##_op>();
#include "kernels/binary.def"
#undef BINARY
  }
  return nullptr;
}

Row row_of(BinaryOp op, DType t) {
  switch (t) {
    case DType::Float32: return float_row_of<float>(op);
    case DType::Float64: return float_row_of<double>(op);
    case DType::Int64: return integer_row_of<int64_t>(op);
    case DType::Int32: return integer_row_of<int32_t>(op);
    case DType::UInt8: return integer_row_of<uint8_t>(op);
    case DType::Bool: return integer_row_of<bool>(op);
  }
  return nullptr;
}

// Rough nanoseconds per element.
double cost(BinaryOp op) {
  switch (op) {
    case BinaryOp::pow:
    case BinaryOp::remainder:
    case BinaryOp::fmod:
    case BinaryOp::floor_divide:
    case BinaryOp::atan2: return 5;
    default: return 0.2;
  }
}

}  // namespace

void binary(BinaryOp op, DType t, const Loop& loop, const void* a, const void* b, void* y) {
  run_loop(loop, row_of(op, t), nullptr, cost(op), item_size(t), y, item_size(t), a, item_size(t), b);
}

}  // namespace pe::PE_ISA
