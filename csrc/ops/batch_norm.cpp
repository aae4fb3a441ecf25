// Batch normalization: S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing
// Internal Covariate Shift" (2015). The batch is normalized with its biased variance; the running estimate keeps the
// unbiased one.
#include "ops/batch_norm.h"

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/masked_gradient.h"

namespace pe::ops {

namespace {

// Memory as the kernels read it: N L C for channels-last tensors and matrices, else N C L.
struct Layout {
  BatchNormShape shape;
  Tensor apply(const Tensor& x) const { return shape.channels_last && x.dim() == 4 ? channels_last(x) : contiguous(x); }
};

Layout layout_of(const Tensor& x) {
  Layout layout;
  BatchNormShape& s = layout.shape;
  s.N = x.shape()[0], s.C = x.shape()[1], s.L = 1;
  for (int i = 2; i < x.dim(); ++i) s.L *= x.shape()[i];
  s.channels_last = (x.dim() == 4 && x.is_channels_last() && !x.is_contiguous()) || s.L == 1;
  return layout;
}

void check_channels(const Tensor& t, const Tensor& x, const char* name) {
  if (!t.defined()) return;
  PE_CHECK(t.dim() == 1 && t.shape()[0] == x.shape()[1], Shape, "batch_norm: expected ", name, " of shape (",
           x.shape()[1], ",), got ", t.shape(), " (input ", x.shape(), ")");
}

Tensor channel_view(const Tensor& t, int ndim) {
  Dims shape = Dims::filled(ndim, 1);
  shape[1] = t.shape()[0];
  return reshape(t, shape);
}

// What both passes need: the input in the kernels' layout and with its graph link, the statistics, the parameters.
struct Norm {
  Layout layout;
  Tensor x, weight, bias;  // weight and bias may be undefined
  Tensor mean, invstd;
  bool training;
  double eps;
};

const void* data_or_null(const Tensor& p) { return p.defined() ? p.data() : nullptr; }

void apply(const Norm& n, const Tensor& weight, const Tensor& bias, const Tensor& residual, bool relu, void* y) {
  kernels().batch_norm_apply(n.layout.shape, n.x.dtype(), n.x.data(), n.mean.data(), n.invstd.data(),
                             data_or_null(weight), data_or_null(bias), data_or_null(residual), relu, y);
}

// The same gradient out of differentiable ops.
Grads differentiable_gradient(const Backward& b, const Tensor& x, const Norm& n, const Tensor& weight) {
  const Tensor& dy = b.dy[0];
  Dims axes = {0};
  for (int i = 2; i < x.dim(); ++i) axes.push_back(i);
  const Tensor count = scalar_tensor(double(x.numel() / x.shape()[1]), x.dtype());
  Tensor mean = channel_view(n.mean, x.dim()), invstd = channel_view(n.invstd, x.dim());
  if (n.training) {
    mean = div(sum(x, axes, true), count);
    const Tensor variance = div(sum(square(sub(x, mean)), axes, true), count);
    invstd = rsqrt(add(variance, scalar_tensor(n.eps, x.dtype())));
  }
  const Tensor xhat = mul(sub(x, mean), invstd);
  const Tensor scaled = weight.defined() ? mul(dy, channel_view(weight, x.dim())) : dy;
  Grads g(3);
  if (b.needed[0]) {
    Tensor inner = scaled;
    if (n.training) {
      const Tensor m1 = div(sum(scaled, axes, true), count), m2 = div(sum(mul(scaled, xhat), axes, true), count);
      inner = sub(sub(scaled, m1), mul(xhat, m2));
    }
    g[0] = mul(inner, invstd);
  }
  if (b.needed[1]) g[1] = sum(mul(dy, xhat), axes);
  if (b.needed[2]) g[2] = sum(dy, axes);
  return g;
}

void record_norm(const Tensor& y, const Norm& norm) {
  Norm kept = norm;
  kept.x = kept.weight = kept.bias = Tensor();
  record("batch_norm", y, {norm.x, norm.weight, norm.bias},
         [n = std::move(kept), x = Saved(norm.x), weight = Saved(norm.weight)](const Backward& b) {
           const Tensor& v = x.get(b.node);
           const Tensor& w = weight.get(b.node);
           if (b.create_graph()) return differentiable_gradient(b, v, n, w);
           const Tensor dx = b.needed[0] ? empty_like(v) : Tensor();
           const Tensor dw = empty(n.mean.shape(), v.dtype()), db = empty(n.mean.shape(), v.dtype());
           auto run = [&](const void* dy, const void* relu_y, void* masked) {
             kernels().batch_norm_backward(n.layout.shape, v.dtype(), n.training, dy, relu_y, v.data(), n.mean.data(),
                                           n.invstd.data(), data_or_null(w), dx.defined() ? dx.data() : nullptr,
                                           dw.data(), db.data(), masked);
           };
           const Tensor& dy = b.dy[0];
           if (const MaskedGradient* mask = deferred_mask(dy); mask && dy.strides() == v.strides()) {
             // The masked gradient itself is wanted too when a residual's branch holds it.
             if (dy->use_count() > 1 || !dy->storage->unique())
               dy->storage->compute_by([&](void* masked) { run(mask->dy.data(), mask->y.data(), masked); });
             else
               run(mask->dy.data(), mask->y.data(), nullptr);
           } else {
             run(n.layout.apply(dy).data(), nullptr, nullptr);
           }
           return Grads{dx, dw, db};
         });
}

class DeferredNorm final : public Deferred {
 public:
  DeferredNorm(Norm norm, Tensor residual)
      : norm(std::move(norm)),
        residual(std::move(residual)),
        weight_(copy_of(this->norm.weight)),
        bias_(copy_of(this->norm.bias)) {}

