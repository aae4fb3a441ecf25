// Cross-entropy of rows of logits x against a class or a distribution, PyTorch's definition. With p = softmax(x),
// smoothing s and K classes a row's loss is -sum over c of u_c log p_c, where u_c = w_c q_c and
//   soft targets   q_c = (1 - s) target_c + s / K
//   class t        u_c = (1 - s) w_t [c = t] + (s / K) w_c
// so that its gradient is p_c sum(u) - u_c in both cases.
#include "cpu/rows.h"
#include "cpu/simd_math.h"
#include "kernels/shapes.h"

namespace pe::PE_ISA {
namespace {

template <class T>
constexpr double kNsPerElement = sizeof(T) == 4 ? 1.5 : 12;

template <class T>
struct CrossEntropy {
  CrossEntropyShape s;
  const T* x;
  const void* target;
  const T* weight;
  double hard, soft;  // the shares 1 - s and s / K

  CrossEntropy(const CrossEntropyShape& shape, const void* x, const void* target, const void* weight)
      : s(shape),
        x(static_cast<const T*>(x)),
        target(target),
        weight(static_cast<const T*>(weight)),
        hard(1 - shape.label_smoothing),
        soft(shape.label_smoothing / double(shape.classes)) {}

  PE_INLINE int64_t label(int64_t row) const { return static_cast<const int64_t*>(target)[row]; }
  PE_INLINE T label_weight(int64_t row) const {
    return static_cast<T>(hard * (weight ? double(weight[label(row)]) : 1.0));
  }
  PE_INLINE bool ignored(int64_t row) const { return !s.soft_targets && label(row) == s.ignore_index; }
  // Whether u has more than the one entry at the label.
  PE_INLINE bool spread() const { return s.soft_targets || s.label_smoothing != 0; }

  // u_c of some columns of a row, without the label's own entry.
  template <class Lanes>
  PE_INLINE Vec<T> spread_weight(Lanes lanes, int64_t row, int64_t c) const {
    Vec<T> q(soft);
    if (s.soft_targets) q = fma(lanes.load(static_cast<const T*>(target) + row * s.classes + c), Vec<T>(hard), q);
    return weight ? q * lanes.load(weight + c) : q;
  }

  // The row's loss, given its largest logit and the logarithm of the sum of exp(x - max).
  T loss(int64_t row, T max, T log_sum) const {
    if (ignored(row)) return 0;
    const T* logits = x + row * s.classes;
    T total = 0;
    if (!s.soft_targets) total = label_weight(row) * ((max - logits[label(row)]) + log_sum);
    if (!spread()) return total;
    const Vec<T> m(static_cast<double>(max)), l(static_cast<double>(log_sum));
    const CrossEntropy local = *this;
    const Vec<T> sum = row_sum<T, false>(s.classes, [=](auto lanes, int64_t c) __attribute__((always_inline)) {
      return local.spread_weight(lanes, row, c) * ((m - lanes.load(logits + c)) + l);
    });
    return total + sum.v[0];
  }

  // sum(u)
  T mass(int64_t row) const {
    T total = s.soft_targets ? T(0) : label_weight(row);
    if (!spread()) return total;
    const CrossEntropy local = *this;
    const Vec<T> sum = row_sum<T, false>(s.classes, [=](auto lanes, int64_t c) __attribute__((always_inline)) {
      return local.spread_weight(lanes, row, c);
    });
    return total + sum.v[0];
  }

