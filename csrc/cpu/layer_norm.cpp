// Layer normalization of dense rows, each by its own mean and variance. Rows are short, so a few of them go side by
// side: their sums do not wait for each other, and the weights are read once for all.
#include "cpu/rows.h"
#include "kernels/shapes.h"

namespace pe::PE_ISA {

void layer_norm(int64_t rows, int64_t cols, DType t, double eps, const void* x, const void* weight, const void* bias,
                void* y, void* mean, void* invstd);
void layer_norm_backward(int64_t rows, int64_t cols, DType t, const void* dy, const void* x, const void* mean,
                         const void* invstd, const void* weight, void* dx, void* dweight, void* dbias);

namespace {

constexpr int kSideBySide = 4;
constexpr int64_t kPieceElements = 16384;
constexpr int64_t kBlockRows = 128;  // rows whose weight gradients are added up in T
constexpr int64_t kSliceElements = 65536;
constexpr int64_t kMaxSlices = 64;

constexpr int64_t kCacheBytes = 12 << 20;  // larger outputs do not stay in the caches: they bypass them

PE_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
PE_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// Whether whole vectors of the rows of `out` may be stored past the caches.
template <class T>
PE_INLINE bool streams(const T* out, int64_t rows, int64_t cols) {
  return rows * cols * static_cast<int64_t>(sizeof(T)) >= kCacheBytes && cols % Vec<T>::width == 0 &&
         reinterpret_cast<uintptr_t>(out) % kVectorBytes == 0;
}

template <bool kStream, class T, class Lanes>
PE_INLINE void store(Lanes lanes, T* p, Vec<T> v) {
#if defined(PE_ISA_AVX512)
  if constexpr (kStream) return _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v.v);
#elif defined(PE_ISA_AVX2)
  if constexpr (kStream) return _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v.v);
#endif
  lanes.store(p, v);
}

// The sums over each of kRows rows of the kSums vectors that term(lanes, row, offset, vectors) gives. Long rows are
// added up in blocks: a single running sum would lose digits.
template <class T, int kRows, int kSums, class Term>
PE_INLINE void sum_rows(int64_t cols, T (&sums)[kSums][kRows], const Term& term) {
  constexpr int64_t kBlock = 64 * Vec<T>::width;
  Vec<T> total[kSums][kRows];
#pragma GCC unroll 2
  for (int k = 0; k < kSums; ++k)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) total[k][r] = Vec<T>(0.0);
  for (int64_t block = 0; block < cols; block += kBlock) {
    Vec<T> s[kSums][kRows];
#pragma GCC unroll 2
    for (int k = 0; k < kSums; ++k)
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) s[k][r] = Vec<T>(0.0);
    each_vector<T>(smaller(kBlock, cols - block), [&](auto lanes, int64_t i) __attribute__((always_inline)) {
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        Vec<T> v[kSums];
        term(lanes, r, block + i, v);
#pragma GCC unroll 2
        for (int k = 0; k < kSums; ++k) s[k][r] = s[k][r] + v[k];
      }
    });
#pragma GCC unroll 2
    for (int k = 0; k < kSums; ++k)
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) total[k][r] = total[k][r] + s[k][r];
  }
#pragma GCC unroll 2
  for (int k = 0; k < kSums; ++k)
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) sums[k][r] = horizontal_sum(total[k][r]);
}

// ---- forward

template <class T>
struct Forward {
  int64_t cols;
  double eps;
  const T *x, *weight, *bias;
  T *y, *mean, *invstd;

