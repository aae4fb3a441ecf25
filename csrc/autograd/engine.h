// Walks the graph from outputs to inputs.
#pragma once
#include <vector>

#include "autograd/node.h"

namespace pe {

// d outputs / d leaves, added to the leaves' .grad. An undefined root gradient stands for 1 (scalars only).
void backward(const std::vector<Tensor>& outputs, const Grads& output_grads, bool retain_graph, bool create_graph);

// d outputs / d inputs, returned; .grad is left alone. Undefined where an input does not take part.
Grads grad(const std::vector<Tensor>& outputs, const Grads& output_grads, const std::vector<Tensor>& inputs,
           bool retain_graph, bool create_graph);

}  // namespace pe
