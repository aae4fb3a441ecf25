// gemm: the matrix product in all four transpositions, batched. Which path a product takes, and how it is cut into
// pieces, depends on its shape alone.
#include "cpu/gemm_kernel.h"
#include "kernels/shapes.h"

namespace pe::PE_ISA {

void gemm(const GemmShape& s, DType t, const void* a, const void* b, const void* bias, void* c);

namespace {

constexpr double kPieceWork = 250e3;  // multiply-adds of a piece that is worth another thread: some 5 microseconds
constexpr int64_t kMostPieces = 48;
constexpr int64_t kDeep =
    4096;  // from this k on a product with few blocks, or with a transposed A, is also cut along k

PE_INLINE int64_t wanted_pieces(double work) {
  return static_cast<int64_t>(1 + clamped(work / kPieceWork, 0, kMostPieces - 1));
}

// ---------------------------------------------------------------------------------------------------- dot products

constexpr int kDotRows = 4;

template <class T>
struct DotResult {
  T* c;
  int64_t step_u, step_v;
  const T* bias;
  int64_t bias_u, bias_v;
  bool accumulate;
};

// c[i, j] = u[i] . v[j] for kU rows of u and kV rows of v.
template <class T, int kU, int kV>
PE_INLINE void dot_tile(int64_t k, const T* u, int64_t ldu, const T* v, int64_t ldv, const DotResult<T>& out) {
  constexpr int kWidth = Vec<T>::width;
  Vec<T> acc[kU][kV];
#pragma GCC unroll 4
  for (int i = 0; i < kU; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kV; ++j) acc[i][j] = Vec<T>(typename Vec<T>::Raw{});
  int64_t at = 0;
  for (; at + kWidth <= k; at += kWidth) {
    Vec<T> x[kU];
#pragma GCC unroll 4
    for (int i = 0; i < kU; ++i) x[i] = Vec<T>::load(u + i * ldu + at);
#pragma GCC unroll 4
    for (int j = 0; j < kV; ++j) {
      const Vec<T> y = Vec<T>::load(v + j * ldv + at);
#pragma GCC unroll 4
      for (int i = 0; i < kU; ++i) acc[i][j] = fma(x[i], y, acc[i][j]);
    }
  }
  if (at < k) {
#pragma GCC unroll 4
    for (int j = 0; j < kV; ++j) {
      const Vec<T> y = Vec<T>::load_partial(v + j * ldv + at, k - at);
#pragma GCC unroll 4
      for (int i = 0; i < kU; ++i) acc[i][j] = fma(Vec<T>::load_partial(u + i * ldu + at, k - at), y, acc[i][j]);
    }
  }
#pragma GCC unroll 4
  for (int i = 0; i < kU; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < kV; ++j) {
      T sum = horizontal_sum(acc[i][j]);
      if (out.bias) sum += out.bias[i * out.bias_u + j * out.bias_v];
      T* const c = out.c + i * out.step_u + j * out.step_v;
      *c = out.accumulate ? *c + sum : sum;
    }
}

template <class T, int kU>
__attribute__((noinline)) void dot_rows(int64_t k, const T* u, int64_t ldu, const T* v, int64_t ldv, Range range,
                                        const DotResult<T>& out) {
  const auto result = [&](int64_t j) __attribute__((always_inline)) {
    DotResult<T> shifted = out;
    shifted.c += j * out.step_v;
    if (out.bias) shifted.bias += j * out.bias_v;
    return shifted;
  };
  int64_t j = range.begin;
  for (; j + 4 <= range.end; j += 4) dot_tile<T, kU, 4>(k, u, ldu, v + j * ldv, ldv, result(j));
  for (; j < range.end; ++j) dot_tile<T, kU, 1>(k, u, ldu, v + j * ldv, ldv, result(j));
}

// A and B both have k contiguous; the operand with few rows is u.
template <class T>
void gemm_dot(const GemmShape& s, const T* a, const T* b, const T* bias, T* c) {
  const bool few_m = s.m <= kDotRows;
  const int64_t u_rows = few_m ? s.m : s.n, v_rows = few_m ? s.n : s.m;
  const int64_t ldu = few_m ? s.lda : s.ldb, ldv = few_m ? s.ldb : s.lda;
  const double work = static_cast<double>(s.m) * s.n * s.k * s.batch;
  // These products wait for memory: a multiply-add counts more than in a blocked one.
  const int64_t parts = clamped(wanted_pieces(4 * work) / s.batch, 1, ceil_div(v_rows, 4));
  parallel_for(s.batch * parts, nanoseconds<T>(4 * work), [&](int64_t piece) {
    const int64_t batch = piece / parts;
    const Range range = share(v_rows, parts, piece % parts);
    const T* const u = (few_m ? a + batch * s.batch_a : b + batch * s.batch_b);
    const T* const v = (few_m ? b + batch * s.batch_b : a + batch * s.batch_a);
    const DotResult<T> out = {c + batch * s.batch_c, few_m ? s.ldc : 1, few_m ? 1 : s.ldc, bias,
                              few_m ? 0 : 1,         few_m ? 1 : 0,     s.accumulate};
    switch (u_rows) {
      case 1: return dot_rows<T, 1>(s.k, u, ldu, v, ldv, range, out);
      case 2: return dot_rows<T, 2>(s.k, u, ldu, v, ldv, range, out);
      case 3: return dot_rows<T, 3>(s.k, u, ldu, v, ldv, range, out);
      default: return dot_rows<T, 4>(s.k, u, ldu, v, ldv, range, out);
    }
  });
}

// ---------------------------------------------------------------------------------------------------- blocks

// c[row] (+)= bias + the row's sums over the slices of k, in their order.
template <class T>
void add_slices(const GemmShape& s, int64_t slices, const T* partial, const T* bias, T* c) {
  const int64_t rows = s.batch * s.m, distance = rows * s.n;
  const int64_t pieces = clamped(distance * slices / 16384, 1, smaller(rows, kMostPieces));
  parallel_for(pieces, 0.5 * static_cast<double>(distance * slices), [&](int64_t piece) {
    const Range range = share(rows, pieces, piece);
    for (int64_t row = range.begin; row < range.end; ++row) {
      T* const to = c + row / s.m * s.batch_c + row % s.m * s.ldc;
      const T* const from = partial + row * s.n;
      for (int64_t j = 0; j < s.n; j += Vec<T>::width) {
        const int64_t n = smaller(Vec<T>::width, s.n - j);
        Vec<T> sum = bias ? Vec<T>::load_partial(bias + j, n) : Vec<T>(typename Vec<T>::Raw{});
        for (int64_t i = 0; i < slices; ++i) sum = sum + Vec<T>::load_partial(from + i * distance + j, n);
        if (s.accumulate) sum = sum + Vec<T>::load_partial(to + j, n);
        sum.store_partial(to + j, n);
      }
    }
  });
}

// Every piece packs the B it needs: for products with few rows, and batches.
template <class T, class A>
void gemm_private(const GemmShape& s, const T* a, const T* b, const T* bias, T* c) {
  const double work = static_cast<double>(s.m) * s.n * s.k * s.batch;
  const int64_t panels = ceil_div(s.n, kPanel<T>), m_blocks = ceil_div(s.m, kBlockRows), blocks = s.batch * m_blocks;
  const int64_t groups = clamped(ceil_div(wanted_pieces(work), blocks), 1, panels);
  const bool copy = aliases<T>(s.lda) && s.n > kPanel<T>;
  parallel_for(blocks * groups, nanoseconds<T>(work), [&](int64_t piece) {
    const int64_t group = piece % groups, m_block = piece / groups % m_blocks, batch = piece / (groups * m_blocks);
    const Range m = share(s.m, m_blocks, m_block);
    const A rows = {a + batch * s.batch_a, s.lda, copy};
    const MatrixB<T> columns = {b + batch * s.batch_b, s.ldb, s.n, s.trans_b, !s.trans_b && m.size() <= kMicroRows};
    multiply<T>(rows, columns, m, {0, s.k}, share(panels, groups, group), s.n,
                Result<T>{c + batch * s.batch_c + m.begin * s.ldc, s.ldc, bias, s.accumulate});
  });
}

// Pieces are also cut along k.
template <class T, class A>
void gemm_deep(const GemmShape& s, const T* a, const T* b, const T* bias, T* c) {
  const DeepCut<T> cut(s.batch, s.m, s.n, s.k);
  const int64_t blocks = s.batch * cut.m_blocks * cut.parts;
  T* const partial = cut.slices > 1 ? scratch<T>(kScratchPartial, cut.slices * s.batch * s.m * s.n) : nullptr;
  // A column of a transposed A is spread over few sets of the L1 cache.
  const bool copy = (A::kLayout == Layout::kColumns || aliases<T>(s.lda)) && s.n > kPanel<T>;
  parallel_for(blocks * cut.slices, nanoseconds<T>(static_cast<double>(s.m) * s.n * s.k * s.batch), [&](int64_t piece) {
    const int64_t part = piece % cut.parts, m_block = piece / cut.parts % cut.m_blocks;
    const int64_t batch = piece / (cut.parts * cut.m_blocks) % s.batch, slice = piece / blocks;
    const Range m = share(s.m, cut.m_blocks, m_block);
    const A rows = {a + batch * s.batch_a, s.lda, copy};
    const MatrixB<T> columns = {b + batch * s.batch_b, s.ldb, s.n, s.trans_b, false};
    const Result<T> out =
        partial ? Result<T>{partial + ((slice * s.batch + batch) * s.m + m.begin) * s.n, s.n, nullptr, false}
                : Result<T>{c + batch * s.batch_c + m.begin * s.ldc, s.ldc, bias, s.accumulate};
    multiply<T>(rows, columns, m, share(s.k, cut.slices, slice), share(cut.panels, cut.parts, part), s.n, out);
  });
  if (partial) add_slices(s, cut.slices, partial, bias, c);
}

// B is packed once, by all threads, for all blocks of rows; a part of limited size at a time.
template <class T, class A>
void gemm_shared(const GemmShape& s, const T* a, const T* b, const T* bias, T* c) {
  constexpr int64_t kBlockK = kBlockBytesK / sizeof(T), kShared = kSharedBBytes / sizeof(T);
  const int64_t n_step = smaller(ceil_div(s.n, kPanel<T>), kShared / kBlockK / kPanel<T>) * kPanel<T>;
  const int64_t k_step = larger(1, kShared / n_step / kBlockK) * kBlockK;
  T* const packed = scratch<T>(kScratchShared, smaller(s.k, k_step) * n_step);
  const int64_t m_blocks = ceil_div(s.m, kBlockRows);
  for (int64_t n0 = 0; n0 < s.n; n0 += n_step)
    for (int64_t k0 = 0; k0 == 0 || k0 < s.k; k0 += k_step) {
      const int64_t n = smaller(n_step, s.n - n0), k = smaller(k_step, s.k - k0), panels = ceil_div(n, kPanel<T>);
      const MatrixB<T> matrix = {b + (s.trans_b ? n0 * s.ldb + k0 : k0 * s.ldb + n0), s.ldb, n, s.trans_b, false};
      const int64_t packs = clamped(n * k / 16384, 1, panels);
      parallel_for(packs, 0.3 * static_cast<double>(n * k), [&](int64_t piece) {
        const Range range = share(panels, packs, piece);
        for (int64_t p = range.begin; p < range.end; ++p) matrix.pack(p, {0, k}, packed + p * k * kPanel<T>);
      });

      const double work = static_cast<double>(s.m) * n * k;
      const int64_t groups = clamped(ceil_div(smaller(wanted_pieces(work), 16), m_blocks), 1, panels);
      const A rows = {a + (s.trans_a ? k0 * s.lda : k0), s.lda, aliases<T>(s.lda)};
      const PackedB<T> columns = {packed, k};
      parallel_for(m_blocks * groups, nanoseconds<T>(work), [&](int64_t piece) {
        const Range m = share(s.m, m_blocks, piece / groups);
        const Result<T> out = {c + m.begin * s.ldc + n0, s.ldc, bias && k0 == 0 ? bias + n0 : nullptr,
                               s.accumulate || k0 > 0};
        multiply<T>(rows, columns, m, {0, k}, share(panels, groups, piece % groups), n, out);
      });
    }
}

template <class T, class A>
void gemm_blocked(const GemmShape& s, const T* a, const T* b, const T* bias, T* c) {
  const int64_t blocks = ceil_div(s.m, kBlockRows);
  const bool few_blocks = s.batch * blocks * ceil_div(s.n, kPanel<T>) < 8;
  if (s.k >= kDeep && (few_blocks || (A::kLayout == Layout::kColumns && s.batch == 1)))
    gemm_deep<T, A>(s, a, b, bias, c);
  else if (blocks == 1 || s.batch > 1)
    gemm_private<T, A>(s, a, b, bias, c);
  else
    gemm_shared<T, A>(s, a, b, bias, c);
}

template <class T>
void gemm_typed(GemmShape s, const T* a, const T* b, const T* bias, T* c) {
  if (s.m == 0 || s.n == 0 || s.batch == 0) return;
  // A dense column is a row, and a product with one column is a row times the transpose.
  if (s.n == 1 && !s.trans_b && s.ldb == 1) s.trans_b = true, s.ldb = s.k;
  if (s.m == 1 && s.trans_a && s.lda == 1) s.trans_a = false, s.lda = s.k;
  if (s.n == 1 && s.m > 1 && s.trans_a && s.ldc == 1 && !bias) {
    GemmShape row = s;
    row.m = 1, row.n = s.m, row.ldc = s.m;
    row.lda = s.ldb, row.batch_a = s.batch_b, row.trans_a = !s.trans_b;
    row.ldb = s.lda, row.batch_b = s.batch_a, row.trans_b = false;
    return gemm_typed<T>(row, b, a, nullptr, c);
  }
  if (!s.trans_a && s.trans_b && (s.m <= kDotRows || s.n <= kDotRows) && s.k >= Vec<T>::width)
    gemm_dot(s, a, b, bias, c);
  else if (s.trans_a)
    gemm_blocked<T, ColumnsA<T>>(s, a, b, bias, c);
  else
    gemm_blocked<T, RowsA<T>>(s, a, b, bias, c);
}

}  // namespace

void gemm(const GemmShape& s, DType t, const void* a, const void* b, const void* bias, void* c) {
  if (t == DType::Float64)
    gemm_typed(s, static_cast<const double*>(a), static_cast<const double*>(b), static_cast<const double*>(bias),
               static_cast<double*>(c));
  else
    gemm_typed(s, static_cast<const float*>(a), static_cast<const float*>(b), static_cast<const float*>(bias),
               static_cast<float*>(c));
}

}  // namespace pe::PE_ISA
