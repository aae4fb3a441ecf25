// How Python arguments become the engine's types, and back.
#pragma once
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>

#include "bind/tensor_type.h"
#include "tensor/scalar.h"

namespace pe::bind {

// A tensor, or a Python number that takes part as a weak scalar.
struct Operand {
  Tensor tensor;
};

bool to_scalar(PyObject* object, Scalar& value);   // int, float, bool, NumPy scalars
bool to_dims(PyObject* object, Dims& dims);        // an int, or a sequence of ints
bool to_dtype(PyObject* object, DType& dtype);     // pyengine.float32, float, int, bool, NumPy dtypes
PyObject* dtype_object(DType dtype);               // borrowed; one object per dtype
PyObject* size_object(const Dims& dims);           // pyengine.Size
bool to_device(PyObject* object, Device& device);  // pyengine.device or a string; raises for what this build lacks

// Sizes given one by one or as one sequence: x.view(2, 3), x.view((2, 3)).
Dims dims_of(const pybind11::args& args, const char* op);

inline Tensor or_undefined(const std::optional<Tensor>& x) { return x ? *x : Tensor(); }

}  // namespace pe::bind

namespace pybind11::detail {

template <>
struct type_caster<pe::Tensor> {
  PYBIND11_TYPE_CASTER(pe::Tensor, const_name("Tensor"));
  bool load(handle src, bool) {
    if (!pe::bind::is_tensor(src.ptr())) return false;
    value = pe::bind::unwrap(src.ptr());
    return true;
  }
  static handle cast(const pe::Tensor& x, return_value_policy, handle) { return pe::bind::wrap(x); }
};

template <>
struct type_caster<pe::bind::Operand> {
  PYBIND11_TYPE_CASTER(pe::bind::Operand, const_name("Tensor | float"));
  bool load(handle src, bool);
  static handle cast(const pe::bind::Operand& x, return_value_policy, handle) { return pe::bind::wrap(x.tensor); }
};

template <>
struct type_caster<pe::Dims> {
  PYBIND11_TYPE_CASTER(pe::Dims, const_name("int | Sequence[int]"));
  bool load(handle src, bool) { return pe::bind::to_dims(src.ptr(), value); }
  static handle cast(const pe::Dims& x, return_value_policy, handle) { return pe::bind::size_object(x); }
};

template <>
struct type_caster<pe::DType> {
  PYBIND11_TYPE_CASTER(pe::DType, const_name("dtype"));
  bool load(handle src, bool) { return pe::bind::to_dtype(src.ptr(), value); }
  static handle cast(pe::DType x, return_value_policy, handle) { return handle(pe::bind::dtype_object(x)).inc_ref(); }
};

template <>
class type_caster<pe::Scalar> {
 public:
  static constexpr auto name = const_name("float");
  bool load(handle src, bool) { return pe::bind::to_scalar(src.ptr(), value); }
  template <class T>
  using cast_op_type = pe::Scalar&;
  operator pe::Scalar&() { return value; }
  static handle cast(const pe::Scalar& x, return_value_policy, handle) {
    if (x.kind == pe::Scalar::Bool) return PyBool_FromLong(x.i);
    return x.kind == pe::Scalar::Int ? PyLong_FromLongLong(x.i) : PyFloat_FromDouble(x.d);
  }
  pe::Scalar value{0};
};

}  // namespace pybind11::detail
