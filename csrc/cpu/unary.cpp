// Elementwise functions of one tensor, forward and backward: every row of kernels/unary.def over vector registers.
#include "cpu/integer.h"
#include "cpu/loop.h"
#include "cpu/simd_math.h"
#include "kernels/op_codes.h"

namespace pe::PE_ISA {

namespace {

// --- float32 and float64

#define UNARY(name, saved, forward_formula, backward_formula)                                                         \
  struct name##_op {                                                                                                  \
    template <class V>                                                                                                \
    static PE_INLINE V forward(V x, [[maybe_unused]] double p0, [[maybe_unused]] double p1) {                         \
      return forward_formula;                                                                                         \
    }                                                                                                                 \
    template <class V>                                                                                                \
    static PE_INLINE V backward(V dy, [[maybe_unused]] V s, [[maybe_unused]] double p0, [[maybe_unused]] double p1) { \
      return backward_formula;                                                                                        \
    }                                                                                                                 \
  };
#include "kernels/unary.def"
#undef UNARY

template <class T, class Op>
void forward_row(int64_t n, char* const* p, const int64_t* step, const double* params) {
  T* y = reinterpret_cast<T*>(p[0]);
  const T* x = reinterpret_cast<const T*>(p[1]);
  const double p0 = params[0], p1 = params[1];
  constexpr int64_t w = Vec<T>::width;
  const int64_t x_step = step[1] * w;
  for (; n > 0; n -= w, y += w, x += x_step) store_up_to(y, n, Op::forward(load_up_to(x, n), p0, p1));
}

template <class T, class Op>
void backward_row(int64_t n, char* const* p, const int64_t* step, const double* params) {
  T* dx = reinterpret_cast<T*>(p[0]);
  const T* dy = reinterpret_cast<const T*>(p[1]);
  const T* s = reinterpret_cast<const T*>(p[2]);
  const double p0 = params[0], p1 = params[1];
  constexpr int64_t w = Vec<T>::width;
  const int64_t dy_step = step[1] * w, s_step = step[2] * w;
  for (; n > 0; n -= w, dx += w, dy += dy_step, s += s_step)
    store_up_to(dx, n, Op::backward(load_up_to(dy, n), load_up_to(s, n), p0, p1));
}

template <class T>
Row forward_row_of(UnaryOp op) {
  switch (op) {
#define UNARY(name, ...) \
  case UnaryOp::name: return forward_row<T, name##_op>;
#include "kernels/unary.def"
#undef UNARY
  }
  return nullptr;
}

template <class T>
Row backward_row_of(UnaryOp op) {
  switch (op) {
#define UNARY(name, ...) \
  case UnaryOp::name: return backward_row<T, name##_op>;
#include "kernels/unary.def"
#undef UNARY
  }
  return nullptr;
}

// Rough cost of one element in nanoseconds: only decides whether threads are worth waking.
double cost(UnaryOp op, DType t) {
  switch (op) {
    case UnaryOp::abs:
    case UnaryOp::neg:
    case UnaryOp::sign:
    case UnaryOp::square:
    case UnaryOp::sqrt:
    case UnaryOp::rsqrt:
    case UnaryOp::reciprocal:
    case UnaryOp::floor:
    case UnaryOp::ceil:
    case UnaryOp::round:
    case UnaryOp::trunc:
    case UnaryOp::clamp:
    case UnaryOp::relu:
    case UnaryOp::relu6:
    case UnaryOp::leaky_relu:
    case UnaryOp::hardtanh:
    case UnaryOp::hardsigmoid:
    case UnaryOp::hardswish: return 0.15;
    case UnaryOp::tan:
    case UnaryOp::asin:
    case UnaryOp::acos:
    case UnaryOp::atan:
    case UnaryOp::sinh:
    case UnaryOp::cosh:
    case UnaryOp::asinh:
    case UnaryOp::acosh:
    case UnaryOp::atanh: return 10;
    default: return t == DType::Float64 ? 10 : 0.5;
  }
}

// --- integers and bool: the ops that keep the dtype (ops/unary.cpp converts for the others)

// A bound of clamp, made to fit T.
template <class T>
T bound(double p) {
  constexpr double kHighest = sizeof(T) == 8 ? 9223372036854775808.0 : sizeof(T) == 4 ? 2147483648.0 : 256.0;
  constexpr T kLast = sizeof(T) == 8 ? T(INT64_MAX) : sizeof(T) == 4 ? T(INT32_MAX) : T(255);
  constexpr T kFirst = Integer<T>::is_signed ? static_cast<T>(-kLast - 1) : T(0);
  if (p >= kHighest) return kLast;
  return p > static_cast<double>(kFirst) ? static_cast<T>(p) : kFirst;
}

template <class T, class F>
PE_INLINE void integer_loop(int64_t n, char* const* p, const int64_t* step, F f) {
  T* y = reinterpret_cast<T*>(p[0]);
  const T* x = reinterpret_cast<const T*>(p[1]);
  for (int64_t i = 0; i < n; i += kBroadcast, x += kBroadcast * step[1], y += kBroadcast) {
    const int64_t count = n - i < kBroadcast ? n - i : kBroadcast;
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) y[j] = f(x[j]);
  }
}

