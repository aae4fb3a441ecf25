// relu's gradient, select(y > 0, dy, 0), not yet computed: the normalization before the relu masks while it sums, and
// so saves a pass over memory. Any other reader gets it computed.
#pragma once
#include "tensor/tensor.h"

namespace pe::ops {

class MaskedGradient final : public Deferred {
 public:
  MaskedGradient(Tensor dy, Tensor y) : dy(std::move(dy)), y(std::move(y)) {}
  void compute(void* out) override;
  std::vector<Storage*> sources() const override { return {dy->storage.get(), y->storage.get()}; }

  const Tensor dy, y;
};

Tensor masked_gradient(const Tensor& dy, const Tensor& y);
MaskedGradient* deferred_mask(const Tensor& gradient);  // null: it is computed, or something else

}  // namespace pe::ops
