// Layer normalization: J. L. Ba, J. R. Kiros, G. E. Hinton, "Layer Normalization" (2016). The last dimensions are
// normalized together, with their biased variance.
#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

// x seen as rows x cols.
struct Rows {
  int64_t rows = 1, cols = 1;
};

Rows rows_of(const Tensor& x, const Dims& normalized_shape) {
  const int first = x.dim() - normalized_shape.size();
  bool fits = normalized_shape.size() > 0 && first >= 0;
  Rows s;
  for (int i = 0; i < x.dim() && fits; ++i) {
    (i < first ? s.rows : s.cols) *= x.shape()[i];
    fits = i < first || x.shape()[i] == normalized_shape[i - first];
  }
  PE_CHECK(fits, Shape, "layer_norm: expected an input whose last dimensions are ", normalized_shape,
           ", got input size ", x.shape());
  return s;
}

void check(const Tensor& t, const Dims& normalized_shape, const char* name) {
  if (t.defined())
    PE_CHECK(t.shape() == normalized_shape, Shape, "layer_norm: expected ", name, " of shape ", normalized_shape,
             ", got ", t.shape());
}

void* data(const Tensor& t) { return t.defined() ? t.data() : nullptr; }

// The same gradient out of differentiable ops.
Grads differentiable_gradient(const Backward& b, const Tensor& x0, const Tensor& weight0, const Rows& s,
                              const Dims& normalized_shape, double eps) {
  const Dims matrix = {s.rows, s.cols}, row = {1, s.cols}, axis = {1};
  const Tensor x = reshape(x0, matrix), dy = reshape(b.dy[0], matrix), n = scalar_tensor(double(s.cols), x.dtype());
  const Tensor centered = sub(x, div(sum(x, axis, true), n));
  const Tensor invstd = rsqrt(add(div(sum(square(centered), axis, true), n), scalar_tensor(eps, x.dtype())));
  const Tensor xhat = mul(centered, invstd);
  Grads g(3);
  if (b.needed[0]) {
    const Tensor scaled = weight0.defined() ? mul(dy, reshape(weight0, row)) : dy;
    const Tensor m1 = div(sum(scaled, axis, true), n), m2 = div(sum(mul(scaled, xhat), axis, true), n);
    g[0] = reshape(mul(sub(sub(scaled, m1), mul(xhat, m2)), invstd), x0.shape());
  }
  if (b.needed[1]) g[1] = reshape(sum(mul(dy, xhat), {0}), normalized_shape);
  if (b.needed[2]) g[2] = reshape(sum(dy, {0}), normalized_shape);
  return g;
}

}  // namespace

Tensor layer_norm(const Tensor& x0, const Dims& normalized_shape, const Tensor& weight0, const Tensor& bias0,
                  double eps) {
  PE_CHECK(is_floating(x0.dtype()), Type, "layer_norm: expected a floating point tensor, got ", dtype_name(x0.dtype()));
  const Rows s = rows_of(x0, normalized_shape);
  check(weight0, normalized_shape, "weight");
  check(bias0, normalized_shape, "bias");
  const DType t = x0.dtype();
  const Tensor x = contiguous(x0);
  const Tensor weight = weight0.defined() ? contiguous(to(weight0, t)) : Tensor(),
               bias = bias0.defined() ? contiguous(to(bias0, t)) : Tensor();
  const Tensor y = empty(x.shape(), t), mean = empty({s.rows}, t), invstd = empty({s.rows}, t);
  if (y.numel() > 0)
    kernels().layer_norm(s.rows, s.cols, t, eps, x.data(), data(weight), data(bias), y.data(), mean.data(),
                         invstd.data());
  if (recording(x, weight, bias))
    record("layer_norm", y, {x, weight, bias},
           [s, normalized_shape, x = Saved(x), mean, invstd, weight = Saved(weight), eps](const Backward& b) {
             const Tensor& v = x.get(b.node);
             const Tensor& w = weight.get(b.node);
             if (b.create_graph()) return differentiable_gradient(b, v, w, s, normalized_shape, eps);
             const Tensor dy = contiguous(b.dy[0]);
             auto made = [&](int i, const Dims& shape) {
               return b.needed[size_t(i)] ? empty(shape, v.dtype()) : Tensor();
             };
             const Tensor dx = made(0, v.shape()), dw = made(1, normalized_shape), db = made(2, normalized_shape);
             if (s.cols > 0)
               kernels().layer_norm_backward(s.rows, s.cols, v.dtype(), dy.data(), v.data(), mean.data(), invstd.data(),
                                             data(w), data(dx), data(dw), data(db));
             return Grads{dx, dw, db};
           });
  return y;
}

}  // namespace pe::ops
