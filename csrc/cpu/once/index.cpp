// gather, scatter, indexing with tensors, nonzero. Where several sources may meet in one place of y, the work is cut
// along a dimension that keeps them in one piece, so they always arrive in the loop's order.
#include <cstring>

#include "cpu/once/element.h"
#include "cpu/once/walk.h"
#include "kernels/op_codes.h"
#include "runtime/threads.h"

namespace pe::once {
namespace {

constexpr int64_t kGrain = 16384;  // elements per piece
constexpr double kNanosecondsPerItem = 1.5;

// y = x or y += x.
template <class T, bool kAdd>
void put(T& y, T x) {
  if constexpr (kAdd)
    y = add(y, x);
  else
    y = x;
}

template <class T>
void gather_items(const Loop& loop, int64_t dim_stride, const int64_t* index, const T* x, T* y) {
  const Cut cut{loop.numel, kGrain};
  const int last = loop.ndim - 1;
  const int64_t ys = loop.stride[0][last], is = loop.stride[1][last], xs = loop.stride[2][last];
  parallel_for(cut.pieces(), kNanosecondsPerItem * static_cast<double>(loop.numel), [&](int64_t piece) {
    walk(loop, cut.begin(piece), cut.end(piece), [&](const int64_t* offset, int64_t run) {
      T* const to = y + offset[0];
      const int64_t* const at = index + offset[1];
      const T* const from = x + offset[2];
      for (int64_t i = 0; i < run; ++i) to[i * ys] = from[i * xs + at[i * is] * dim_stride];
    });
  });
}

template <class T, bool kAdd>
void scatter_items(const Loop& loop, int64_t dim_stride, const int64_t* index, const T* x, T* y) {
  // y does not move along the scattered dimension, so two elements can only meet when they agree in all the others:
  // any dimension along which y moves may be cut.
  int cut_dim = -1;
  for (int d = loop.ndim - 1; d >= 0; --d)
    if (loop.stride[0][d] != 0 && (cut_dim < 0 || loop.size[d] >= 16)) cut_dim = d;
  Cut cut{1, 1};
  if (cut_dim >= 0) {
    const int64_t per_row = std::max<int64_t>(1, loop.numel / std::max<int64_t>(1, loop.size[cut_dim]));
    // At least a cache line of neighbours, which two threads would otherwise write by turns.
    cut = {loop.size[cut_dim], std::max<int64_t>(cut_dim == loop.ndim - 1 ? 64 : 1, kGrain / per_row)};
  }
  const int last = loop.ndim - 1;
  const int64_t ys = loop.stride[0][last], is = loop.stride[1][last], xs = loop.stride[2][last];
  parallel_for(cut.pieces(), kNanosecondsPerItem * static_cast<double>(loop.numel), [&](int64_t piece) {
    Loop part = loop;
    int64_t base[3] = {};
    if (cut_dim >= 0) {
      part.size[cut_dim] = cut.end(piece) - cut.begin(piece);
      part.numel = loop.numel / loop.size[cut_dim] * part.size[cut_dim];
      for (int k = 0; k < 3; ++k) base[k] = cut.begin(piece) * loop.stride[k][cut_dim];
    }
    walk(part, 0, part.numel, [&](const int64_t* offset, int64_t run) {
      T* const to = y + base[0] + offset[0];
      const int64_t* const at = index + base[1] + offset[1];
      const T* const from = x + base[2] + offset[2];
      for (int64_t i = 0; i < run; ++i) put<T, kAdd>(to[i * ys + at[i * is] * dim_stride], from[i * xs]);
    });
  });
}

template <class T>
void copy_run(T* to, int64_t to_stride, const T* from, int64_t from_stride, int64_t n) {
  if (to_stride == 1 && from_stride == 1) {
    std::memcpy(to, from, static_cast<size_t>(n) * sizeof(T));
  } else {
    for (int64_t i = 0; i < n; ++i) to[i * to_stride] = from[i * from_stride];
  }
}

template <class T>
void take_items(int64_t rows, const int64_t* offset, const Loop& inner, const T* x, T* y) {
  const Cut cut{rows * inner.numel, kGrain};
  const int last = inner.ndim - 1;
  const int64_t ys = inner.stride[0][last], xs = inner.stride[1][last];
  parallel_for(cut.pieces(), kNanosecondsPerItem * static_cast<double>(cut.n), [&](int64_t piece) {
    const int64_t begin = cut.begin(piece), end = cut.end(piece);
    if (inner.numel == 1) {
      for (int64_t r = begin; r < end; ++r) y[r] = x[offset[r]];
      return;
    }
    for (int64_t r = begin / inner.numel; r * inner.numel < end; ++r) {
      const int64_t row = r * inner.numel;
      walk(inner, std::max(begin - row, int64_t{0}), std::min(end - row, inner.numel),
           [&](const int64_t* at, int64_t run) { copy_run(y + row + at[0], ys, x + offset[r] + at[1], xs, run); });
    }
  });
}

template <class T, bool kAdd>
void put_items(int64_t rows, const int64_t* offset, const Loop& inner, const T* x, T* y) {
  // Two rows may name the same place of y, two positions inside never do: cut inside.
  const Cut cut{inner.numel, std::max<int64_t>(64, kGrain / rows)};
  const int last = inner.ndim - 1;
  const int64_t ys = inner.stride[0][last], xs = inner.stride[1][last];
  parallel_for(cut.pieces(), kNanosecondsPerItem * static_cast<double>(rows) * static_cast<double>(inner.numel),
               [&](int64_t piece) {
                 if (inner.numel == 1) {
                   for (int64_t r = 0; r < rows; ++r) put<T, kAdd>(y[offset[r]], x[r]);
                   return;
                 }
                 for (int64_t r = 0; r < rows; ++r) {
                   walk(inner, cut.begin(piece), cut.end(piece), [&](const int64_t* at, int64_t run) {
                     T* const to = y + offset[r] + at[0];
                     const T* const from = x + r * inner.numel + at[1];
                     if constexpr (kAdd) {
                       for (int64_t i = 0; i < run; ++i) to[i * ys] = add(to[i * ys], from[i * xs]);
                     } else {
                       copy_run(to, ys, from, xs, run);
                     }
                   });
                 }
               });
}

template <class T>
bool is_nonzero(T x) {
  if constexpr (std::is_same_v<T, Bool>) {
    return x.value != 0;
  } else if constexpr (std::is_floating_point_v<T>) {
    // By its bits: where denormals count as zero, x != 0 would lose them.
    std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t> bits;
    std::memcpy(&bits, &x, sizeof x);
    return bits << 1 != 0;
  } else {
    return x != 0;
  }
}

template <class T>
void find_nonzero(int64_t n, const T* x, int64_t* positions, int64_t* count) {
  const Cut cut{n, 65536};
  int64_t* const found = static_cast<int64_t*>(thread_scratch(0, static_cast<size_t>(cut.pieces()) * sizeof(int64_t)));
  parallel_for(cut.pieces(), 0.3 * static_cast<double>(n), [&](int64_t piece) {
    int64_t c = 0;
    for (int64_t i = cut.begin(piece); i < cut.end(piece); ++i) c += is_nonzero(x[i]);
    found[piece] = c;
  });
  int64_t total = 0;
  for (int64_t piece = 0; piece < cut.pieces(); ++piece) {
    const int64_t before = total;
    total += found[piece];
    found[piece] = before;
  }
  *count = total;
  if (positions == nullptr) return;
  parallel_for(cut.pieces(), static_cast<double>(n), [&](int64_t piece) {
    int64_t at = found[piece];
    const int64_t end = piece + 1 < cut.pieces() ? found[piece + 1] : total;
    // Always write, step on only past a hit: no branch to mispredict. Stops at the last hit, so never writes too far.
    for (int64_t i = cut.begin(piece); at < end; ++i) {
      positions[at] = i;
      at += is_nonzero(x[i]);
    }
  });
}

}  // namespace

void gather(size_t item, const Loop& loop, int64_t dim_stride, const int64_t* index, const void* x, void* y) {
  if (loop.numel == 0) return;
  with_item_size(item, [&](auto tag) {
    using T = typename decltype(tag)::type;
    gather_items(loop, dim_stride, index, static_cast<const T*>(x), static_cast<T*>(y));
  });
}

void scatter(DType t, bool add, const Loop& loop, int64_t dim_stride, const int64_t* index, const void* x, void* y) {
  if (loop.numel == 0) return;
  if (add) {
    with_element_type(t, [&](auto tag) {
      using T = typename decltype(tag)::type;
      scatter_items<T, true>(loop, dim_stride, index, static_cast<const T*>(x), static_cast<T*>(y));
    });
  } else {
    with_item_size(item_size(t), [&](auto tag) {
      using T = typename decltype(tag)::type;
      scatter_items<T, false>(loop, dim_stride, index, static_cast<const T*>(x), static_cast<T*>(y));
    });
  }
}

// inner's operands are (y, x), both counted from the start of a row.
void index_take(size_t item, int64_t rows, const int64_t* offset, const Loop& inner, const void* x, void* y) {
  if (rows == 0 || inner.numel == 0) return;
  with_item_size(item, [&](auto tag) {
    using T = typename decltype(tag)::type;
    take_items(rows, offset, inner, static_cast<const T*>(x), static_cast<T*>(y));
  });
}

// y[offset[r] + inner j] = or += x[r, j]: x is the dense one here, and inner's operands are again (y, x).
void index_put(DType t, bool add, int64_t rows, const int64_t* offset, const Loop& inner, const void* x, void* y) {
  if (rows == 0 || inner.numel == 0) return;
  if (add) {
    with_element_type(t, [&](auto tag) {
      using T = typename decltype(tag)::type;
      put_items<T, true>(rows, offset, inner, static_cast<const T*>(x), static_cast<T*>(y));
    });
  } else {
    with_item_size(item_size(t), [&](auto tag) {
      using T = typename decltype(tag)::type;
      put_items<T, false>(rows, offset, inner, static_cast<const T*>(x), static_cast<T*>(y));
    });
  }
}

void nonzero(DType t, int64_t n, const void* x, int64_t* positions, int64_t* count) {
  *count = 0;
  if (n == 0) return;
  with_element_type(t, [&](auto tag) {
    using T = typename decltype(tag)::type;
    find_nonzero(n, static_cast<const T*>(x), positions, count);
  });
}

}  // namespace pe::once
