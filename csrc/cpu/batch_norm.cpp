// Batch normalization over N and L, one mean and variance per channel.
//
// Both sums that a pass needs (forward: of x and x²; backward: of dy and dy·x̂) are gathered by one skeleton, reduce():
// the tensor is cut into slices by its shape; a slice adds up short blocks in T, relative to one number per channel
// (the block's own first value, or the mean), merges the blocks in double, and the slices are merged in order. A shift
// by the block's first value bounds the variance's relative error by the block's length times T's epsilon, whatever the
// mean.
#include "cpu/simd.h"
#include "kernels/shapes.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {
namespace {

constexpr int64_t kSliceElements = 65536;
constexpr int64_t kMaxSlices = 64;
constexpr int64_t kBlockRows = 128;  // channels-last: rows added up in T
constexpr int64_t kBlockElements =
    1024;  // planar: elements of a channel added up in T, at least where there are as many,
constexpr int64_t kMaxBlockElements = 4096;  // and at most
constexpr int kTile = 4;                     // vectors accumulated side by side
constexpr int64_t kCacheBytes = 12 << 20;    // larger tensors do not stay in the caches: outputs bypass them

int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }
int64_t at_most(int64_t a, int64_t b) { return a < b ? a : b; }

// The tensor as a matrix. Planar: a row is one image's channel. Channels-last: a row is one position, and narrow rows
// that do not fill whole registers are joined `fold` at a time; what is left over is a last row of `tail` elements.
struct Layout {
  bool planar;
  int64_t rows, width, tail;
  int64_t channels, fold;  // channels-last: width == channels * fold
};

template <class T>
Layout layout_of(const BatchNormShape& s) {
  constexpr int64_t w = Vec<T>::width;
  if (!s.channels_last && s.L > 1) return {true, s.N * s.C, s.L, 0, s.C, 1};
  int64_t fold = 1;
  if (s.C < kTile * w)
    while (s.C * fold % w != 0) fold *= 2;
  const int64_t rows = s.N * s.L;
  return {false, rows / fold, s.C * fold, rows % fold * s.C, s.C, fold};
}

