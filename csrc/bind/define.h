// One row binds one op: as a function of the module, as a method of Tensor, or as both, with one docstring.
#pragma once
#include <pybind11/pybind11.h>

#include "bind/casters.h"
#include "bind/module.h"
#include "runtime/generator.h"

namespace pe::bind {

class Define {
 public:
  explicit Define(pybind11::module_& m)
      : m_(m), type_(pybind11::reinterpret_borrow<pybind11::object>(reinterpret_cast<PyObject*>(TensorType))) {}

  template <class F, class... Extra>
  void function(const char* name, F&& f, const char* doc, const Extra&... extra) {
    m_.def(name, std::forward<F>(f), doc, extra...);
  }
  template <class F, class... Extra>
  void method(const char* name, F&& f, const char* doc, const Extra&... extra) {
    namespace py = pybind11;
    py::cpp_function bound(std::forward<F>(f), py::name(name), py::is_method(type_), py::sibling(own(name)), doc,
                           extra...);
    type_.attr(name) = bound;
  }
  // The method's first argument is the function's first; extra names the others after `input`.
  template <class F, class... Extra>
  void both(const char* name, const F& f, const char* doc, const Extra&... extra) {
    function(name, f, doc, pybind11::arg("input"), extra...);
    method(name, f, doc, extra...);
  }

 private:
  // An overload already bound on Tensor itself (not one inherited from object).
  pybind11::object own(const char* name) const {
    const pybind11::dict attributes = type_.attr("__dict__").attr("copy")();
    return attributes.contains(name) ? attributes[name].cast<pybind11::object>() : pybind11::none();
  }
  pybind11::module_& m_;
  pybind11::object type_;
};

using Tensors = std::vector<Tensor>;
using OptTensor = std::optional<Tensor>;
using OptDims = std::optional<Dims>;
using OptDType = std::optional<DType>;

inline Dims or_all(const OptDims& dims) { return dims ? *dims : Dims(); }

// The generator given, or the default one.
Generator& generator_of(const pybind11::object& generator);
// requires_grad=, dtype= and device= of creation functions
Tensor finish(const Tensor& x, bool requires_grad);
void check_device(const pybind11::object& device);

}  // namespace pe::bind
