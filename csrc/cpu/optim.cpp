// The optimizers' updates: every parameter tensor in one call, each number of memory touched once.
//
// The tensors are laid end to end, each rounded up to whole registers, and the line is cut into pieces of one size: a
// large tensor is shared between threads, and many small ones are one piece. Every element is computed alone, so the
// cut does not show in the results.
#include "cpu/simd.h"
#include "kernels/shapes.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {
namespace {

constexpr int64_t kPieceElements = 16384;
constexpr int64_t kAlign = 64;  // elements; a multiple of every register's width, so a piece starts on a register

// update(tensor, i, n, partial): elements i .. i + n of a tensor, n <= width. prepare(tensor) comes before its first
// update.
template <class T, class Update>
void for_each_element(int64_t count, const OptimTensor* tensors, double ns_per_element, const Update& prototype) {
  auto* start = static_cast<int64_t*>(thread_scratch(0, static_cast<size_t>(count + 1) * sizeof(int64_t)));
  start[0] = 0;
  for (int64_t i = 0; i < count; ++i) start[i + 1] = start[i] + (tensors[i].n + kAlign - 1) / kAlign * kAlign;
  const int64_t total = start[count];
  parallel_for((total + kPieceElements - 1) / kPieceElements, double(total) * ns_per_element, [&](int64_t piece) {
    constexpr int64_t w = Vec<T>::width;
    const int64_t begin = piece * kPieceElements;
    const int64_t end = begin + kPieceElements < total ? begin + kPieceElements : total;
    int64_t low = 0, high = count;  // the last tensor that starts at or before begin
    while (high - low > 1) {
      const int64_t middle = (low + high) / 2;
      (start[middle] <= begin ? low : high) = middle;
    }
    Update update = prototype;
    for (int64_t k = low; k < count && start[k] < end; ++k) {
      update.prepare(tensors[k]);
      const int64_t n = tensors[k].n < end - start[k] ? tensors[k].n : end - start[k];
      int64_t i = begin > start[k] ? begin - start[k] : 0;
      for (; i + w <= n; i += w) update.template apply<false>(i, w);
      if (i < n) update.template apply<true>(i, n - i);
    }
  });
}

template <bool kPartial, class T>
PE_INLINE Vec<T> load(const T* p, int64_t n) {
  if constexpr (kPartial)
    return Vec<T>::load_partial(p, n);
  else
    return Vec<T>::load(p);
}

template <bool kPartial, class T>
PE_INLINE void store(T* p, int64_t n, Vec<T> v) {
  if constexpr (kPartial)
    v.store_partial(p, n);
  else
    v.store(p);
}

// The gradient that both optimizers start from: its sign turned to maximize, weight decay added as an L2 penalty's
// gradient.
template <class T>
PE_INLINE Vec<T> penalized(Vec<T> g, Vec<T> p, bool maximize, double l2) {
  if (maximize) g = -g;
  if (l2 != 0) g = fma(p, Vec<T>(l2), g);
  return g;
}

template <class T, bool kMomentum>
struct Sgd {
  SgdOptions o;
  T *param, *buffer;
  const T* grad;
  bool first;  // the buffer has no content yet

  void prepare(const OptimTensor& t) {
    param = static_cast<T*>(t.param);
    grad = static_cast<const T*>(t.grad);
    buffer = static_cast<T*>(t.state0);
    first = t.step == 1;
  }

  template <bool kPartial>
  PE_INLINE void apply(int64_t i, int64_t n) const {
    const Vec<T> p = load<kPartial>(param + i, n);
    Vec<T> g = penalized(load<kPartial>(grad + i, n), p, o.maximize, o.weight_decay);
    if constexpr (kMomentum) {
      Vec<T> b = g;
      if (!first) b = fma(load<kPartial>(buffer + i, n), Vec<T>(o.momentum), g * (1 - o.dampening));
      store<kPartial>(buffer + i, n, b);
      g = o.nesterov ? fma(b, Vec<T>(o.momentum), g) : b;
    }
    store<kPartial>(param + i, n, fma(g, Vec<T>(-o.lr), p));
  }
};

// Kingma and Ba 2015; decoupled decay: Loshchilov and Hutter 2019; amsgrad: Reddi, Kale and Kumar 2018.
template <class T>
struct Adam {
  AdamOptions o;
  T *param, *m, *v, *v_max;
  const T* grad;
  double step, step_size, inv_root_correction;

  explicit Adam(const AdamOptions& options) : o(options), step(0) {}

  void prepare(const OptimTensor& t) {
    param = static_cast<T*>(t.param);
    grad = static_cast<const T*>(t.grad);
    m = static_cast<T*>(t.state0);
    v = static_cast<T*>(t.state1);
    v_max = static_cast<T*>(t.state2);
    if (t.step == step) return;  // powers cost more than a small tensor's update
    step = t.step;
    step_size = o.lr / (1 - __builtin_pow(o.beta1, step));
    inv_root_correction = 1 / __builtin_sqrt(1 - __builtin_pow(o.beta2, step));
  }

  template <bool kPartial>
  PE_INLINE void apply(int64_t i, int64_t n) const {
    Vec<T> p = load<kPartial>(param + i, n);
    const Vec<T> g = penalized(load<kPartial>(grad + i, n), p, o.maximize, o.decoupled ? 0 : o.weight_decay);
    if (o.decoupled) p = p * (1 - o.lr * o.weight_decay);
    const Vec<T> old_m = load<kPartial>(m + i, n);
    const Vec<T> new_m = fma(g - old_m, Vec<T>(1 - o.beta1), old_m);
    const Vec<T> new_v = fma(load<kPartial>(v + i, n), Vec<T>(o.beta2), g * g * (1 - o.beta2));
    store<kPartial>(m + i, n, new_m);
    store<kPartial>(v + i, n, new_v);
    Vec<T> second = new_v;
    if (o.amsgrad) {
      second = vmax(load<kPartial>(v_max + i, n), new_v);
      store<kPartial>(v_max + i, n, second);
    }
    const Vec<T> denominator = fma(sqrt(second), Vec<T>(inv_root_correction), Vec<T>(o.eps));
    store<kPartial>(param + i, n, p - new_m * step_size / denominator);
  }
};

template <class T>
void sgd(int64_t count, const OptimTensor* tensors, const SgdOptions& options) {
  if (options.momentum != 0)
    for_each_element<T>(count, tensors, 0.8, Sgd<T, true>{options, nullptr, nullptr, nullptr, false});
  else
    for_each_element<T>(count, tensors, 0.5, Sgd<T, false>{options, nullptr, nullptr, nullptr, false});
}

template <class T>
void adam(int64_t count, const OptimTensor* tensors, const AdamOptions& options) {
  for_each_element<T>(count, tensors, 1.2, Adam<T>(options));
}

}  // namespace

void sgd_step(DType t, int64_t count, const OptimTensor* tensors, const SgdOptions& options) {
  t == DType::Float32 ? sgd<float>(count, tensors, options) : sgd<double>(count, tensors, options);
}

void adam_step(DType t, int64_t count, const OptimTensor* tensors, const AdamOptions& options) {
  t == DType::Float32 ? adam<float>(count, tensors, options) : adam<double>(count, tensors, options);
}

}  // namespace pe::PE_ISA