template <class T>
constexpr T kOnesThenZeros[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

// One register's worth of the tensor: n lanes of it when kPartial. A channel's coefficient is the same in all lanes
// (planar) or the lanes are neighbouring channels.
template <class T, bool kPlanar, bool kPartial, bool kStream = false>
struct Lanes {
  int64_t n;

  PE_INLINE Vec<T> load(const T* p) const {
    if constexpr (kPartial)
      return Vec<T>::load_partial(p, n);
    else
      return Vec<T>::load(p);
  }
  PE_INLINE Vec<T> channel(const T* p) const {
    if constexpr (kPlanar)
      return Vec<T>(static_cast<double>(*p));
    else
      return load(p);
  }
  // Lanes behind the end become zero.
  PE_INLINE Vec<T> keep(Vec<T> v) const {
    if constexpr (kPartial && kPlanar) {
      return select(Vec<T>::load(kOnesThenZeros<T> + 16 - n) > 0.0, v, 0.0);
    } else {
      return v;
    }
  }
  PE_INLINE void store(T* p, Vec<T> v) const {
    if constexpr (kPartial) {
      v.store_partial(p, n);
    } else if constexpr (kStream) {
#if defined(PE_ISA_AVX512)
      _mm512_stream_si512(reinterpret_cast<__m512i*>(p), (__m512i)v.v);
#elif defined(PE_ISA_AVX2)
      _mm256_stream_si256(reinterpret_cast<__m256i*>(p), (__m256i)v.v);
#else
      v.store(p);
#endif
    } else {
      v.store(p);
    }
  }
};

// ---- elementwise pass: f(lanes, offset in the tensor, offset in the coefficients)

template <class T, bool kPlanar, bool kStream, class F>
void map_rows(const Layout& m, int64_t first, int64_t last, const F& formula) {
  constexpr int64_t w = Vec<T>::width;
  const F f = formula;  // a local copy stays in registers: stores to T cannot change it
  const Layout layout = m;
  int64_t o = first * layout.width;
  for (int64_t row = first; row < last; ++row) {
    const int64_t width = row < layout.rows ? layout.width : layout.tail;
    const int64_t channel = kPlanar ? row % layout.channels : 0;
    int64_t i = 0;
    for (; i + w <= width; i += w, o += w) f(Lanes<T, kPlanar, false, kStream>{w}, o, kPlanar ? channel : i);
    if (i < width) {
      f(Lanes<T, kPlanar, true>{width - i}, o, kPlanar ? channel : i);
      o += width - i;
    }
  }
#if defined(PE_ISA_AVX512) || defined(PE_ISA_AVX2)
  if (kStream) _mm_sfence();
#endif
}

template <class T, class F>
void map(const Layout& m, const T* out, const F& f) {
  const int64_t rows = m.rows + (m.tail > 0);
  const int64_t bytes = (m.rows * m.width + m.tail) * int64_t(sizeof(T));
  const bool aligned = reinterpret_cast<uintptr_t>(out) % kVectorBytes == 0 && m.width % Vec<T>::width == 0;
  const bool stream = bytes >= kCacheBytes && aligned;
  const int64_t piece_rows = at_least(1, kSliceElements / at_least(1, m.width));
  parallel_for((rows + piece_rows - 1) / piece_rows, double(bytes) * 0.15, [&](int64_t piece) {
    const int64_t first = piece * piece_rows, last = at_most(rows, first + piece_rows);
    if (m.planar)
      stream ? map_rows<T, true, true>(m, first, last, f) : map_rows<T, true, false>(m, first, last, f);
    else
      stream ? map_rows<T, false, true>(m, first, last, f) : map_rows<T, false, false>(m, first, last, f);
  });
}

// ---- reduction: two sums per channel, kept as (a, b)

// a: mean, b: sum of squared distances from it, merged by Chan, Golub and LeVeque's formula ("Algorithms for computing
// the sample variance", 1983).
template <class T>
struct Moments {
  const T* x;
  PE_INLINE const T* shift(int64_t o, int64_t) const { return x + o; }
  template <class L>
  PE_INLINE void add(L lanes, int64_t o, Vec<T> shift, Vec<T>& sum, Vec<T>& sumsq) const {
    const Vec<T> d = lanes.keep(lanes.load(x + o) - shift);
    sum = sum + d;
    sumsq = fma(d, d, sumsq);
  }
  static PE_INLINE double block_a(double shift, double sum, double, double inv_n) { return shift + sum * inv_n; }
  static PE_INLINE double block_b(double sum, double sumsq, double inv_n) { return sumsq - sum * sum * inv_n; }
  static PE_INLINE void merge(double n0, double& a0, double& b0, double n1, double a1, double b1) {
    const double n = n0 + n1, ratio = n1 / (n < 1 ? 1 : n), delta = a1 - a0;
    a0 += delta * ratio;
    b0 += b1 + delta * delta * (n0 * ratio);
  }
};

// a: sum of dy, b: sum of dy * (x - mean). With a relu behind, dy counts where its output y is positive; kStore keeps
// that gradient, which is the residual's and the next pass's.
template <class T, bool kRelu, bool kStore>
struct GradientSums {
  const T *dy, *y, *x, *mean;
  T* masked;
  PE_INLINE const T* shift(int64_t, int64_t c) const { return mean + c; }
  template <class L>
  PE_INLINE void add(L lanes, int64_t o, Vec<T> shift, Vec<T>& sum, Vec<T>& product) const {
    Vec<T> d = lanes.load(dy + o);
    if constexpr (kRelu) d = select(lanes.load(y + o) > 0.0, d, 0.0);
    if constexpr (kStore) lanes.store(masked + o, d);
    sum = sum + d;
    product = fma(d, lanes.load(x + o) - shift, product);
  }
  static PE_INLINE double block_a(double, double sum, double, double) { return sum; }
  static PE_INLINE double block_b(double, double product, double) { return product; }
  static PE_INLINE void merge(double, double& a0, double& b0, double, double a1, double b1) {
    a0 += a1;
    b0 += b1;
  }
};

// What is known of `width` channels: how many elements, and the two sums.
struct Sums {
  double *n, *a, *b;
  Sums(double* p, int64_t width) : n(p), a(p + width), b(p + 2 * width) {}
  static constexpr int64_t kArrays = 3;
};

// Channels-last: kVectors neighbouring registers of `rows` rows, added to sum and product.
template <class T, int kVectors, bool kPartial, class F>
PE_INLINE void add_tile(const F& f, int64_t o, int64_t stride, int64_t rows, const T* shift, int64_t lanes_left, T* sum,
                        T* product) {
  constexpr int64_t w = Vec<T>::width;
  const Lanes<T, false, kPartial> lanes{lanes_left};
  Vec<T> k[kVectors], s[kVectors], q[kVectors];
  for (int v = 0; v < kVectors; ++v) {
    k[v] = lanes.load(shift + v * w);
    s[v] = Vec<T>::load(sum + v * w);
    q[v] = Vec<T>::load(product + v * w);
  }
  for (int64_t r = 0; r < rows; ++r, o += stride)
    for (int v = 0; v < kVectors; ++v) f.add(lanes, o + v * w, k[v], s[v], q[v]);
  for (int v = 0; v < kVectors; ++v) {
    s[v].store(sum + v * w);
    q[v].store(product + v * w);
  }
}

template <class T, class F>
void reduce_rows(const F& formula, int64_t first, int64_t last, int64_t stride, int64_t width, int64_t group, T* sum,
                 const Sums& out) {
  constexpr int64_t w = Vec<T>::width;
  const F f = formula;
  const int64_t padded = (width + w - 1) / w * w;
  T* product = sum + padded;
  for (int64_t block = first; block < last; block += kBlockRows) {
    const int64_t block_end = at_most(last, block + kBlockRows);
    std::memset(sum, 0, static_cast<size_t>(2 * padded) * sizeof(T));
    for (int64_t row = block; row < block_end; row += group) {
      const int64_t rows = at_most(group, block_end - row), o = row * stride;
      const T* shift = f.shift(block * stride, 0);
      int64_t c = 0;
      for (; c + kTile * w <= width; c += kTile * w)
        add_tile<T, kTile, false>(f, o + c, stride, rows, shift + c, w, sum + c, product + c);
      for (; c + w <= width; c += w) add_tile<T, 1, false>(f, o + c, stride, rows, shift + c, w, sum + c, product + c);
      if (c < width) add_tile<T, 1, true>(f, o + c, stride, rows, shift + c, width - c, sum + c, product + c);
    }
    const double before = double(block - first), n = double(block_end - block), inv_n = 1 / n;
    const T* shift = f.shift(block * stride, 0);
    for (int64_t c = 0; c < width; ++c) {
      const double k = double(shift[c]), s = double(sum[c]), q = double(product[c]);
      F::merge(before, out.a[c], out.b[c], n, F::block_a(k, s, q, inv_n), F::block_b(s, q, inv_n));
    }
  }
}

// How many rows a tile is kept in registers for. Each sum adds the rows one by one in any case, so this cannot change a
// bit. Tiles of long rows jump in memory, which a cache does not mind; from main memory 1 KB at a time in order is
// fastest.
template <class T>
int64_t rows_at_once(const Layout& m) {
  const int64_t row_bytes = at_least(1, m.width * int64_t(sizeof(T)));
  if (m.width <= kTile * Vec<T>::width) return kBlockRows;
  return m.rows * row_bytes < kCacheBytes ? 16 : at_least(1, 1024 / row_bytes);
}

// Planar: adds n neighbouring elements of one channel.
template <class T, class F>
PE_INLINE void add_run(const F& f, int64_t o, int64_t n, Vec<T> shift, Vec<T> (&s)[kTile], Vec<T> (&q)[kTile]) {
  constexpr int64_t w = Vec<T>::width;
  int64_t i = 0;
  for (; i + kTile * w <= n; i += kTile * w)
    for (int v = 0; v < kTile; ++v) f.add(Lanes<T, true, false>{w}, o + i + v * w, shift, s[v], q[v]);
  for (; i + w <= n; i += w) f.add(Lanes<T, true, false>{w}, o + i, shift, s[0], q[0]);
  if (i < n) f.add(Lanes<T, true, true>{n - i}, o + i, shift, s[0], q[0]);
}

template <class T, class F>
void reduce_planes(const F& formula, int64_t image0, int64_t image1, int64_t c0, int64_t c1, int64_t C, int64_t L,
                   const Sums& out) {
  const F f = formula;
  const int64_t images = at_least(1, kBlockElements / L);
  for (int64_t image = image0; image < image1; image += images) {
    const int64_t end = at_most(image1, image + images);
    for (int64_t c = c0; c < c1; ++c) {
      for (int64_t l = 0; l < L; l += kMaxBlockElements) {
        const int64_t run = at_most(kMaxBlockElements, L - l);
        const T k = *f.shift((image * C + c) * L + l, c);
        Vec<T> s[kTile], q[kTile];
        for (int v = 0; v < kTile; ++v) s[v] = q[v] = Vec<T>(0.0);
        for (int64_t i = image; i < end; ++i) add_run<T>(f, (i * C + c) * L + l, run, Vec<T>(double(k)), s, q);
        const double sum = double(horizontal_sum((s[0] + s[1]) + (s[2] + s[3])));
        const double product = double(horizontal_sum((q[0] + q[1]) + (q[2] + q[3])));
        const double n = double((end - image) * run), inv_n = 1 / n;
        F::merge(out.n[c], out.a[c], out.b[c], n, F::block_a(double(k), sum, product, inv_n),
                 F::block_b(sum, product, inv_n));
        out.n[c] += n;
      }
    }
  }
}

// The two sums over the whole tensor, one per channel; in the calling thread's scratch memory, slot 0.
template <class T, class F>
Sums reduce(const Layout& m, const F& f) {
  const int64_t elements = m.rows * m.width + m.tail, C = m.channels;
  const int64_t lines = m.planar ? m.rows / at_least(1, C) : m.rows;  // images or rows
  const int64_t wanted = at_least(1, at_most(kMaxSlices, elements / kSliceElements));
  const int64_t slices = at_least(1, at_most(wanted, m.planar ? lines : lines / kBlockRows));
  const int64_t slice_lines = (lines + slices - 1) / slices;
  // Few large images: a slice is shared out by channels.
  const int64_t groups = m.planar ? at_least(1, at_most(C, wanted / slices)) : 1;
  const int64_t channels = m.planar ? C : m.width;
  const size_t slice_doubles = static_cast<size_t>(Sums::kArrays * channels);
  auto* memory =
      static_cast<double*>(thread_scratch(0, (static_cast<size_t>(slices) + 1) * slice_doubles * sizeof(double)));
  std::memset(memory, 0, (static_cast<size_t>(slices) + 1) * slice_doubles * sizeof(double));
  parallel_for(slices * groups, double(elements) * 0.2, [&](int64_t piece) {
    const int64_t slice = piece / groups, group = piece % groups;
    const Sums out(memory + static_cast<size_t>(slice + 1) * slice_doubles, channels);
    const int64_t first = at_most(lines, slice * slice_lines), last = at_most(lines, first + slice_lines);
    if (m.planar) {
      reduce_planes<T>(f, first, last, C * group / groups, C * (group + 1) / groups, C, m.width, out);
      return;
    }
    T* sum = static_cast<T*>(thread_scratch(1, static_cast<size_t>(2 * (m.width + Vec<T>::width)) * sizeof(T)));
    reduce_rows<T>(f, first, last, m.width, m.width, rows_at_once<T>(m), sum, out);
    for (int64_t c = 0; c < m.width; ++c) out.n[c] = double(last - first);
    if (slice + 1 == slices && m.tail > 0) {
      // One row more for the first channels; its merge needs their counts, so it gets sums of its own.
      auto* last_row = static_cast<double*>(thread_scratch(2, slice_doubles * sizeof(double)));
      std::memset(last_row, 0, slice_doubles * sizeof(double));
      const Sums extra(last_row, channels);
      reduce_rows<T>(f, m.rows, m.rows + 1, m.width, m.tail, 1, sum, extra);
      for (int64_t c = 0; c < m.tail; ++c) {
        F::merge(out.n[c], out.a[c], out.b[c], 1, extra.a[c], extra.b[c]);
        out.n[c] += 1;
      }
    }
  });
  const Sums total(memory, C);
  for (int64_t slice = 0; slice < slices; ++slice)
    for (int64_t g = 0; g < m.fold; ++g) {
      const Sums part(memory + static_cast<size_t>(slice + 1) * slice_doubles, channels);
      const double *n = part.n + g * C, *a = part.a + g * C, *b = part.b + g * C;
      for (int64_t c = 0; c < C; ++c) {
        F::merge(total.n[c], total.a[c], total.b[c], n[c], a[c], b[c]);
        total.n[c] += n[c];
      }
    }
  return total;
}

// ---- the kernels

// `count` arrays of per-channel coefficients, each repeated to the layout's width; scratch slot 3.
template <class T>
T* coefficients(const Layout& m, int count) {
  return static_cast<T*>(thread_scratch(3, static_cast<size_t>(count * m.channels * m.fold) * sizeof(T)));
}

template <class T>
void repeat(const Layout& m, T* p) {
  for (int64_t c = m.channels; c < m.channels * m.fold; ++c) p[c] = p[c - m.channels];
}

template <class T>
void stats(const BatchNormShape& s, const T* x, T* mean, T* var) {
  const Sums sums = reduce<T>(layout_of<T>(s), Moments<T>{x});
  const double n = double(s.N * s.L);
  for (int64_t c = 0; c < s.C; ++c) {
    mean[c] = T(sums.a[c]);
    var[c] = T(sums.b[c] < 0 ? 0 : sums.b[c] / n);
  }
}

template <class T>
struct Affine {
  const T *center, *scale, *shift;
};

template <class T, bool kResidual, bool kRelu>
void apply_with(const Layout& m, Affine<T> a, const T* x, const T* residual, T* y) {
  // Subtracting the mean first costs nothing beside the memory traffic and keeps a constant channel exact.
  map(m, y, [=](auto lanes, int64_t o, int64_t c) __attribute__((always_inline)) {
    const Vec<T> d = lanes.load(x + o) - lanes.channel(a.center + c);
    Vec<T> v = fma(d, lanes.channel(a.scale + c), lanes.channel(a.shift + c));
    if constexpr (kResidual) v = v + lanes.load(residual + o);
    if constexpr (kRelu) v = select(v < 0.0, 0.0, v);
    lanes.store(y + o, v);
  });
}

template <class T>
void apply(const BatchNormShape& s, const T* x, const T* mean, const T* invstd, const T* weight, const T* bias,
           const T* residual, bool relu, T* y) {
  const Layout m = layout_of<T>(s);
  const int64_t width = m.channels * m.fold;
  T *center = coefficients<T>(m, 3), *scale = center + width, *shift = scale + width;
  for (int64_t c = 0; c < s.C; ++c) {
    center[c] = mean[c];
    scale[c] = weight ? invstd[c] * weight[c] : invstd[c];
    shift[c] = bias ? bias[c] : T(0);
  }
  repeat(m, center), repeat(m, scale), repeat(m, shift);
  const Affine<T> a{center, scale, shift};
  if (residual)
    relu ? apply_with<T, true, true>(m, a, x, residual, y) : apply_with<T, true, false>(m, a, x, residual, y);
  else
    relu ? apply_with<T, false, true>(m, a, x, residual, y) : apply_with<T, false, false>(m, a, x, residual, y);
}

// dx = invstd·weight · (dy − mean(dy) − x̂·mean(dy·x̂)) in training, else invstd·weight · dy.
template <class T, bool kRelu>
void input_gradient(const Layout& m, bool training, const T* dy, const T* relu_y, const T* x, const T* center,
                    const T* scale, const T* slope, const T* offset, T* dx) {
  const auto gradient = [=](auto lanes, int64_t o) __attribute__((always_inline)) {
    const Vec<T> d = lanes.load(dy + o);
    if constexpr (kRelu)
      return select(lanes.load(relu_y + o) > 0.0, d, 0.0);
    else
      return d;
  };
  if (training) {
    map(m, dx, [=](auto lanes, int64_t o, int64_t c) __attribute__((always_inline)) {
      const Vec<T> d = lanes.load(x + o) - lanes.channel(center + c);
      const Vec<T> through_statistics = fma(d, lanes.channel(slope + c), lanes.channel(offset + c));
      lanes.store(dx + o, fma(gradient(lanes, o), lanes.channel(scale + c), through_statistics));
    });
  } else {
    map(m, dx, [=](auto lanes, int64_t o, int64_t c) __attribute__((always_inline)) {
      lanes.store(dx + o, gradient(lanes, o) * lanes.channel(scale + c));
    });
  }
}

template <class T>
Sums gradient_sums(const Layout& m, const T* dy, const T* relu_y, const T* x, const T* mean, T* dresidual) {
  if (!relu_y && !dresidual) return reduce<T>(m, GradientSums<T, false, false>{dy, nullptr, x, mean, nullptr});
  if (!relu_y) return reduce<T>(m, GradientSums<T, false, true>{dy, nullptr, x, mean, dresidual});
  if (!dresidual) return reduce<T>(m, GradientSums<T, true, false>{dy, relu_y, x, mean, nullptr});
  return reduce<T>(m, GradientSums<T, true, true>{dy, relu_y, x, mean, dresidual});
}

template <class T>
void backward(const BatchNormShape& s, bool training, const T* dy, const T* relu_y, const T* x, const T* mean,
              const T* invstd, const T* weight, T* dx, T* dweight, T* dbias, T* dresidual) {
  const Layout m = layout_of<T>(s);
  const int64_t width = m.channels * m.fold;
  T *center = coefficients<T>(m, 4), *scale = center + width, *slope = scale + width, *offset = slope + width;
  for (int64_t c = 0; c < s.C; ++c) {
    center[c] = mean[c];
    scale[c] = weight ? invstd[c] * weight[c] : invstd[c];
  }
  repeat(m, center), repeat(m, scale);
  if (training || dweight || dbias || dresidual) {
    const Sums sums = gradient_sums<T>(m, dy, relu_y, x, center, dresidual);
    const double n = double(s.N * s.L);
    for (int64_t c = 0; c < s.C; ++c) {
      const double inv = double(invstd[c]);
      if (dweight) dweight[c] = T(sums.b[c] * inv);
      if (dbias) dbias[c] = T(sums.a[c]);
      slope[c] = T(-double(scale[c]) * inv * inv * sums.b[c] / n);
      offset[c] = T(-double(scale[c]) * sums.a[c] / n);
    }
    repeat(m, slope), repeat(m, offset);
  }
  if (!dx) return;
  if (relu_y && !dresidual)
    input_gradient<T, true>(m, training, dy, relu_y, x, center, scale, slope, offset, dx);
  else
    input_gradient<T, false>(m, training, dresidual ? dresidual : dy, nullptr, x, center, scale, slope, offset, dx);
}

}  // namespace

