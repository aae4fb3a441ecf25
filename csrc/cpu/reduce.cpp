// Reductions over any dimensions. The memory decides between two ways:
//   rows     the innermost reduced dimension is contiguous: runs of it are reduced
//   columns  a kept dimension is contiguous: rows of it are added to a row of accumulators
// and any other layout is gathered into runs. Large work is cut into slices whose size depends on the shape only; their
// results are combined in slice order. How runs and columns are reduced stands in cpu/reducers.h.
#include "cpu/reducers.h"
#include "cpu/strides.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {

namespace {

constexpr int64_t kSliceElements = 65536;  // of one slice of a long reduction
constexpr int64_t kFoldedColumns = 256;    // narrow rows are joined to about this many columns
constexpr int64_t kGatherElements = 512;

PE_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }
PE_INLINE int64_t pieces_of(int64_t n, int64_t piece) { return (n + piece - 1) / piece; }
PE_INLINE int64_t magnitude(int64_t a) { return a < 0 ? -a : a; }

PE_INLINE void swap(int64_t& a, int64_t& b) {
  const int64_t t = a;
  a = b;
  b = t;
}

// Orders both lists by x's strides, the smallest innermost: memory is walked forwards whatever order the op names.
ReduceShape in_memory_order(ReduceShape s) {
  for (int i = 1; i < s.red_ndim; ++i)
    for (int d = i; d > 0 && magnitude(s.x_red_stride[d - 1]) < magnitude(s.x_red_stride[d]); --d) {
      swap(s.red_size[d - 1], s.red_size[d]);
      swap(s.x_red_stride[d - 1], s.x_red_stride[d]);
    }
  for (int i = 1; i < s.out_ndim; ++i)
    for (int d = i; d > 0 && magnitude(s.x_out_stride[d - 1]) < magnitude(s.x_out_stride[d]); --d) {
      swap(s.out_size[d - 1], s.out_size[d]);
      swap(s.x_out_stride[d - 1], s.x_out_stride[d]);
      swap(s.y_stride[d - 1], s.y_stride[d]);
    }
  return s;
}

// Calls f(offset, n) for the runs of n positions along the innermost dimension that make up [first, end).
template <class F>
PE_INLINE void for_each_run(int ndim, const int64_t* size, const int64_t* stride, int64_t first, int64_t end, F f) {
  const int last = ndim - 1;
  while (first < end) {
    const int64_t n = smaller(end - first, size[last] - first % size[last]);
    f(offset_of(first, ndim, size, stride), n);
    first += n;
  }
}

// One reduction: the shape in memory order, x and y by the byte.
struct Reduction {
  ReduceShape s;
  const Reducer& reducer;
  const char* x;
  char* y;

  const char* x_at(int64_t element) const { return x + element * static_cast<int64_t>(reducer.x_bytes); }
  char* y_at(int64_t element) const { return y + element * static_cast<int64_t>(reducer.y_bytes); }
  int64_t x_out(int64_t out) const { return offset_of(out, s.out_ndim, s.out_size, s.x_out_stride); }
  int64_t y_out(int64_t out) const { return offset_of(out, s.out_ndim, s.out_size, s.y_stride); }
  double nanoseconds() const { return 0.15 * static_cast<double>(s.red_numel) * static_cast<double>(s.out_numel); }
  Accumulator* partial_results(int64_t slices) const {
    return static_cast<Accumulator*>(
        thread_scratch(0, static_cast<size_t>(slices * s.out_numel) * sizeof(Accumulator)));
  }
};

template <int bytes>
void gather_run(const void* from, int64_t stride, int64_t n, void* to) {
  using U = typename Item<bytes>::Type;
  for (int64_t i = 0; i < n; ++i) static_cast<U*>(to)[i] = static_cast<const U*>(from)[i * stride];
}

// Positions [first, end) of the reduced dimensions for the output whose elements begin at `start`.
Accumulator reduce_one(const Reduction& r, int64_t start, int64_t first, int64_t end) {
  Accumulator total = r.reducer.identity;
  const int64_t stride = r.s.x_red_stride[r.s.red_ndim - 1];
  for_each_run(r.s.red_ndim, r.s.red_size, r.s.x_red_stride, first, end, [&](int64_t offset, int64_t n) {
    if (stride == 1) return r.reducer.row(r.x_at(start + offset), n, &total);
    const auto gather = r.reducer.x_bytes == 1 ? gather_run<1> : r.reducer.x_bytes == 4 ? gather_run<4> : gather_run<8>;
    alignas(64) char gathered[kGatherElements * 8];
    for (int64_t i = 0; i < n; i += kGatherElements) {
      const int64_t count = smaller(n - i, kGatherElements);
      gather(r.x_at(start + offset + i * stride), stride, count, gathered);
      r.reducer.row(gathered, count, &total);
    }
  });
  return total;
}

// y[out] = the slices' results in order; partial[slice * out_numel + out].
void combine_slices(const Reduction& r, int64_t slices, Accumulator* partial) {
  const int64_t outs = r.s.out_numel;
  parallel_for(pieces_of(outs, kMaxColumns), 0.5 * static_cast<double>(outs * slices), [&](int64_t piece) {
    const int64_t first = piece * kMaxColumns, count = smaller(outs - first, kMaxColumns);
    for (int64_t slice = 1; slice < slices; ++slice)
      r.reducer.combine(partial + first, partial + slice * outs + first, count);
    for (int64_t out = first; out < first + count; ++out) r.reducer.store(partial + out, 1, r.y_at(r.y_out(out)), 1);
  });
}

