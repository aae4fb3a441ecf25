#include "ops/masked_gradient.h"

#include "kernels/dispatch.h"
#include "ops/elementwise.h"

namespace pe::ops {

void MaskedGradient::compute(void* out) {
  Loop loop;  // dense, and all three in the same order
  loop.ndim = 1, loop.operands = 3;
  loop.numel = loop.size[0] = dy.numel();
  for (int k = 0; k < 3; ++k) loop.stride[k][0] = 1;
  kernels().unary_backward(UnaryOp::relu, dy.dtype(), loop, nullptr, dy.data(), y.data(), out);
}

Tensor masked_gradient(const Tensor& dy, const Tensor& y) {
  const size_t bytes = size_t(dy.numel()) * item_size(dy.dtype());
  Ref<Storage> storage = Storage::defer(bytes, dy.device(), std::make_unique<MaskedGradient>(dy, y));
  return Tensor(Ref<TensorImpl>(new TensorImpl(storage, 0, dy.shape(), dy.strides(), dy.dtype())));
}

MaskedGradient* deferred_mask(const Tensor& gradient) {
  auto* mask = dynamic_cast<MaskedGradient*>(gradient->storage->deferred());
  const bool whole =
      mask && gradient->offset == 0 && gradient.shape() == mask->dy.shape() && gradient.strides() == mask->dy.strides();
  return whole ? mask : nullptr;
}

}  // namespace pe::ops
