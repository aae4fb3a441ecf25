// pyengine.dtype, pyengine.device and pyengine.Size.
#include <cstring>

#include "bind/casters.h"
#include "bind/module.h"

namespace py = pybind11;

namespace pe::bind {

namespace {

struct DTypeObject {
  DType dtype;
};

PyObject* dtype_objects[kNumDTypes];
PyTypeObject* size_type = nullptr;

}  // namespace

PyObject* dtype_object(DType dtype) { return dtype_objects[int(dtype)]; }

bool to_dtype(PyObject* o, DType& dtype) {
  for (int i = 0; i < kNumDTypes; ++i)
    if (o == dtype_objects[i]) {
      dtype = DType(i);
      return true;
    }
  if (o == reinterpret_cast<PyObject*>(&PyFloat_Type)) return dtype = default_dtype(), true;
  if (o == reinterpret_cast<PyObject*>(&PyLong_Type)) return dtype = DType::Int64, true;
  if (o == reinterpret_cast<PyObject*>(&PyBool_Type)) return dtype = DType::Bool, true;
  // NumPy's dtypes and scalar types carry the same names.
  py::object name;
  if (py::hasattr(o, "name") && std::strcmp(Py_TYPE(o)->tp_name, "str") != 0)
    name = py::getattr(o, "name");
  else if (PyType_Check(o))
    name = py::getattr(o, "__name__");
  if (!name || !py::isinstance<py::str>(name)) return false;
  const std::string text = name.cast<std::string>();
  for (int i = 0; i < kNumDTypes; ++i)
    if (text == kDTypeName[i]) {
      dtype = DType(i);
      return true;
    }
  return false;
}

bool to_device(PyObject* o, Device& device) {
  if (py::isinstance<Device>(o)) {
    device = py::cast<Device>(py::handle(o));
    return true;
  }
  if (!PyUnicode_Check(o)) return false;
  device = parse_device(py::cast<std::string>(py::handle(o)));
  return true;
}

PyObject* size_object(const Dims& dims) {
  PyObject* tuple = size_type->tp_alloc(size_type, dims.size());
  if (!tuple) throw py::error_already_set();
  for (int i = 0; i < dims.size(); ++i) PyTuple_SET_ITEM(tuple, i, PyLong_FromLongLong(dims[i]));
  return tuple;
}

void bind_types(py::module_& m) {
  py::class_<DTypeObject> dtype(m, "dtype", "The type of a tensor's elements; one object for each.");
  dtype.def("__repr__", [](const DTypeObject& d) { return std::string("pyengine.") + dtype_name(d.dtype); });
  dtype.def("__reduce__", [](const DTypeObject& d) { return std::string(dtype_name(d.dtype)); });
  dtype.attr("__module__") = "pyengine";
  dtype.def_property_readonly("is_floating_point", [](const DTypeObject& d) { return is_floating(d.dtype); });
  dtype.def_property_readonly("is_complex", [](const DTypeObject&) { return false; });
  dtype.def_property_readonly("is_signed",
                              [](const DTypeObject& d) { return d.dtype != DType::Bool && d.dtype != DType::UInt8; });
  dtype.def_property_readonly("itemsize", [](const DTypeObject& d) { return item_size(d.dtype); });
  for (int i = 0; i < kNumDTypes; ++i) {
    const py::object object = py::cast(DTypeObject{DType(i)});
    dtype_objects[i] = object.ptr();
    object.inc_ref();  // for the life of the process
    m.attr(kDTypeName[i] == std::string("bool") ? "bool_" : kDTypeName[i]) = object;
  }

  py::class_<Device>(m, "device", "Where a tensor's memory is: device('cpu').")
      .def(py::init([](const std::string& name) { return parse_device(name); }), py::arg("type"))
      .def(
          py::init([](const std::string& name, int index) { return parse_device(name + ":" + std::to_string(index)); }),
          py::arg("type"), py::arg("index"))
      .def(py::init([](const Device& device) { return device; }), py::arg("device"))
      .def_property_readonly("type", [](const Device& d) { return d.type == Device::CPU ? "cpu" : "cuda"; })
      .def_property_readonly(
          "index", [](const Device& d) { return d.type == Device::CPU ? py::object(py::none()) : py::cast(d.index); })
      .def("__eq__",
           [](const Device& a, const py::object& b) { return py::isinstance<Device>(b) && a == b.cast<Device>(); })
      .def("__hash__", [](const Device& d) { return py::hash(py::str(device_name(d))); })
      .def("__str__", [](const Device& d) { return device_name(d); })
      .def("__repr__", [](const Device& d) { return "device(type='" + device_name(d) + "')"; })
      .def("__reduce__",
           [m](const Device& d) { return py::make_tuple(m.attr("device"), py::make_tuple(device_name(d))); });

  // A tuple with numel(): made here so that x.shape costs no call into Python.
  static PyMethodDef methods[] = {{"numel",
                                   [](PyObject* self, PyObject*) -> PyObject* {
                                     int64_t n = 1;
                                     for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(self); ++i)
                                       n *= PyLong_AsLongLong(PyTuple_GET_ITEM(self, i));
                                     return PyLong_FromLongLong(n);
                                   },
                                   METH_NOARGS, "The number of elements."},
                                  {nullptr, nullptr, 0, nullptr}};
  static PyType_Slot slots[] = {{Py_tp_base, &PyTuple_Type},
                                {Py_tp_methods, methods},
                                {Py_tp_doc, const_cast<char*>("A tensor's shape: a tuple of ints.")},
                                {Py_tp_repr, reinterpret_cast<void*>(+[](PyObject* self) -> PyObject* {
                                   PyObject* list = PySequence_List(self);
                                   PyObject* text = list ? PyUnicode_FromFormat("pyengine.Size(%R)", list) : nullptr;
                                   Py_XDECREF(list);
                                   return text;
                                 })},
                                {0, nullptr}};
  PyType_Spec spec = {"pyengine.Size", 0, 0, Py_TPFLAGS_DEFAULT, slots};
  size_type = reinterpret_cast<PyTypeObject*>(PyType_FromSpec(&spec));
  if (!size_type) throw py::error_already_set();
  m.attr("Size") = py::reinterpret_borrow<py::object>(reinterpret_cast<PyObject*>(size_type));
}

}  // namespace pe::bind
