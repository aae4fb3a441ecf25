// What a reduction does with a run of contiguous elements and with rows of columns; cpu/reduce.cpp walks the memory.
// float32 is accumulated in float32 over short blocks and the blocks in double, so the error of a sum stays near one
// rounding for any length.
#pragma once
#include "cpu/simd_math.h"
#include "kernels/op_codes.h"
#include "kernels/shapes.h"

namespace pe::PE_ISA {

// Floating dtypes accumulate in f, integers and bool in i.
union Accumulator {
  double f;
  int64_t i;
};

// One op on one dtype. Functions behind pointers: the code that walks the memory exists once, not once per op and
// dtype.
struct Reducer {
  size_t x_bytes, y_bytes;
  Accumulator identity;
  void (*row)(const void* x, int64_t n, Accumulator* total);  // total = combine(total, x[0 .. n))
  // a[r] = x[r * row_stride .. + n) reduced, for rows too short for a call each
  void (*rows)(const void* x, int64_t rows, int64_t row_stride, int64_t n, Accumulator* a);
  // a[c] = combine(a[c], x[r * row_stride + c]) for all rows r; columns <= kMaxColumns
  void (*columns)(const void* x, int64_t rows, int64_t row_stride, int64_t columns, Accumulator* a);
  void (*combine)(Accumulator* a, const Accumulator* b, int64_t n);  // a[i] = combine(a[i], b[i])
  void (*store)(const Accumulator* a, int64_t n, void* y, int64_t y_stride);
};

namespace {

constexpr int64_t kMaxColumns = 1024;  // columns reduced together: their accumulators stay in the L1 cache
constexpr int64_t kBlockVectors = 64;  // vectors of a row, or rows, that are combined before going into double

PE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }

// --- what is accumulated: map(x), then combine

struct Sum {
  static constexpr double kIdentity = 0.0;
  template <class V>
  static PE_INLINE V map(V x) {
    return x;
  }
  template <class V>
  static PE_INLINE V combine(V a, V b) {
    return a + b;
  }
};

struct SumOfSquares : Sum {
  template <class V>
  static PE_INLINE V map(V x) {
    return x * x;
  }
};

struct Product {
  static constexpr double kIdentity = 1.0;
  template <class V>
  static PE_INLINE V map(V x) {
    return x;
  }
  template <class V>
  static PE_INLINE V combine(V a, V b) {
    return a * b;
  }
};

// `a` where it is larger or NaN; a NaN `b` fails the comparison.
template <bool largest>
struct Extreme {
  static constexpr double kIdentity = largest ? -__builtin_inf() : __builtin_inf();
  template <class V>
  static PE_INLINE V map(V x) {
    return x;
  }
  template <class T>
  static PE_INLINE Vec<T> combine(Vec<T> a, Vec<T> b) {
    return largest ? maximum(a, b) : minimum(a, b);
  }
  template <class T>
  static PE_INLINE T combine(T a, T b) {
    return (largest ? a > b : a < b) || a != a ? a : b;
  }
};

// --- floating point

template <class T, class Op>
struct FloatReducer {
  using V = Vec<T>;
  static constexpr int64_t w = V::width;

  // The first n lanes of x, the others the identity.
  static PE_INLINE V tail(const T* x, int64_t n) {
    const V v = Op::map(V::load_partial(x, n));
    if constexpr (Op::kIdentity == 0.0) return v;  // map(0) is 0
    T lane[V::width];
    for (int i = 0; i < V::width; ++i) lane[i] = static_cast<T>(Op::kIdentity);
    v.store_partial(lane, n);
    return V::load(lane);
  }

  // Lane i combined with lane i + half, then the same for quarters, ...
  template <int half>
  static PE_INLINE V fold_lanes(V v) {
    typename V::IntRaw other;
    for (int i = 0; i < V::width; ++i) other[i] = i ^ half;
    v = Op::combine(v, V(__builtin_shuffle(v.v, other)));
    if constexpr (half > 1)
      return fold_lanes<half / 2>(v);
    else
      return v;
  }

  static PE_INLINE double across_lanes(V v) {
    if constexpr (__is_same(Op, Sum) || __is_same(Op, SumOfSquares)) return horizontal_sum(v);
    return fold_lanes<V::width / 2>(v).v[0];
  }

  // Finished blocks, lane by lane in double.
  struct Total {
    Vec<double> low = Op::kIdentity, high = Op::kIdentity;
    PE_INLINE void add(Vec<double> v) { low = Op::combine(low, v); }
    PE_INLINE void add(Vec<float> v) {
      const DoublePair d = widen(v);
      low = Op::combine(low, d.low);
      high = Op::combine(high, d.high);
    }
    PE_INLINE double value() const { return FloatReducer<double, Op>::across_lanes(Op::combine(low, high)); }
  };

