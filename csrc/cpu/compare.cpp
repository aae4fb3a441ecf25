// Kernels whose result or condition is bool: comparisons, tests of one value, where.
#include "cpu/loop.h"
#include "kernels/op_codes.h"

namespace pe::PE_ISA {

namespace {

// y[i] = f(a[i], b[i]), in blocks so that a broadcast operand stays where it is. Plain loops: GCC's vectorizer packs
// the comparison masks of any element size into bytes.
template <class Y, class A, class B, class F>
PE_INLINE void plain_loop(int64_t n, char* const* p, const int64_t* step, F f) {
  Y* y = reinterpret_cast<Y*>(p[0]);
  const A* a = reinterpret_cast<const A*>(p[1]);
  const B* b = reinterpret_cast<const B*>(p[2]);
  for (int64_t i = 0; i < n; i += kBroadcast, y += kBroadcast, a += kBroadcast * step[1], b += kBroadcast * step[2]) {
    const int64_t count = n - i < kBroadcast ? n - i : kBroadcast;
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) y[j] = f(a[j], b[j]);
  }
}

template <class T>
Row compare_row_of(CompareOp op) {
#define PE_ROW(code, formula)                                                                        \
  case CompareOp::code:                                                                              \
    return [](int64_t n, char* const* p, const int64_t* step, const double*) {                       \
      plain_loop<uint8_t, T, T>(n, p, step, [](T a, T b) { return static_cast<uint8_t>(formula); }); \
    };
  switch (op) {
    PE_ROW(eq, a == b)
    PE_ROW(ne, a != b)
    PE_ROW(lt, a < b)
    PE_ROW(le, a <= b)
    PE_ROW(gt, a > b)
    PE_ROW(ge, a >= b)
  }
#undef PE_ROW
  return nullptr;
}

template <class T>
Row test_row_of(UnaryTest op) {
  constexpr bool kFloating = T(0.5) != T(0);
  constexpr T kHighest = kFloating ? static_cast<T>(sizeof(T) == 4 ? __FLT_MAX__ : __DBL_MAX__) : T(0);
#define PE_ROW(code, formula)                                                                           \
  case UnaryTest::code:                                                                                 \
    return [](int64_t n, char* const* p, const int64_t* step, const double*) {                          \
      char* const three[3] = {p[0], p[1], p[1]};                                                        \
      const int64_t steps[3] = {1, step[1], step[1]};                                                   \
      plain_loop<uint8_t, T, T>(n, three, steps, [](T x, T) { return static_cast<uint8_t>(formula); }); \
    };
  switch (op) {
    PE_ROW(isnan, x != x)
    PE_ROW(isinf, kFloating && (x > kHighest || x < -kHighest))
    PE_ROW(isfinite, !kFloating || (x <= kHighest && x >= -kHighest))
    PE_ROW(logical_not, x == T(0))
  }
#undef PE_ROW
  return nullptr;
}

// where's operands are y, condition, a, b; only the size of an item matters.
template <int bytes>
void where_row(int64_t n, char* const* p, const int64_t* step, const double*) {
  using U = typename Item<bytes>::Type;
  U* y = reinterpret_cast<U*>(p[0]);
  const uint8_t* condition = reinterpret_cast<const uint8_t*>(p[1]);
  const U* a = reinterpret_cast<const U*>(p[2]);
  const U* b = reinterpret_cast<const U*>(p[3]);
  for (int64_t i = 0; i < n; i += kBroadcast) {
    const int64_t count = n - i < kBroadcast ? n - i : kBroadcast;
#pragma GCC ivdep
    for (int64_t j = 0; j < count; ++j) {
      const U from_a = a[j], from_b = b[j];
      y[j] = condition[j] != 0 ? from_a : from_b;
    }
    y += kBroadcast, condition += kBroadcast * step[1], a += kBroadcast * step[2], b += kBroadcast * step[3];
  }
}

#define PE_BY_DTYPE(f, t, op)                  \
  switch (t) {                                 \
    case DType::Float32: return f<float>(op);  \
    case DType::Float64: return f<double>(op); \
    case DType::Int64: return f<int64_t>(op);  \
    case DType::Int32: return f<int32_t>(op);  \
    case DType::UInt8:                         \
    case DType::Bool: return f<uint8_t>(op);   \
  }                                            \
  return nullptr;
Row compare_row_of(CompareOp op, DType t){PE_BY_DTYPE(compare_row_of, t, op)} Row test_row_of(UnaryTest op, DType t) {
  PE_BY_DTYPE(test_row_of, t, op)
}
#undef PE_BY_DTYPE

}  // namespace

void compare(CompareOp op, DType t, const Loop& loop, const void* a, const void* b, void* y) {
  run_loop(loop, compare_row_of(op, t), nullptr, 0.2, 1, y, item_size(t), a, item_size(t), b);
}

void unary_test(UnaryTest op, DType t, const Loop& loop, const void* x, void* y) {
  run_loop(loop, test_row_of(op, t), nullptr, 0.2, 1, y, item_size(t), x);
}

void where(DType t, const Loop& loop, const void* condition, const void* a, const void* b, void* y) {
  const size_t bytes = item_size(t);
  const Row row = bytes == 1 ? where_row<1> : bytes == 4 ? where_row<4> : where_row<8>;
  run_loop(loop, row, nullptr, 0.2, bytes, y, 1, condition, bytes, a, bytes, b);
}

}  // namespace pe::PE_ISA
