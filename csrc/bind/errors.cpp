// C++ errors become Python exceptions, each kind its own.
#include <pybind11/pybind11.h>

#include <new>

#include "bind/module.h"
#include "bind/tensor_slots.h"
#include "tensor/check.h"

namespace py = pybind11;

namespace pe::bind {

namespace {

PyObject* shape_error = nullptr;

PyObject* exception_of(ErrorKind kind) {
  switch (kind) {
    case ErrorKind::Shape: return shape_error;
    case ErrorKind::Value: return PyExc_ValueError;
    case ErrorKind::Type: return PyExc_TypeError;
    case ErrorKind::Index: return PyExc_IndexError;
    case ErrorKind::Memory: return PyExc_MemoryError;
    case ErrorKind::Runtime: return PyExc_RuntimeError;
    case ErrorKind::Overflow: return PyExc_OverflowError;
    case ErrorKind::NotImplemented: return PyExc_NotImplementedError;
  }
  return PyExc_RuntimeError;
}

}  // namespace

PyObject* raise_python_error() {
  try {
    throw;
  } catch (py::error_already_set& e) {
    e.restore();
  } catch (const py::builtin_exception& e) {
    e.set_error();
  } catch (const Error& e) {
    PyErr_SetString(exception_of(e.kind), e.what());
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, "out of memory");
  } catch (const std::exception& e) {
    PyErr_SetString(PyExc_RuntimeError, e.what());
  }
  return nullptr;
}

void bind_errors(py::module_& m) {
  const py::object bases = py::make_tuple(py::handle(PyExc_ValueError), py::handle(PyExc_RuntimeError));
  shape_error = PyErr_NewExceptionWithDoc(
      "pyengine.ShapeError", "Shapes that do not fit: both a ValueError and a RuntimeError.", bases.ptr(), nullptr);
  if (!shape_error) throw py::error_already_set();
  m.attr("ShapeError") = py::reinterpret_borrow<py::object>(shape_error);
  py::register_exception_translator([](std::exception_ptr p) {
    try {
      if (p) std::rethrow_exception(p);
    } catch (const Error& e) {
      PyErr_SetString(exception_of(e.kind), e.what());
    }
  });
}

}  // namespace pe::bind