  // dx -= scale * u
  void subtract_targets(int64_t row, T scale, T* dx) const {
    if (spread()) {
      const Vec<T> negative(-static_cast<double>(scale));
      const CrossEntropy local = *this;
      each_vector<T>(s.classes, [=](auto lanes, int64_t c) __attribute__((always_inline)) {
        lanes.store(dx + c, fma(local.spread_weight(lanes, row, c), negative, lanes.load(dx + c)));
      });
    }
    if (!s.soft_targets) dx[label(row)] -= scale * label_weight(row);
  }
};

template <class T, bool kTile>
PE_INLINE void log_sum_block(const T* x, int64_t n, Vec<T>& max, Vec<T>& log_sum) {
  const Vec<T> m = row_max<T, kTile>(x, n);
  const Vec<T> s = row_sum<T, kTile>(
      n, [=](auto lanes, int64_t i) __attribute__((always_inline)) { return exp(lanes.load(x + i) - m); });
  max = m;
  log_sum = log(s);
}

template <class T>
void forward(const CrossEntropyShape& s, const void* x, const void* target, const void* weight, T* losses, T* lse) {
  const CrossEntropy<T> f(s, x, target, weight);
  const int64_t classes = s.classes;
  auto finish = [=](int64_t row, T max, T log_sum) {
    losses[row] = f.loss(row, max, log_sum);
    lse[row] = max + log_sum;
  };
  for_each_row<T>(
      s.rows, classes, kNsPerElement<T>,
      [=](int64_t row, int64_t n) {
        Tile<T> tile;
        Vec<T> max, log_sum;
        tile.read(f.x + row * classes, n, classes);
        log_sum_block<T, true>(tile.data, classes * Vec<T>::width, max, log_sum);
        T maxima[Vec<T>::width], log_sums[Vec<T>::width];
        max.store(maxima);
        log_sum.store(log_sums);
        for (int64_t r = 0; r < n; ++r) finish(row + r, maxima[r], log_sums[r]);
      },
      [=](int64_t row) {
        Vec<T> max, log_sum;
        log_sum_block<T, false>(f.x + row * classes, classes, max, log_sum);
        finish(row, max.v[0], log_sum.v[0]);
      });
}

// dx = scale * softmax(x). lse has lost the digits that lie below the logits' magnitude, so the sum is taken again: it
// mends what exp(x - lse) lacks to 1. dx may be x.
template <class T, bool kTile>
PE_INLINE void scaled_softmax_block(const T* x, int64_t n, Vec<T> lse, Vec<T> scale, T* dx) {
  const Vec<T> s = row_sum<T, kTile>(n, [=](auto lanes, int64_t i) __attribute__((always_inline)) {
    const Vec<T> e = exp(lanes.load(x + i) - lse);
    lanes.store(dx + i, e);
    return e;
  });
  const Vec<T> factor = scale / s;
  each_vector<T>(n, [=](auto lanes, int64_t i)
                        __attribute__((always_inline)) { lanes.store(dx + i, lanes.load(dx + i) * factor); });
}

template <class T>
void backward(const CrossEntropyShape& s, const void* x, const T* lse, const void* target, const void* weight,
              const T* dlosses, T* dx) {
  const CrossEntropy<T> f(s, x, target, weight);
  const int64_t classes = s.classes;
  auto finish = [=](int64_t row) {
    if (f.ignored(row))
      std::memset(dx + row * classes, 0, static_cast<size_t>(classes) * sizeof(T));
    else
      f.subtract_targets(row, dlosses[row], dx + row * classes);
  };
  auto scale = [=](int64_t row) { return f.ignored(row) ? T(0) : dlosses[row] * f.mass(row); };
  for_each_row<T>(
      s.rows, classes, kNsPerElement<T>,
      [=](int64_t row, int64_t n) {
        Tile<T> tile;
        T scales[Vec<T>::width];
        for (int64_t r = 0; r < Vec<T>::width; ++r) scales[r] = r < n ? scale(row + r) : T(0);
        tile.read(f.x + row * classes, n, classes);
        scaled_softmax_block<T, true>(tile.data, classes * Vec<T>::width, Vec<T>::load_partial(lse + row, n),
                                      Vec<T>::load(scales), tile.data);
        tile.write(dx + row * classes, n, classes);
        for (int64_t r = 0; r < n; ++r) finish(row + r);
      },
      [=](int64_t row) {
        scaled_softmax_block<T, false>(f.x + row * classes, classes, Vec<T>(double(lse[row])),
                                       Vec<T>(double(scale(row))), dx + row * classes);
        finish(row);
      });
}

}  // namespace

void cross_entropy(const CrossEntropyShape& s, DType t, const void* x, const void* target, const void* weight,
                   void* losses, void* lse) {
  if (t == DType::Float32)
    forward(s, x, target, weight, static_cast<float*>(losses), static_cast<float*>(lse));
  else
    forward(s, x, target, weight, static_cast<double*>(losses), static_cast<double*>(lse));
}

void cross_entropy_backward(const CrossEntropyShape& s, DType t, const void* x, const void* lse, const void* target,
                            const void* weight, const void* dlosses, void* dx) {
  if (t == DType::Float32)
    backward(s, x, static_cast<const float*>(lse), target, weight, static_cast<const float*>(dlosses),
             static_cast<float*>(dx));
  else
    backward(s, x, static_cast<const double*>(lse), target, weight, static_cast<const double*>(dlosses),
             static_cast<double*>(dx));
}

}  // namespace pe::PE_ISA
