// One TensorImpl has one Python object for life. While Python holds it, the object owns a count of the impl. When
// Python's last reference goes but C++ still holds the impl (in a graph, as a .grad), the object is handed over: the
// impl then owns it, with its attributes, weak references and subclass, and wrap() gives the same object back.
#include "bind/tensor_type.h"

#include <structmember.h>

#include "bind/casters.h"
#include "bind/gil.h"
#include "bind/tensor_slots.h"
#include "ops/ops.h"

namespace py = pybind11;

namespace pe::bind {

PyTypeObject* TensorType = nullptr;

namespace {

struct PyTensor {
  PyObject_HEAD
  TensorImpl* impl;  // counted
  PyObject* dict;
  PyObject* weak_references;
};

PyTensor* cast(PyObject* o) { return reinterpret_cast<PyTensor*>(o); }

bool hand_over(PyObject* self) { return cast(self)->impl && cast(self)->impl->take_python(); }

// The collector asks before it breaks up a cycle, and marks the object so that it is asked once in its life: this
// takes the mark away. It is the lowest bit of the second word before the object (Include/internal/pycore_gc.h).
void finalize(PyObject* self) {
  if (hand_over(self)) Py_INCREF(self);
}
void forget_finalization([[maybe_unused]] PyObject* o) {
#ifndef Py_GIL_DISABLED
  uintptr_t* head = reinterpret_cast<uintptr_t*>(o) - 2;
  head[1] &= ~uintptr_t(1);
#endif
}

void dealloc(PyObject* self) {
  // Not through tp_finalize, which may have run before: a tensor may change hands any number of times.
  if (hand_over(self)) {
    _Py_NewReference(self);
    return;
  }
  PyObject_GC_UnTrack(self);
  PyTypeObject* type = Py_TYPE(self);
  if (cast(self)->weak_references) PyObject_ClearWeakRefs(self);
  Py_CLEAR(cast(self)->dict);
  if (TensorImpl* impl = std::exchange(cast(self)->impl, nullptr)) {
    impl->python = nullptr;
    impl->unref();
  }
  type->tp_free(self);
  Py_DECREF(type);
}

int traverse(PyObject* self, visitproc visit, void* arg) {
  Py_VISIT(Py_TYPE(self));
  Py_VISIT(cast(self)->dict);
  TensorImpl* impl = cast(self)->impl;
  return impl && impl->use_count() == 1 ? visit_graph(impl, visit, arg) : 0;
}

int clear(PyObject* self) {
  if (hand_over(self)) {  // not garbage after all
    Py_INCREF(self);
    return 0;
  }
  Py_CLEAR(cast(self)->dict);
  if (cast(self)->impl) clear_graph(cast(self)->impl);
  return 0;
}

void release_python(TensorImpl* impl) {
  if (!Py_IsInitialized()) return;
  const WithGil gil;
  if (impl->owns_python() && impl->use_count() == 1) {
    impl->return_python();
    Py_DECREF(static_cast<PyObject*>(impl->python));
  }
}

PyObject* attach(PyTypeObject* type, const Tensor& x) {
  PyObject* self = type->tp_alloc(type, 0);
  if (!self) throw py::error_already_set();
  x->ref();
  cast(self)->impl = x.impl();
  x->python = self;
  return self;
}

// Tensor(), Tensor(2, 3), Tensor([1, 2]): float tensors, as PyTorch's legacy constructor.
PyObject* construct(PyTypeObject* type, PyObject* args, PyObject*) {
  try {
    const py::args given = py::reinterpret_borrow<py::args>(args);
    Tensor x;
    if (given.size() == 1 && is_tensor(given[0].ptr())) {
      x = alias(unwrap(given[0].ptr()));
    } else if (given.size() == 1 && !PyLong_Check(given[0].ptr())) {
      const py::object made =
          py::module_::import("pyengine").attr("tensor")(given[0], py::arg("dtype") = py::cast(default_dtype()));
      x = alias(unwrap(made.ptr()));
    } else {
      x = empty(given.empty() ? Dims{0} : dims_of(given, "Tensor"), default_dtype());
    }
    return attach(type, x);
  } catch (...) {
    return raise_python_error();
  }
}

PyMemberDef members[] = {
    {"__dictoffset__", T_PYSSIZET, offsetof(PyTensor, dict), READONLY, nullptr},
    {"__weaklistoffset__", T_PYSSIZET, offsetof(PyTensor, weak_references), READONLY, nullptr},
    {nullptr, 0, 0, 0, nullptr},
};
}  // namespace

bool is_tensor(PyObject* object) { return PyObject_TypeCheck(object, TensorType); }

const Tensor unwrap(PyObject* object) { return Tensor(Ref<TensorImpl>(cast(object)->impl)); }

PyObject* wrap(const Tensor& x) {
  if (!x.defined()) Py_RETURN_NONE;
  PyObject* self = static_cast<PyObject*>(x->python);
  if (!self) return attach(TensorType, x);
  if (x->owns_python()) {  // its reference passes to the caller
    x->return_python();
    forget_finalization(self);
    return self;
  }
  Py_INCREF(self);
  return self;
}

PyObject* wrap_as(PyTypeObject* type, const Tensor& x) { return attach(type, x); }

Held::~Held() {
  if (!object_ || !Py_IsInitialized()) return;
  const WithGil gil;
  Py_DECREF(object_);
}

void make_tensor_type(py::module_& m) {
  std::vector<PyType_Slot> slots = {
      {Py_tp_new, reinterpret_cast<void*>(construct)},
      {Py_tp_dealloc, reinterpret_cast<void*>(dealloc)},
      {Py_tp_finalize, reinterpret_cast<void*>(finalize)},
      {Py_tp_traverse, reinterpret_cast<void*>(traverse)},
      {Py_tp_clear, reinterpret_cast<void*>(clear)},
      {Py_tp_members, members},
      {Py_tp_getset, tensor_attributes()},
      {Py_tp_doc,
       const_cast<char*>("A multi-dimensional array of one dtype, with its part in the graph of derivatives.")},
  };
  append_tensor_slots(slots);
  slots.push_back({0, nullptr});
  PyType_Spec spec = {"pyengine._C.Tensor", sizeof(PyTensor), 0,
                      Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC, slots.data()};
  TensorType = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (!TensorType) throw py::error_already_set();
  TensorImpl::python_releaser = release_python;
  m.attr("Tensor") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(TensorType));
}

}  // namespace pe::bind