  static PE_INLINE V block(const T* x, int64_t n) {
    V a = V(Op::kIdentity), b = a, c = a, d = a;
    int64_t i = 0;
    for (; i + 4 * w <= n; i += 4 * w) {
      a = Op::combine(a, Op::map(V::load(x + i)));
      b = Op::combine(b, Op::map(V::load(x + i + w)));
      c = Op::combine(c, Op::map(V::load(x + i + 2 * w)));
      d = Op::combine(d, Op::map(V::load(x + i + 3 * w)));
    }
    for (; i + w <= n; i += w) a = Op::combine(a, Op::map(V::load(x + i)));
    if (i < n) b = Op::combine(b, tail(x + i, n - i));
    return Op::combine(Op::combine(a, b), Op::combine(c, d));
  }

  static PE_INLINE double row_value(const T* x, int64_t n) {
    if (n <= kBlockVectors * w) return across_lanes(block(x, n));
    Total blocks;
    for (int64_t i = 0; i < n; i += kBlockVectors * w) blocks.add(block(x + i, smaller(n - i, kBlockVectors * w)));
    return blocks.value();
  }

  static void row(const void* x, int64_t n, Accumulator* total) {
    total->f = Op::combine(total->f, row_value(static_cast<const T*>(x), n));
  }
  static void rows(const void* data, int64_t rows, int64_t row_stride, int64_t n, Accumulator* a) {
    const T* x = static_cast<const T*>(data);
    for (int64_t r = 0; r < rows; ++r, x += row_stride) a[r].f = n <= w ? across_lanes(tail(x, n)) : row_value(x, n);
  }

  static void columns(const void* data, int64_t rows, int64_t row_stride, int64_t columns, Accumulator* a) {
    const T* x = static_cast<const T*>(data);
    T block[kMaxColumns];
    for (int64_t r = 0; r < rows;) {
      const int64_t end = smaller(rows, r + kBlockVectors);
      const bool few = end - r < 16;  // then a row of accumulators is not worth its traffic
      for (int64_t c = 0; c < columns; c += w) {
        V sum = V(Op::kIdentity);
        for (int64_t i = r; few && i < end; ++i)
          sum = Op::combine(sum, Op::map(load_up_to(x + i * row_stride + c, columns - c)));
        store_up_to(block + c, columns - c, sum);
      }
      if (few) r = end;
      for (; r + 8 <= end; r += 8)
        for (int64_t c = 0; c < columns; c += w) {
          const T* p = x + r * row_stride + c;
          const int64_t n = columns - c;
          V eight[8];
#pragma GCC unroll 8
          for (int i = 0; i < 8; ++i) eight[i] = Op::map(load_up_to(p + i * row_stride, n));
#pragma GCC unroll 3
          for (int half = 4; half > 0; half /= 2)
#pragma GCC unroll 4
            for (int i = 0; i < half; ++i) eight[i] = Op::combine(eight[i], eight[i + half]);
          store_up_to(block + c, n, Op::combine(load_up_to(block + c, n), eight[0]));
        }
      for (; r < end; ++r)
        for (int64_t c = 0; c < columns; c += w) {
          const V v = Op::map(load_up_to(x + r * row_stride + c, columns - c));
          store_up_to(block + c, columns - c, Op::combine(load_up_to(block + c, columns - c), v));
        }
      for (int64_t c = 0; c < columns; ++c) a[c].f = Op::combine(a[c].f, static_cast<double>(block[c]));
    }
  }

  static void combine(Accumulator* a, const Accumulator* b, int64_t n) {
    for (int64_t i = 0; i < n; ++i) a[i].f = Op::combine(a[i].f, b[i].f);
  }
  static void store(const Accumulator* a, int64_t n, void* y, int64_t y_stride) {
    for (int64_t i = 0; i < n; ++i) static_cast<T*>(y)[i * y_stride] = static_cast<T>(a[i].f);
  }

  static constexpr Reducer reducer = {sizeof(T), sizeof(T), {.f = Op::kIdentity}, row, rows, columns, combine, store};
};

// --- integers and bool, wrapping; any and all of every dtype

template <class T, ReduceOp op>
struct IntegerReducer {
  static constexpr bool kLogical = op == ReduceOp::any || op == ReduceOp::all;

