#include "bind/casters.h"

#include "ops/ops.h"

namespace py = pybind11;

namespace pe::bind {

bool to_scalar(PyObject* o, Scalar& value) {
  if (PyBool_Check(o)) {
    value = Scalar(o == Py_True);
    return true;
  }
  if (PyFloat_Check(o)) {
    value = Scalar(PyFloat_AS_DOUBLE(o));
    return true;
  }
  if (PyLong_Check(o) || (!is_tensor(o) && PyIndex_Check(o) && !PySequence_Check(o))) {
    const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(o));
    if (!index) throw py::error_already_set();
    int overflow = 0;
    const long long v = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
    PE_CHECK(!overflow, Overflow, "a Python integer does not fit into 64 bits");
    if (v == -1 && PyErr_Occurred()) throw py::error_already_set();
    value = Scalar(int64_t(v));
    return true;
  }
  // NumPy's float32, float64 and bool scalars: numbers that are not arrays.
  if (!is_tensor(o) && PyNumber_Check(o) && !PySequence_Check(o) && !PyComplex_Check(o) &&
      Py_TYPE(o)->tp_as_number->nb_float) {
    if (std::string(Py_TYPE(o)->tp_name).find("bool") != std::string::npos) {
      value = Scalar(PyObject_IsTrue(o) == 1);
      return true;
    }
    const double v = PyFloat_AsDouble(o);
    if (v == -1.0 && PyErr_Occurred()) {
      PyErr_Clear();
      return false;
    }
    value = Scalar(v);
    return true;
  }
  return false;
}

namespace {

bool to_int(PyObject* o, int64_t& v) {
  if (is_tensor(o)) {
    const Tensor x = unwrap(o);
    if (x.numel() != 1 || is_floating(x.dtype())) return false;
    v = *ops::to(x, DType::Int64).data_as<int64_t>();
    return true;
  }
  if (!PyIndex_Check(o)) return false;
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(o));
  if (!index) throw py::error_already_set();
  v = PyLong_AsLongLong(index.ptr());
  if (v == -1 && PyErr_Occurred()) throw py::error_already_set();
  return true;
}

}  // namespace

bool to_dims(PyObject* o, Dims& dims) {
  int64_t v;
  if (PyTuple_Check(o) || PyList_Check(o)) {
    dims = Dims();
    const Py_ssize_t n = PySequence_Fast_GET_SIZE(o);
    for (Py_ssize_t i = 0; i < n; ++i) {
      if (!to_int(PySequence_Fast_GET_ITEM(o, i), v)) return false;
      dims.push_back(v);
    }
    return true;
  }
  if (PyFloat_Check(o) || !to_int(o, v)) return false;
  dims = {v};
  return true;
}

Dims dims_of(const py::args& args, const char* op) {
  Dims dims;
  PyObject* source =
      args.size() == 1 && (PyTuple_Check(args[0].ptr()) || PyList_Check(args[0].ptr())) ? args[0].ptr() : args.ptr();
  PE_CHECK(to_dims(source, dims), Type, op, ": expected integers or one sequence of integers, got ",
           std::string(py::repr(args)));
  return dims;
}

}  // namespace pe::bind

bool pybind11::detail::type_caster<pe::bind::Operand>::load(handle src, bool) {
  if (pe::bind::is_tensor(src.ptr())) {
    value.tensor = pe::bind::unwrap(src.ptr());
    return true;
  }
  pe::Scalar scalar(0);
  if (!pe::bind::to_scalar(src.ptr(), scalar)) return false;
  value.tensor = pe::ops::wrapped_number(scalar);
  return true;
}