  void compute(void* y) override { compute_as(false, y); }
  std::vector<Storage*> sources() const override {
    if (residual.defined()) return {norm.x->storage.get(), residual->storage.get()};
    return {norm.x->storage.get()};
  }
  void compute_as(bool relu, void* y) const { apply(norm, weight_, bias_, residual, relu, y); }

  const Norm norm;
  const Tensor residual;

 private:
  // The parameters as they were: a step of the optimizer must not change a result that is not computed yet.
  static Tensor copy_of(const Tensor& p) { return p.defined() ? clone(detach(p)) : p; }
  Tensor weight_, bias_;
};

// The deferred normalization that x, all of it, waits for.
DeferredNorm* deferred_norm(const Tensor& x) {
  auto* norm = dynamic_cast<DeferredNorm*>(x->storage->deferred());
  if (!norm || x->offset != 0 || !(x.shape() == norm->norm.x.shape()) || !(x.strides() == norm->norm.x.strides()))
    return nullptr;
  return norm;
}

Tensor defer(Norm norm, const Tensor& residual) {
  const Tensor x = norm.x = detach(norm.x);  // the graph is not its business
  const size_t bytes = size_t(x.numel()) * item_size(x.dtype());
  Ref<Storage> storage = Storage::defer(bytes, x.device(), std::make_unique<DeferredNorm>(std::move(norm), residual));
  return Tensor(Ref<TensorImpl>(new TensorImpl(storage, 0, x.shape(), x.strides(), x.dtype())));
}

}  // namespace

Tensor relu_of_deferred_norm(const Tensor& x) {
  const DeferredNorm* d = deferred_norm(x);
  if (!d) return Tensor();
  const Tensor y = empty_like(d->norm.x);
  d->compute_as(true, y.data());
  return y;
}

Tensor add_to_deferred_norm(const Tensor& a, const Tensor& b) {
  const DeferredNorm* d = deferred_norm(a);
  const Tensor& residual = d ? b : a;
  if (!d) d = deferred_norm(b);
  if (!d || d->residual.defined() || residual->storage->shared_outside || a->storage == b->storage) return Tensor();
  const Tensor& x = d->norm.x;
  if (residual.dtype() != x.dtype() || !(residual.shape() == x.shape()) || !(residual.strides() == x.strides()))
    return Tensor();
  residual.data();  // a second deferred one is computed here
  return defer(d->norm, detach(residual));
}

Tensor batch_norm(const Tensor& x0, const Tensor& running_mean, const Tensor& running_var, const Tensor& weight0,
                  const Tensor& bias0, bool training, double momentum, double eps) {
  PE_CHECK(x0.dim() >= 2, Shape, "batch_norm: expected at least 2 dimensions, got shape ", x0.shape());
  PE_CHECK(is_floating(x0.dtype()), Type, "batch_norm: expected a floating point tensor, got ", dtype_name(x0.dtype()));
  check_channels(running_mean, x0, "running_mean");
  check_channels(running_var, x0, "running_var");
  check_channels(weight0, x0, "weight");
  check_channels(bias0, x0, "bias");
  PE_CHECK(running_mean.defined() == running_var.defined(), Value,
           "batch_norm: expected both running_mean and running_var, or neither");
  PE_CHECK(training || running_mean.defined(), Value,
           "batch_norm: expected running_mean and running_var when not training");
  const Layout layout = layout_of(x0);
  const BatchNormShape& s = layout.shape;
  const int64_t count = s.N * s.L;
  PE_CHECK(!training || count > 1, Shape,
           "batch_norm: expected more than 1 value per channel when training, got input size ", x0.shape());

  const DType t = x0.dtype();
  const Tensor x = layout.apply(x0);
  const Tensor weight = weight0.defined() ? contiguous(to(weight0, t)) : Tensor(),
               bias = bias0.defined() ? contiguous(to(bias0, t)) : Tensor();
  Tensor mean, var;
  if (training) {
    mean = empty({s.C}, t), var = empty({s.C}, t);
    kernels().batch_norm_stats(s, t, x.data(), mean.data(), var.data());
    if (running_mean.defined()) {
      const GradMode off(false);
      auto update = [&](const Tensor& running, const Tensor& now) {
        copy_(running, add(mul(running, scalar_tensor(1 - momentum, t)), mul(now, scalar_tensor(momentum, t))));
      };
      update(running_mean, mean);
      update(running_var, mul(var, scalar_tensor(double(count) / double(count - 1), t)));
    }
  } else {
    mean = contiguous(to(detach(running_mean), t)), var = contiguous(to(detach(running_var), t));
  }
  Tensor invstd;
  {
    const GradMode off(false);
    // A copy: the running mean may move before the backward pass.
    if (!training) mean = clone(mean);
    invstd = rsqrt(add(var, scalar_tensor(eps, t)));
  }
  const Norm norm{layout, x, weight, bias, mean, invstd, training, eps};
  // A memory that others can write to unseen cannot be read later.
  Tensor y;
  if (x->storage->shared_outside || !x.is_dense() || x->offset != 0 || x.numel() == 0) {
    y = empty_like(x);
    if (y.numel() > 0) apply(norm, weight, bias, Tensor(), false, y.data());
  } else {
    y = defer(norm, Tensor());
  }
  if (recording(x, weight, bias)) record_norm(y, norm);
  return y;
}

}  // namespace pe::ops
