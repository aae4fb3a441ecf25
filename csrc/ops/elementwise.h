// How elementwise ops walk memory: broadcasting, the output's layout, and the merged loop that kernels run.
#pragma once
#include <initializer_list>

#include "kernels/dispatch.h"
#include "tensor/tensor.h"

namespace pe::ops {

Dims broadcast_shapes(const Dims& a, const Dims& b, const char* op);
Dims broadcast_strides(const Tensor& x, const Dims& shape);  // 0 where x is stretched

// A fresh output for inputs that broadcast to `shape`: the layout of the first full-sized one.
Tensor elementwise_output(const Dims& shape, DType dtype, std::initializer_list<const Tensor*> inputs);

// Operand 0 is the output; the others are broadcast to its shape.
Loop make_loop(std::initializer_list<const Tensor*> operands);

}  // namespace pe::ops
