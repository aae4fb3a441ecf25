// A batch normalization whose result nobody has read yet. An add or a relu that comes next takes it over, so that
// relu(batch_norm(x) + residual) is one pass over memory; any other reader gets it computed. The graph does not know:
// each op records its own node (and ops/masked_gradient.h joins their backward passes in the same way).
#pragma once
#include "kernels/shapes.h"
#include "ops/ops.h"

namespace pe::ops {

// Values only; an undefined tensor when there is nothing to take over.
Tensor relu_of_deferred_norm(const Tensor& x);
Tensor add_to_deferred_norm(const Tensor& a, const Tensor& b);

}  // namespace pe::ops
