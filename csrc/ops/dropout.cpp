// Dropout: N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting" (2014), in the
// inverted form: what is kept is scaled by 1 / (1 - p). No mask is stored; backward draws the same numbers again.
#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

// Elements are numbered in memory order, so y and its gradient must have x's layout.
Tensor dropout_with(const Tensor& x0, double p, Generator::State state) {
  const Tensor x = x0.is_dense() ? x0 : contiguous(x0);
  const Tensor y = empty_like(x);
  kernels().dropout(x.dtype(), x.numel(), p, state.seed, state.offset, x.data(), y.data());
  if (recording(x))
    record("dropout", y, {x}, [p, state, strides = x.strides()](const Backward& b) {
      const Tensor& dy = b.dy[0];
      if (dy.strides() == strides) return Grads{dropout_with(dy, p, state)};
      b.refuse_create_graph();
      const Tensor same = empty_strided(dy.shape(), strides, dy.dtype());
      copy_into(same, dy);
      return Grads{dropout_with(same, p, state)};
    });
  return y;
}

}  // namespace

Tensor dropout(const Tensor& x, double p, bool training, Generator& generator) {
  PE_CHECK(p >= 0 && p <= 1, Value, "dropout: probability has to be between 0 and 1, got ", p);
  PE_CHECK(is_floating(x.dtype()), Type, "dropout: expected a floating point tensor, got ", dtype_name(x.dtype()));
  if (!training || p == 0) return x;
  if (p == 1) return mul(x, scalar_tensor(0, x.dtype()));
  return dropout_with(x, p, generator.reserve(uint64_t(x.numel() + 3) / 4));
}

}  // namespace pe::ops