  static constexpr int64_t identity() {
    if (op == ReduceOp::prod || op == ReduceOp::all) return 1;
    return op == ReduceOp::max ? INT64_MIN : op == ReduceOp::min ? INT64_MAX : 0;
  }
  static PE_INLINE int64_t map(T x) {
    if constexpr (kLogical)
      return x != T(0);
    else
      return static_cast<int64_t>(x);
  }
  static PE_INLINE int64_t combine(int64_t a, int64_t b) {
    if constexpr (op == ReduceOp::any) return a | b;
    if constexpr (op == ReduceOp::all) return a & b;
    if constexpr (op == ReduceOp::max) return a > b ? a : b;
    if constexpr (op == ReduceOp::min) return a < b ? a : b;
    if constexpr (op == ReduceOp::prod)
      return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
    return static_cast<int64_t>(static_cast<uint64_t>(a) + static_cast<uint64_t>(b));
  }

  static void row(const void* data, int64_t n, Accumulator* total) {
    const T* x = static_cast<const T*>(data);
    int64_t sum = total->i;
    for (int64_t i = 0; i < n; ++i) sum = combine(sum, map(x[i]));
    total->i = sum;
  }
  static void rows(const void* data, int64_t rows, int64_t row_stride, int64_t n, Accumulator* a) {
    for (int64_t r = 0; r < rows; ++r) {
      a[r].i = identity();
      row(static_cast<const T*>(data) + r * row_stride, n, a + r);
    }
  }
  static void columns(const void* data, int64_t rows, int64_t row_stride, int64_t columns, Accumulator* a) {
    for (int64_t r = 0; r < rows; ++r) {
      const T* x = static_cast<const T*>(data) + r * row_stride;
      for (int64_t c = 0; c < columns; ++c) a[c].i = combine(a[c].i, map(x[c]));
    }
  }
  static void combine(Accumulator* a, const Accumulator* b, int64_t n) {
    for (int64_t i = 0; i < n; ++i) a[i].i = combine(a[i].i, b[i].i);
  }
  static void store(const Accumulator* a, int64_t n, void* y, int64_t y_stride) {
    // a bool is a byte that is 0 or 1; its sums and products count as true unless 0
    for (int64_t i = 0; i < n; ++i) {
      if constexpr (kLogical || __is_same(T, bool))
        static_cast<uint8_t*>(y)[i * y_stride] = a[i].i != 0;
      else
        static_cast<T*>(y)[i * y_stride] = static_cast<T>(a[i].i);
    }
  }

  static constexpr Reducer reducer = {
      sizeof(T), kLogical ? 1 : sizeof(T), {.i = identity()}, row, rows, columns, combine, store};
};

template <class T>
const Reducer* float_reducer(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum: return &FloatReducer<T, Sum>::reducer;
    case ReduceOp::sumsq: return &FloatReducer<T, SumOfSquares>::reducer;
    case ReduceOp::prod: return &FloatReducer<T, Product>::reducer;
    case ReduceOp::max: return &FloatReducer<T, Extreme<true>>::reducer;
    case ReduceOp::min: return &FloatReducer<T, Extreme<false>>::reducer;
    case ReduceOp::any: return &IntegerReducer<T, ReduceOp::any>::reducer;
    case ReduceOp::all: return &IntegerReducer<T, ReduceOp::all>::reducer;
  }
  return nullptr;
}

template <class T>
const Reducer* integer_reducer(ReduceOp op) {
  switch (op) {
    case ReduceOp::sum: return &IntegerReducer<T, ReduceOp::sum>::reducer;
    case ReduceOp::prod: return &IntegerReducer<T, ReduceOp::prod>::reducer;
    case ReduceOp::max: return &IntegerReducer<T, ReduceOp::max>::reducer;
    case ReduceOp::min: return &IntegerReducer<T, ReduceOp::min>::reducer;
    case ReduceOp::any: return &IntegerReducer<T, ReduceOp::any>::reducer;
    case ReduceOp::all: return &IntegerReducer<T, ReduceOp::all>::reducer;
    case ReduceOp::sumsq:  // floats only
      return nullptr;
  }
  return nullptr;
}

const Reducer* reducer_of(ReduceOp op, DType t) {
  switch (t) {
    case DType::Float32: return float_reducer<float>(op);
    case DType::Float64: return float_reducer<double>(op);
    case DType::Int64: return integer_reducer<int64_t>(op);
    case DType::Int32: return integer_reducer<int32_t>(op);
    case DType::UInt8: return integer_reducer<uint8_t>(op);
    case DType::Bool: return integer_reducer<bool>(op);
  }
  return nullptr;
}

}  // namespace

}  // namespace pe::PE_ISA
