#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

Tensor softmax_rows(const Tensor& x, bool log) {  // over the last dimension of dense x
  const Tensor y = empty(x.shape(), x.dtype());
  const int64_t cols = x.dim() ? x.shape().back() : 1;
  if (x.numel() > 0) kernels().softmax(x.numel() / cols, cols, x.dtype(), log, x.data(), y.data());
  if (recording(x))
    record(log ? "log_softmax" : "softmax", y, {x}, [log, cols, y = SavedOutput(y)](const Backward& b) {
      const Tensor s = y.get(b.node);
      if (b.create_graph()) {
        const Tensor& dy = b.dy[0];
        if (log) return Grads{sub(dy, mul(exp(s), sum(dy, {-1}, true)))};
        return Grads{mul(s, sub(dy, sum(mul(dy, s), {-1}, true)))};
      }
      const Tensor dy = contiguous(b.dy[0]), dx = empty(dy.shape(), dy.dtype());
      if (dx.numel() > 0)
        kernels().softmax_backward(dy.numel() / cols, cols, dy.dtype(), log, dy.data(), s.data(), dx.data());
      return Grads{dx};
    });
  return y;
}

Tensor softmax_along(const Tensor& input, int64_t dim, bool log) {
  const Tensor x = is_floating(input.dtype()) ? input : to(input, default_dtype());
  const int64_t d = wrap_dim(dim, x.dim(), log ? "log_softmax" : "softmax");
  if (x.dim() == 0 || d == x.dim() - 1) return softmax_rows(contiguous(x), log);
  return movedim(softmax_rows(contiguous(movedim(x, {d}, {-1})), log), {-1}, {d});
}

}  // namespace

Tensor softmax(const Tensor& x, int64_t dim) { return softmax_along(x, dim, false); }
Tensor log_softmax(const Tensor& x, int64_t dim) { return softmax_along(x, dim, true); }

}  // namespace pe::ops
