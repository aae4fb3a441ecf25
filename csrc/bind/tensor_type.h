// pyengine.Tensor: the Python type whose instances hold one TensorImpl each, for life.
#pragma once
#include <pybind11/pybind11.h>

#include "tensor/tensor.h"

namespace pe::bind {

extern PyTypeObject* TensorType;

void make_tensor_type(pybind11::module_& m);

bool is_tensor(PyObject* object);
const Tensor unwrap(PyObject* object);                   // a Tensor instance's handle
PyObject* wrap(const Tensor& x);                         // a new reference; None for an undefined tensor
PyObject* wrap_as(PyTypeObject* type, const Tensor& x);  // a fresh object of a subclass; x must have none yet

// The Python objects that a tensor owns through its part in the graph (autograd.cpp), for the garbage collector.
int visit_graph(TensorImpl* impl, visitproc visit, void* arg);
void clear_graph(TensorImpl* impl);

// A Python object that C++ holds: takes the GIL when it lets go.
class Held {
 public:
  explicit Held(pybind11::object object) : object_(object.release().ptr()) {}
  Held(const Held&) = delete;
  Held& operator=(const Held&) = delete;
  ~Held();
  PyObject* get() const { return object_; }

 private:
  PyObject* object_;
};

}  // namespace pe::bind