void reduce_rows(const Reduction& r) {
  const ReduceShape& s = r.s;
  const int64_t slices = pieces_of(s.red_numel, kSliceElements);
  if (slices > 1) {
    Accumulator* partial = r.partial_results(slices);
    parallel_for(slices * s.out_numel, r.nanoseconds(), [&](int64_t piece) {
      const int64_t slice = piece % slices, out = piece / slices;
      partial[slice * s.out_numel + out] =
          reduce_one(r, r.x_out(out), slice * kSliceElements, smaller(s.red_numel, (slice + 1) * kSliceElements));
    });
    return combine_slices(r, slices, partial);
  }
  const int64_t outs = larger(1, kSliceElements / 2 / larger(s.red_numel, 16));
  parallel_for(pieces_of(s.out_numel, outs), r.nanoseconds(), [&](int64_t piece) {
    const int64_t end = smaller(s.out_numel, (piece + 1) * outs);
    const int last = s.out_ndim - 1;
    const bool contiguous = s.red_ndim == 1 && (s.x_red_stride[0] == 1 || s.red_numel <= 1);
    Accumulator result[kMaxColumns];
    int64_t out = piece * outs;
    while (out < end) {  // runs of outputs along the innermost kept dimension
      const int64_t n = smaller(smaller(end - out, kMaxColumns), s.out_size[last] - out % s.out_size[last]);
      if (contiguous)
        r.reducer.rows(r.x_at(r.x_out(out)), n, s.x_out_stride[last], s.red_numel, result);
      else
        for (int64_t i = 0; i < n; ++i) result[i] = reduce_one(r, r.x_out(out + i), 0, s.red_numel);
      r.reducer.store(result, n, r.y_at(r.y_out(out)), s.y_stride[last]);
      out += n;
    }
  });
}

// Positions [first, end) of the reduced dimensions for `width` neighbouring columns. Narrow dense rows are folded:
// `fold` of them make one row of fold * width columns, so that they fill whole vectors. result has room for
// kMaxColumns.
void reduce_column_tile(const Reduction& r, int64_t start, int64_t first, int64_t end, int64_t width,
                        Accumulator* result) {
  const int64_t row_stride = r.s.x_red_stride[r.s.red_ndim - 1];
  const int64_t fold = row_stride == width ? larger(1, smaller(end - first, kFoldedColumns / width)) : 1;
  for (int64_t c = 0; c < fold * width; ++c) result[c] = r.reducer.identity;
  for_each_run(r.s.red_ndim, r.s.red_size, r.s.x_red_stride, first, end, [&](int64_t offset, int64_t n) {
    const int64_t folded = n / fold, rest = n % fold;
    r.reducer.columns(r.x_at(start + offset), folded, fold * row_stride, fold * width, result);
    if (rest > 0) r.reducer.columns(r.x_at(start + offset + folded * fold * row_stride), 1, 0, rest * width, result);
  });
  for (int64_t f = 1; f < fold; ++f) r.reducer.combine(result, result + f * width, width);
}

void reduce_columns(const Reduction& r) {
  const ReduceShape& s = r.s;
  const int last = s.out_ndim - 1;
  const int64_t columns = s.out_size[last], width = smaller(columns, kMaxColumns);
  const int64_t tiles_per_row = pieces_of(columns, width), tiles = s.out_numel / columns * tiles_per_row;
  const int64_t slice_rows = larger(16, kSliceElements / width);
  const int64_t slices = larger(1, pieces_of(s.red_numel, slice_rows));
  const int64_t tiles_per_piece = slices > 1 ? 1 : larger(1, kSliceElements / 2 / (larger(s.red_numel, 1) * width));
  const int64_t pieces_per_slice = pieces_of(tiles, tiles_per_piece);
  Accumulator* partial = slices > 1 ? r.partial_results(slices) : nullptr;
  parallel_for(slices * pieces_per_slice, r.nanoseconds(), [&](int64_t piece) {
    const int64_t slice = piece / pieces_per_slice, first_tile = piece % pieces_per_slice * tiles_per_piece;
    for (int64_t tile = first_tile; tile < smaller(tiles, first_tile + tiles_per_piece); ++tile) {
      const int64_t column = tile % tiles_per_row * width, count = smaller(columns - column, width);
      const int64_t out = tile / tiles_per_row * columns + column;
      Accumulator result[kMaxColumns];
      reduce_column_tile(r, r.x_out(out), slice * slice_rows, smaller(s.red_numel, (slice + 1) * slice_rows), count,
                         result);
      if (slices > 1)
        std::memcpy(partial + slice * s.out_numel + out, result, static_cast<size_t>(count) * sizeof(Accumulator));
      else
        r.reducer.store(result, count, r.y_at(r.y_out(out)), s.y_stride[last]);
    }
  });
  if (slices > 1) combine_slices(r, slices, partial);
}

}  // namespace

void reduce(ReduceOp op, DType t, const ReduceShape& shape, const void* x, void* y) {
  const Reducer* reducer = reducer_of(op, t);
  if (reducer == nullptr || shape.out_numel == 0) return;
  const Reduction r = {in_memory_order(shape), *reducer, static_cast<const char*>(x), static_cast<char*>(y)};
  const int out_last = r.s.out_ndim - 1, red_last = r.s.red_ndim - 1;
  if (r.s.x_out_stride[out_last] == 1 && r.s.out_size[out_last] > 1 &&
      (r.s.x_red_stride[red_last] != 1 || r.s.red_size[red_last] == 1))
    reduce_columns(r);
  else
    reduce_rows(r);
}

}  // namespace pe::PE_ISA
