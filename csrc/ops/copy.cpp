#include <atomic>

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/elementwise.h"
#include "ops/ops.h"

namespace pe::ops {

void copy_into(const Tensor& out, const Tensor& x) {
  PE_CHECK(broadcast_shapes(out.shape(), x.shape(), "copy") == out.shape(), Shape, "copy: shape ", x.shape(),
           " does not broadcast to ", out.shape());
  kernels().copy(make_loop({&out, &x}), x.dtype(), out.dtype(), x.data(), out.data());
}

namespace {

std::atomic<int64_t> conversions{0};

Tensor copy_as(const Tensor& x, const Tensor& y, const char* name) {
  copy_into(y, x);
  if (is_floating(y.dtype()) && recording(x)) record(name, y, {x}, [](const Backward& b) { return Grads{b.dy[0]}; });
  return y;
}

}  // namespace

int64_t layout_conversions() { return conversions.load(std::memory_order_relaxed); }

Tensor clone(const Tensor& x) { return copy_as(x, empty_like(x), "clone"); }

Tensor contiguous(const Tensor& x) {
  if (x.is_contiguous()) return x;
  conversions.fetch_add(1, std::memory_order_relaxed);
  return copy_as(x, empty(x.shape(), x.dtype()), "contiguous");
}

Tensor channels_last(const Tensor& x) {
  if (x.is_channels_last()) return x;
  conversions.fetch_add(1, std::memory_order_relaxed);
  return copy_as(x, empty_strided(x.shape(), channels_last_strides(x.shape()), x.dtype()), "channels_last");
}

Tensor to(const Tensor& x, DType dtype) {
  if (x.dtype() == dtype) return x;
  return copy_as(x, empty_like(x, dtype), "to");  // the engine converts the gradient back
}

}  // namespace pe::ops