void batch_norm_stats(const BatchNormShape& s, DType t, const void* x, void* mean, void* var) {
  if (t == DType::Float32)
    stats(s, static_cast<const float*>(x), static_cast<float*>(mean), static_cast<float*>(var));
  else
    stats(s, static_cast<const double*>(x), static_cast<double*>(mean), static_cast<double*>(var));
}

namespace {
template <class T>
const T* in(const void* p) {
  return static_cast<const T*>(p);
}
template <class T>
T* out(void* p) {
  return static_cast<T*>(p);
}
}  // namespace

void batch_norm_apply(const BatchNormShape& s, DType t, const void* x, const void* mean, const void* invstd,
                      const void* weight, const void* bias, const void* residual, bool relu, void* y) {
  if (t == DType::Float32)
    apply(s, in<float>(x), in<float>(mean), in<float>(invstd), in<float>(weight), in<float>(bias), in<float>(residual),
          relu, out<float>(y));
  else
    apply(s, in<double>(x), in<double>(mean), in<double>(invstd), in<double>(weight), in<double>(bias),
          in<double>(residual), relu, out<double>(y));
}

void batch_norm_backward(const BatchNormShape& s, DType t, bool training, const void* dy, const void* relu_y,
                         const void* x, const void* mean, const void* invstd, const void* weight, void* dx,
                         void* dweight, void* dbias, void* dresidual) {
  if (t == DType::Float32)
    backward(s, training, in<float>(dy), in<float>(relu_y), in<float>(x), in<float>(mean), in<float>(invstd),
             in<float>(weight), out<float>(dx), out<float>(dweight), out<float>(dbias), out<float>(dresidual));
  else
    backward(s, training, in<double>(dy), in<double>(relu_y), in<double>(x), in<double>(mean), in<double>(invstd),
             in<double>(weight), out<double>(dx), out<double>(dweight), out<double>(dbias), out<double>(dresidual));
}

}  // namespace pe::PE_ISA
