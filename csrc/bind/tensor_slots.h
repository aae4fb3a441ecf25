// Operators of pyengine.Tensor as C slots: no attribute look-up between `a + b` and the op.
#pragma once
#include <pybind11/pybind11.h>

#include <vector>

#include "tensor/tensor.h"

namespace pe {
class Node;
}

namespace pe::bind {

void append_tensor_slots(std::vector<PyType_Slot>& slots);

// Sets the Python exception for the C++ exception being handled; returns null.
PyObject* raise_python_error();

PyGetSetDef* tensor_attributes();              // tensor_attributes.cpp
PyObject* node_object(const Ref<Node>& node);  // autograd.cpp; a new reference

// numpy.cpp
Tensor tensor_from(const pybind11::handle& data);  // a new tensor with a copy of the data
int get_buffer(PyObject* self, Py_buffer* view, int flags);
void release_buffer(PyObject* self, Py_buffer* view);

Tensor power_of(const Tensor& a, const Tensor& b);  // a ** b, by a plainer op for common scalar exponents

// x[key] and x[key] = value (indexing.cpp)
Tensor get_item(const Tensor& x, PyObject* key);
void set_item(const Tensor& x, PyObject* key, PyObject* value);

}  // namespace pe::bind
