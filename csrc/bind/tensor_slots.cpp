#include "bind/tensor_slots.h"

#include "bind/casters.h"
#include "ops/ops.h"

namespace py = pybind11;

namespace pe::bind {

namespace {

bool operand(PyObject* o, Tensor& x) {
  if (is_tensor(o)) {
    x = unwrap(o);
    return true;
  }
  Scalar value(0);
  if (to_scalar(o, value)) {
    x = ops::wrapped_number(value);
    return true;
  }
  if (!PyObject_HasAttrString(o, "__array_interface__")) return false;
  x = tensor_from(o);
  return true;
}

template <BinaryOp op>
PyObject* binary(PyObject* left, PyObject* right) {
  try {
    Tensor a, b;
    if (!operand(left, a) || !operand(right, b)) Py_RETURN_NOTIMPLEMENTED;
    return wrap(ops::binary(op, a, b));
  } catch (...) {
    return raise_python_error();
  }
}

template <BinaryOp op>
PyObject* binary_inplace(PyObject* self, PyObject* other) {
  try {
    Tensor b;
    if (!operand(other, b)) Py_RETURN_NOTIMPLEMENTED;
    ops::binary_(op, unwrap(self), b);
    Py_INCREF(self);
    return self;
  } catch (...) {
    return raise_python_error();
  }
}

PyObject* power(PyObject* base, PyObject* exponent, PyObject* modulo) {
  if (modulo != Py_None) Py_RETURN_NOTIMPLEMENTED;
  try {
    Tensor a, b;
    if (!operand(base, a) || !operand(exponent, b)) Py_RETURN_NOTIMPLEMENTED;
    return wrap(power_of(a, b));
  } catch (...) {
    return raise_python_error();
  }
}

PyObject* power_inplace(PyObject* self, PyObject* exponent, PyObject*) {
  return binary_inplace<BinaryOp::pow>(self, exponent);
}

PyObject* matmul(PyObject* a, PyObject* b) {
  try {
    if (!is_tensor(a) || !is_tensor(b)) Py_RETURN_NOTIMPLEMENTED;
    return wrap(ops::matmul(unwrap(a), unwrap(b)));
  } catch (...) {
    return raise_python_error();
  }
}

template <UnaryOp op>
PyObject* unary(PyObject* self) {
  try {
    return wrap(ops::unary(op, unwrap(self)));
  } catch (...) {
    return raise_python_error();
  }
}

PyObject* positive(PyObject* self) {
  Py_INCREF(self);
  return self;
}

PyObject* invert(PyObject* self) {
  try {
    return wrap(ops::bitwise_not(unwrap(self)));
  } catch (...) {
    return raise_python_error();
  }
}

PyObject* compare(PyObject* self, PyObject* other, int python_op) {
  try {
    Tensor b;
    if (!operand(other, b)) Py_RETURN_NOTIMPLEMENTED;
    CompareOp op = CompareOp::eq;
    switch (python_op) {
      case Py_EQ: op = CompareOp::eq; break;
      case Py_NE: op = CompareOp::ne; break;
      case Py_LT: op = CompareOp::lt; break;
      case Py_LE: op = CompareOp::le; break;
      case Py_GT: op = CompareOp::gt; break;
      case Py_GE: op = CompareOp::ge; break;
    }
    return wrap(ops::compare(op, unwrap(self), b));
  } catch (...) {
    return raise_python_error();
  }
}

Tensor single(PyObject* self, const char* what) {
  const Tensor x = unwrap(self);
  PE_CHECK(x.numel() == 1, Runtime, what, ": a tensor with ", x.numel(), " elements cannot be converted to a number");
  return ops::detach(x);
}

int truth(PyObject* self) {
  try {
    const Tensor x = unwrap(self);
    PE_CHECK(x.numel() == 1, Runtime, "bool: the truth value of a Tensor with ", x.numel(), " values is ambiguous");
    return *ops::to(ops::detach(x), DType::Bool).data_as<bool>();
  } catch (...) {
    raise_python_error();
    return -1;
  }
}

PyObject* to_float(PyObject* self) {
  try {
    return PyFloat_FromDouble(*ops::to(single(self, "float"), DType::Float64).data_as<double>());
  } catch (...) {
    return raise_python_error();
  }
}

PyObject* to_int(PyObject* self) {
  try {
    const Tensor x = single(self, "int");
    if (is_floating(x.dtype())) return PyLong_FromDouble(*ops::to(x, DType::Float64).data_as<double>());
    return PyLong_FromLongLong(*ops::to(x, DType::Int64).data_as<int64_t>());
  } catch (...) {
    return raise_python_error();
  }
}

PyObject* to_index(PyObject* self) {
  try {
    PE_CHECK(!is_floating(unwrap(self).dtype()), Type,
             "only integer tensors of a single element can be converted to an index");
    return to_int(self);
  } catch (...) {
    return raise_python_error();
  }
}

Py_ssize_t length(PyObject* self) {
  const Tensor x = unwrap(self);
  if (x.dim() == 0) {
    PyErr_SetString(PyExc_TypeError, "len() of a 0-d tensor");
    return -1;
  }
  return Py_ssize_t(x.shape()[0]);
}

PyObject* subscript(PyObject* self, PyObject* key) {
  try {
    return wrap(get_item(unwrap(self), key));
  } catch (...) {
    return raise_python_error();
  }
}

int assign_subscript(PyObject* self, PyObject* key, PyObject* value) {
  try {
    PE_CHECK(value != nullptr, Type, "a tensor's elements cannot be deleted");
    set_item(unwrap(self), key, value);
    return 0;
  } catch (...) {
    raise_python_error();
    return -1;
  }
}

PyObject* iterate(PyObject* self) {
  try {
    const Tensor x = unwrap(self);
    PE_CHECK(x.dim() > 0, Type, "iteration over a 0-d tensor");
    py::list items;
    for (const Tensor& t : ops::unbind(x, 0)) items.append(py::reinterpret_steal<py::object>(wrap(t)));
    return PyObject_GetIter(items.ptr());
  } catch (...) {
    return raise_python_error();
  }
}

int contains(PyObject* self, PyObject* item) {
  try {
    Tensor b;
    if (!operand(item, b)) return 0;
    return *ops::any(ops::compare(CompareOp::eq, unwrap(self), b), {}, false).data_as<bool>();
  } catch (...) {
    raise_python_error();
    return -1;
  }
}

Py_hash_t identity_hash(PyObject* self) { return Py_hash_t(reinterpret_cast<uintptr_t>(self) >> 4); }

}  // namespace

Tensor power_of(const Tensor& a, const Tensor& b) {
  if (b->wrapped_number && is_floating(a.dtype())) {
    const double p = *ops::to(b, DType::Float64).data_as<double>();
    if (p == 2) return ops::square(a);
    if (p == 0.5) return ops::sqrt(a);
    if (p == 1) return ops::clone(a);
    if (p == -1) return ops::reciprocal(a);
    if (p == -0.5) return ops::rsqrt(a);
  }
  return ops::pow(a, b);
}

void append_tensor_slots(std::vector<PyType_Slot>& slots) {
  auto add = [&](int slot, auto* function) { slots.push_back({slot, reinterpret_cast<void*>(function)}); };
  add(Py_nb_add, binary<BinaryOp::add>);
  add(Py_nb_subtract, binary<BinaryOp::sub>);
  add(Py_nb_multiply, binary<BinaryOp::mul>);
  add(Py_nb_true_divide, binary<BinaryOp::div>);
  add(Py_nb_floor_divide, binary<BinaryOp::floor_divide>);
  add(Py_nb_remainder, binary<BinaryOp::remainder>);
  add(Py_nb_and, binary<BinaryOp::bitwise_and>);
  add(Py_nb_or, binary<BinaryOp::bitwise_or>);
  add(Py_nb_xor, binary<BinaryOp::bitwise_xor>);
  add(Py_nb_lshift, binary<BinaryOp::shift_left>);
  add(Py_nb_rshift, binary<BinaryOp::shift_right>);
  add(Py_nb_power, power);
  add(Py_nb_matrix_multiply, matmul);
  add(Py_nb_inplace_add, binary_inplace<BinaryOp::add>);
  add(Py_nb_inplace_subtract, binary_inplace<BinaryOp::sub>);
  add(Py_nb_inplace_multiply, binary_inplace<BinaryOp::mul>);
  add(Py_nb_inplace_true_divide, binary_inplace<BinaryOp::div>);
  add(Py_nb_inplace_floor_divide, binary_inplace<BinaryOp::floor_divide>);
  add(Py_nb_inplace_remainder, binary_inplace<BinaryOp::remainder>);
  add(Py_nb_inplace_and, binary_inplace<BinaryOp::bitwise_and>);
  add(Py_nb_inplace_or, binary_inplace<BinaryOp::bitwise_or>);
  add(Py_nb_inplace_xor, binary_inplace<BinaryOp::bitwise_xor>);
  add(Py_nb_inplace_power, power_inplace);
  add(Py_nb_negative, unary<UnaryOp::neg>);
  add(Py_nb_absolute, unary<UnaryOp::abs>);
  add(Py_nb_positive, positive);
  add(Py_nb_invert, invert);
  add(Py_nb_bool, truth);
  add(Py_nb_float, to_float);
  add(Py_nb_int, to_int);
  add(Py_nb_index, to_index);
  add(Py_tp_richcompare, compare);
  add(Py_tp_hash, identity_hash);
  add(Py_tp_iter, iterate);
  add(Py_mp_length, length);
  add(Py_mp_subscript, subscript);
  add(Py_mp_ass_subscript, assign_subscript);
  add(Py_sq_contains, contains);
  add(Py_bf_getbuffer, get_buffer);
  add(Py_bf_releasebuffer, release_buffer);
}

}  // namespace pe::bind
