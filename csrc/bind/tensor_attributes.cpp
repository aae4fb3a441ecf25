// Tensor's attributes as C getters: x.shape and x.grad cost no look-up and no argument parsing.
#include "autograd/node.h"
#include "bind/casters.h"
#include "bind/module.h"
#include "bind/tensor_slots.h"
#include "ops/ops.h"

namespace py = pybind11;

namespace pe::bind {

namespace {

// A getter from a function of the tensor that gives a Python object (a new reference).
template <auto get>
PyObject* getter(PyObject* self, void*) {
  try {
    return get(unwrap(self));
  } catch (...) {
    return raise_python_error();
  }
}

template <auto set>
int setter(PyObject* self, PyObject* value, void*) {
  try {
    PE_CHECK(value != nullptr, Type, "a tensor's attribute cannot be deleted");
    set(unwrap(self), value);
    return 0;
  } catch (...) {
    raise_python_error();
    return -1;
  }
}

PyObject* shape(const Tensor& x) { return size_object(x.shape()); }
PyObject* dtype(const Tensor& x) { return Py_NewRef(dtype_object(x.dtype())); }
PyObject* device(const Tensor& x) { return py::cast(x.device()).release().ptr(); }
PyObject* is_cuda(const Tensor& x) { return PyBool_FromLong(x.device().type == Device::CUDA); }
PyObject* ndim(const Tensor& x) { return PyLong_FromLong(x.dim()); }
PyObject* itemsize(const Tensor& x) { return PyLong_FromSize_t(item_size(x.dtype())); }
PyObject* nbytes(const Tensor& x) { return PyLong_FromLongLong(x.numel() * int64_t(item_size(x.dtype()))); }
PyObject* version(const Tensor& x) { return PyLong_FromUnsignedLong(x->storage->version.load()); }
PyObject* get_data(const Tensor& x) { return wrap(ops::detach(x)); }
PyObject* get_grad(const Tensor& x) { return wrap(grad_of(x)); }
PyObject* get_requires_grad(const Tensor& x) { return PyBool_FromLong(requires_grad(x)); }
PyObject* get_is_leaf(const Tensor& x) { return PyBool_FromLong(is_leaf(x)); }
PyObject* retains_grad(const Tensor& x) { return PyBool_FromLong(x->autograd && x->autograd->retains_grad); }
PyObject* matrix_transpose(const Tensor& x) { return wrap(ops::transpose(x, -2, -1)); }

PyObject* grad_fn(const Tensor& x) {
  const Edge edge = gradient_edge(x);
  if (!edge.node || edge.node->leaf()) Py_RETURN_NONE;
  return node_object(edge.node);
}

PyObject* reversed(const Tensor& x) {
  Dims dims;
  for (int i = x.dim() - 1; i >= 0; --i) dims.push_back(i);
  return wrap(ops::permute(x, dims));
}

void set_requires_grad_to(const Tensor& x, PyObject* value) {
  PE_CHECK(PyBool_Check(value), Type, "requires_grad: expected a bool, got ", Py_TYPE(value)->tp_name);
  set_requires_grad(x, value == Py_True);
}

void set_grad(const Tensor& x, PyObject* value) {
  if (value == Py_None) {
    if (x->autograd) x->autograd->grad = Tensor();
    return;
  }
  PE_CHECK(is_tensor(value), Type, "grad: expected a Tensor or None, got ", Py_TYPE(value)->tp_name);
  const Tensor g = unwrap(value);
  PE_CHECK(!g.same(x), Runtime, "grad: can't assign a Variable as its own grad");
  PE_CHECK(g.shape() == x.shape(), Shape, "grad: assigned grad has shape ", g.shape(), ", its tensor ", x.shape());
  PE_CHECK(g.dtype() == x.dtype(), Type, "grad: assigned grad has dtype ", dtype_name(g.dtype()), ", its tensor ",
           dtype_name(x.dtype()));
  autograd_meta(x).grad = g;
}

// x.data = other: x takes over other's memory, keeping its identity and history.
void set_data(const Tensor& x, PyObject* value) {
  PE_CHECK(is_tensor(value), Type, "data: expected a Tensor, got ", Py_TYPE(value)->tp_name);
  const Tensor y = ops::detach(unwrap(value));
  PE_CHECK(!requires_grad(x) || is_floating(y.dtype()), Type,
           "data: a tensor that requires grad needs floating point data, got ", dtype_name(y.dtype()));
  x->storage = y->storage;
  x->offset = y->offset;
  x->shape = y->shape;
  x->strides = y->strides;
  x->numel = y->numel;
  x->dtype = y->dtype;
  x->contiguous = y->contiguous;
  x->view_base = nullptr;
}

PyGetSetDef attributes[] = {
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, nullptr, nullptr},
    {"shape", getter<shape>, nullptr, "The size of each dimension.", nullptr},
    {"dtype", getter<dtype>, nullptr, "The type of the elements.", nullptr},
    {"device", getter<device>, nullptr, "Where the memory is.", nullptr},
    {"is_cuda", getter<is_cuda>, nullptr, "Whether the memory is on a GPU.", nullptr},
    {"ndim", getter<ndim>, nullptr, "The number of dimensions.", nullptr},
    {"itemsize", getter<itemsize>, nullptr, "Bytes per element.", nullptr},
    {"nbytes", getter<nbytes>, nullptr, "Bytes of all elements.", nullptr},
    {"T", getter<reversed>, nullptr, "The dimensions in reverse order; a view.", nullptr},
    {"mT", getter<matrix_transpose>, nullptr, "The last two dimensions exchanged; a view.", nullptr},
    {"_version", getter<version>, nullptr, "How often the memory was written to in place.", nullptr},
    {"data", getter<get_data>, setter<set_data>, "The same memory without a link to the graph.", nullptr},
    {"grad", getter<get_grad>, setter<set_grad>, "The gradient that backward() added up, or None.", nullptr},
    {"requires_grad", getter<get_requires_grad>, setter<set_requires_grad_to>, "Whether gradients flow to this tensor.",
     nullptr},
    {"is_leaf", getter<get_is_leaf>, nullptr, "Whether no recorded operation made this tensor.", nullptr},
    {"retains_grad", getter<retains_grad>, nullptr, "Whether retain_grad() was called on a tensor that is not a leaf.",
     nullptr},
    {"grad_fn", getter<grad_fn>, nullptr, "The recorded operation that made this tensor, or None.", nullptr},
    {nullptr, nullptr, nullptr, nullptr, nullptr},
};

}  // namespace

PyGetSetDef* tensor_attributes() { return attributes; }

}  // namespace pe::bind