  // The rows from `row` on. Two passes over x, which is in the L1 cache: squares of x itself would cancel.
  template <int kRows, bool kStream>
  PE_INLINE void run(int64_t row) const {
    const int64_t n = cols;
    const T* const from = x + row * n;
    T sums[1][kRows];
    Vec<T> center[kRows], scale[kRows];
    sum_rows<T, kRows, 1>(n, sums, [=](auto lanes, int r, int64_t i, Vec<T>* v) __attribute__((always_inline)) {
      v[0] = lanes.load(from + r * n + i);
    });
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      mean[row + r] = static_cast<T>(sums[0][r] / static_cast<T>(n));
      center[r] = Vec<T>(static_cast<double>(mean[row + r]));
    }
    sum_rows<T, kRows, 1>(n, sums, [&](auto lanes, int r, int64_t i, Vec<T>* v) __attribute__((always_inline)) {
      const Vec<T> d = lanes.keep(lanes.load(from + r * n + i) - center[r], 0.0);
      v[0] = d * d;
    });
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      invstd[row + r] = static_cast<T>(1 / __builtin_sqrt(sums[0][r] / static_cast<double>(n) + eps));
      scale[r] = Vec<T>(static_cast<double>(invstd[row + r]));
    }
    const T *const w = weight, *const b = bias;
    T* const to = y + row * n;
    each_vector<T>(n, [&](auto lanes, int64_t i) __attribute__((always_inline)) {
      const Vec<T> slope = w ? lanes.load(w + i) : Vec<T>(1.0), shift = b ? lanes.load(b + i) : Vec<T>(0.0);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r)
        store<kStream>(lanes, to + r * n + i, fma((lanes.load(from + r * n + i) - center[r]) * scale[r], slope, shift));
    });
  }
};

// Rows [first, last): kSideBySide at a time, then one by one.
template <bool kStream, class F>
__attribute__((noinline)) void run_rows(const F& f, int64_t first, int64_t last) {
  int64_t row = first;
  for (; row + kSideBySide <= last; row += kSideBySide) f.template run<kSideBySide, kStream>(row);
  for (; row < last; ++row) f.template run<1, kStream>(row);
#if defined(PE_ISA_AVX512) || defined(PE_ISA_AVX2)
  if (kStream) _mm_sfence();
#endif
}

template <class T>
void forward(int64_t rows, const Forward<T>& f) {
  const int64_t piece_rows = (kPieceElements / larger(f.cols, 1) / kSideBySide + 1) * kSideBySide;
  const double work = static_cast<double>(rows) * static_cast<double>(f.cols) * 0.2;
  const auto run = streams(f.y, rows, f.cols) ? run_rows<true, Forward<T>> : run_rows<false, Forward<T>>;
  parallel_for((rows + piece_rows - 1) / piece_rows, work,
               [&](int64_t piece) { run(f, piece * piece_rows, smaller(rows, (piece + 1) * piece_rows)); });
}

// ---- backward: dx = invstd (g - mean(g) - x̂ mean(g x̂)), g = dy weight

template <class T>
struct Backward {
  int64_t cols;
  const T *dy, *x, *mean, *invstd, *weight;
  T* dx;               // or null
  T *dweight, *dbias;  // sums so far

  template <int kRows, bool kStream>
  PE_INLINE void run(int64_t row) const {
    const int64_t n = cols;
    const T *const from = x + row * n, *const gradient = dy + row * n, *const w = weight;
    Vec<T> center[kRows], scale[kRows], slope[kRows], offset[kRows];
#pragma GCC unroll 4
    for (int r = 0; r < kRows; ++r) {
      center[r] = Vec<T>(static_cast<double>(mean[row + r]));
      scale[r] = Vec<T>(static_cast<double>(invstd[row + r]));
    }
    if (dx) {
      T sums[2][kRows];
      sum_rows<T, kRows, 2>(n, sums, [&](auto lanes, int r, int64_t i, Vec<T>* v) __attribute__((always_inline)) {
        v[0] = lanes.load(gradient + r * n + i);
        if (w) v[0] = v[0] * lanes.load(w + i);
        v[1] = v[0] * (lanes.load(from + r * n + i) - center[r]);
      });
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const double inv = static_cast<double>(invstd[row + r]), share = inv / static_cast<double>(n);
        slope[r] = Vec<T>(-share * inv * inv * static_cast<double>(sums[1][r]));
        offset[r] = Vec<T>(-share * static_cast<double>(sums[0][r]));
      }
    }
    T* const to = dx ? dx + row * n : nullptr;
    each_vector<T>(n, [&](auto lanes, int64_t i) __attribute__((always_inline)) {
      const Vec<T> factor = w ? lanes.load(w + i) : Vec<T>(1.0);
      Vec<T> dw = lanes.load(dweight + i), db = lanes.load(dbias + i);
#pragma GCC unroll 4
      for (int r = 0; r < kRows; ++r) {
        const Vec<T> g = lanes.load(gradient + r * n + i), d = lanes.load(from + r * n + i) - center[r];
        dw = fma(g, d * scale[r], dw);
        db = db + g;
        if (to) store<kStream>(lanes, to + r * n + i, fma(g * factor, scale[r], fma(d, slope[r], offset[r])));
      }
      lanes.store(dweight + i, dw);
      lanes.store(dbias + i, db);
    });
  }
};

