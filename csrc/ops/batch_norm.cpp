// Batch normalization: S. Ioffe, C. Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal
// Covariate Shift" (2015). The batch is normalized with its biased variance; the running estimate keeps the unbiased one.
#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"

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
  PE_CHECK(t.dim() == 1 && t.shape()[0] == x.shape()[1], Shape, "batch_norm: expected ", name, " of shape (", x.shape()[1], ",), got ", t.shape(),
           " (input ", x.shape(), ")");
}

Tensor channel_view(const Tensor& t, int ndim) {
  Dims shape = Dims::filled(ndim, 1);
  shape[1] = t.shape()[0];
  return reshape(t, shape);
}

// The same gradient out of differentiable ops.
Grads differentiable_gradient(const Backward& b, const Tensor& x, const Tensor& mean0, const Tensor& invstd0, const Tensor& weight, bool training, double eps) {
  const Tensor& dy = b.dy[0];
  Dims axes = {0};
  for (int i = 2; i < x.dim(); ++i) axes.push_back(i);
  const double count = double(x.numel() / x.shape()[1]);
  const Tensor scalar_count = scalar_tensor(count, x.dtype());
  Tensor mean = channel_view(mean0, x.dim()), invstd = channel_view(invstd0, x.dim());
  if (training) {
    mean = div(sum(x, axes, true), scalar_count);
    const Tensor variance = div(sum(square(sub(x, mean)), axes, true), scalar_count);
    invstd = rsqrt(add(variance, scalar_tensor(eps, x.dtype())));
  }
  const Tensor xhat = mul(sub(x, mean), invstd);
  const Tensor scaled = weight.defined() ? mul(dy, channel_view(weight, x.dim())) : dy;
  Grads g(3);
  if (b.needed[0]) {
    Tensor inner = scaled;
    if (training) {
      const Tensor m1 = div(sum(scaled, axes, true), scalar_count), m2 = div(sum(mul(scaled, xhat), axes, true), scalar_count);
      inner = sub(sub(scaled, m1), mul(xhat, m2));
    }
    g[0] = mul(inner, invstd);
  }
  if (b.needed[1]) g[1] = sum(mul(dy, xhat), axes);
  if (b.needed[2]) g[2] = sum(dy, axes);
  return g;
}

}  // namespace

Tensor batch_norm(const Tensor& x0, const Tensor& running_mean, const Tensor& running_var, const Tensor& weight0, const Tensor& bias0,
                  bool training, double momentum, double eps) {
  PE_CHECK(x0.dim() >= 2, Shape, "batch_norm: expected at least 2 dimensions, got shape ", x0.shape());
  PE_CHECK(is_floating(x0.dtype()), Type, "batch_norm: expected a floating point tensor, got ", dtype_name(x0.dtype()));
  check_channels(running_mean, x0, "running_mean");
  check_channels(running_var, x0, "running_var");
  check_channels(weight0, x0, "weight");
  check_channels(bias0, x0, "bias");
  PE_CHECK(running_mean.defined() == running_var.defined(), Value, "batch_norm: expected both running_mean and running_var, or neither");
  PE_CHECK(training || running_mean.defined(), Value, "batch_norm: expected running_mean and running_var when not training");
  const Layout layout = layout_of(x0);
  const BatchNormShape& s = layout.shape;
  const int64_t count = s.N * s.L;
  PE_CHECK(!training || count > 1, Shape, "batch_norm: expected more than 1 value per channel when training, got input size ", x0.shape());

  const DType t = x0.dtype();
  const Tensor x = layout.apply(x0);
  const Tensor weight = weight0.defined() ? contiguous(to(weight0, t)) : Tensor(), bias = bias0.defined() ? contiguous(to(bias0, t)) : Tensor();
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
  const Tensor y = empty_like(x);
  auto data = [](const Tensor& p) { return p.defined() ? p.data() : nullptr; };
  if (y.numel() > 0) kernels().batch_norm_apply(s, t, x.data(), mean.data(), invstd.data(), data(weight), data(bias), y.data());
  if (recording(x, weight, bias))
    record("batch_norm", y, {x, weight, bias}, [layout, x = Saved(x), mean, invstd, weight = Saved(weight), training, eps](const Backward& b) {
      const Tensor& v = x.get(b.node);
      const Tensor& w = weight.get(b.node);
      if (b.create_graph()) return differentiable_gradient(b, v, mean, invstd, w, training, eps);
      const Tensor dy = layout.apply(b.dy[0]);
      const Tensor dx = b.needed[0] ? empty_like(v) : Tensor();
      const Tensor dw = empty(mean.shape(), v.dtype()), db = empty(mean.shape(), v.dtype());
      kernels().batch_norm_backward(layout.shape, v.dtype(), training, dy.data(), v.data(), mean.data(), invstd.data(), w.defined() ? w.data() : nullptr,
                                    dx.defined() ? dx.data() : nullptr, dw.data(), db.data());
      return Grads{dx, dw, db};
    });
  return y;
}

}  // namespace pe::ops