template <class T>
Row integer_row_of(UnaryOp op) {
#define PE_ROW(formula)                                                                              \
  return [](int64_t n, char* const* p, const int64_t* step, [[maybe_unused]] const double* params) { \
    integer_loop<T>(n, p, step, [](T x) { return static_cast<T>(formula); });                        \
  }
  switch (op) {
    case UnaryOp::abs: PE_ROW(x < T(0) ? (Integer<T>{T(0)} - Integer<T>{x}).v : x);
    case UnaryOp::neg: PE_ROW((Integer<T>{T(0)} - Integer<T>{x}).v);
    case UnaryOp::sign: PE_ROW((x > T(0)) - (x < T(0)));
    case UnaryOp::square: PE_ROW((Integer<T>{x} * Integer<T>{x}).v);
    case UnaryOp::relu: PE_ROW(x < T(0) ? T(0) : x);
    case UnaryOp::floor:
    case UnaryOp::ceil:
    case UnaryOp::round:
    case UnaryOp::trunc: PE_ROW(x);
    case UnaryOp::clamp:
      return [](int64_t n, char* const* p, const int64_t* step, const double* params) {
        const T low = bound<T>(params[0]), high = bound<T>(params[1]);
        integer_loop<T>(n, p, step, [low, high](T x) { return x < low ? low : x > high ? high : x; });
      };
    default: return nullptr;
  }
#undef PE_ROW
}

Row forward_row_of(UnaryOp op, DType t) {
  switch (t) {
    case DType::Float32: return forward_row_of<float>(op);
    case DType::Float64: return forward_row_of<double>(op);
    case DType::Int64: return integer_row_of<int64_t>(op);
    case DType::Int32: return integer_row_of<int32_t>(op);
    case DType::UInt8:
    case DType::Bool: return integer_row_of<uint8_t>(op);
  }
  return nullptr;
}

constexpr double kNoParams[2] = {0.0, 0.0};

}  // namespace

void unary(UnaryOp op, DType t, const Loop& loop, const double* params, const void* x, void* y) {
  run_loop(loop, forward_row_of(op, t), params ? params : kNoParams, cost(op, t), item_size(t), y, item_size(t), x);
}

void unary_backward(UnaryOp op, DType t, const Loop& loop, const double* params, const void* dy, const void* saved,
                    void* dx) {
  const Row row = t == DType::Float64 ? backward_row_of<double>(op) : backward_row_of<float>(op);
  Loop three = loop;
  if (saved == nullptr) {  // the op saves nothing; its formula does not look
    saved = dy;
    three.operands = 3;
    for (int d = 0; d < loop.ndim; ++d) three.stride[2][d] = loop.stride[1][d];
  }
  run_loop(three, row, params ? params : kNoParams, cost(op, t), item_size(t), dx, item_size(t), dy, item_size(t),
           saved);
}

}  // namespace pe::PE_ISA