// Rows are cut into slices by the shape. A slice adds up short blocks of rows in T, the blocks and the slices in
// double.
template <class T>
void backward(int64_t rows, const Backward<T>& f, T* dweight, T* dbias) {
  const int64_t cols = f.cols, elements = rows * cols;
  const int64_t slices = larger(1, smaller(smaller(kMaxSlices, elements / kSliceElements), rows / kSideBySide));
  auto* const partial =
      static_cast<double*>(thread_scratch(0, static_cast<size_t>(slices * 2 * cols) * sizeof(double)));
  const auto run = streams(f.dx, rows, cols) ? run_rows<true, Backward<T>> : run_rows<false, Backward<T>>;
  parallel_for(slices, static_cast<double>(elements) * 0.3, [&](int64_t slice) {
    double* const sums = partial + slice * 2 * cols;
    std::memset(sums, 0, static_cast<size_t>(2 * cols) * sizeof(double));
    T* const block_sums = static_cast<T*>(thread_scratch(0, static_cast<size_t>(2 * cols) * sizeof(T)));
    Backward<T> block = f;
    block.dweight = block_sums;
    block.dbias = block_sums + cols;
    const int64_t last = rows * (slice + 1) / slices;
    for (int64_t first = rows * slice / slices; first < last; first += kBlockRows) {
      std::memset(block_sums, 0, static_cast<size_t>(2 * cols) * sizeof(T));
      run(block, first, smaller(last, first + kBlockRows));
      for (int64_t i = 0; i < 2 * cols; ++i) sums[i] += static_cast<double>(block_sums[i]);
    }
  });
  const int64_t pieces = larger(1, cols * slices / 16384);
  parallel_for(pieces, static_cast<double>(2 * cols * slices), [&](int64_t piece) {
    for (int64_t i = cols * piece / pieces; i < cols * (piece + 1) / pieces; ++i) {
      double dw = 0, db = 0;
      for (int64_t slice = 0; slice < slices; ++slice) {
        dw += partial[slice * 2 * cols + i];
        db += partial[slice * 2 * cols + cols + i];
      }
      if (dweight) dweight[i] = static_cast<T>(dw);
      if (dbias) dbias[i] = static_cast<T>(db);
    }
  });
}

template <class T>
const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* out(void* p) {
  return static_cast<T*>(p);
}

template <class T>
void forward_typed(int64_t rows, int64_t cols, double eps, const void* x, const void* weight, const void* bias, void* y,
                   void* mean, void* invstd) {
  forward(rows, Forward<T>{cols, eps, in<T>(x), in<T>(weight), in<T>(bias), out<T>(y), out<T>(mean), out<T>(invstd)});
}

template <class T>
void backward_typed(int64_t rows, int64_t cols, const void* dy, const void* x, const void* mean, const void* invstd,
                    const void* weight, void* dx, void* dweight, void* dbias) {
  backward(
      rows,
      Backward<T>{cols, in<T>(dy), in<T>(x), in<T>(mean), in<T>(invstd), in<T>(weight), out<T>(dx), nullptr, nullptr},
      out<T>(dweight), out<T>(dbias));
}

}  // namespace

void layer_norm(int64_t rows, int64_t cols, DType t, double eps, const void* x, const void* weight, const void* bias,
                void* y, void* mean, void* invstd) {
  const auto run = t == DType::Float64 ? forward_typed<double> : forward_typed<float>;
  run(rows, cols, eps, x, weight, bias, y, mean, invstd);
}

void layer_norm_backward(int64_t rows, int64_t cols, DType t, const void* dy, const void* x, const void* mean,
                         const void* invstd, const void* weight, void* dx, void* dweight, void* dbias) {
  const auto run = t == DType::Float64 ? backward_typed<double> : backward_typed<float>;
  run(rows, cols, dy, x, mean, invstd, weight, dx, dweight, dbias);
}

}  // namespace pe::PE_ISA
