// Every part of the module, in the order in which module.cpp binds them.
#pragma once
#include <pybind11/pybind11.h>

namespace pe::bind {

void bind_errors(pybind11::module_& m);
void bind_types(pybind11::module_& m);    // dtype, device, Size
void bind_runtime(pybind11::module_& m);  // threads, memory, Generator
void bind_create(pybind11::module_& m);   // creation and random functions
void bind_elementwise(pybind11::module_& m);
void bind_reduce(pybind11::module_& m);
void bind_shape(pybind11::module_& m);   // views, joins, indexing, sorting, products
void bind_nn(pybind11::module_& m);      // convolution, pooling, normalization, losses, optimizer steps
void bind_tensor(pybind11::module_& m);  // sizes, conversions and in-place methods of Tensor
void bind_numpy(pybind11::module_& m);   // NumPy, the buffer protocol, DLPack
void bind_autograd(pybind11::module_& m);

}  // namespace pe::bind
