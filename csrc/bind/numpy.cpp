// Memory shared with NumPy, the buffer protocol and DLPack (https://dmlc.github.io/dlpack, version 1).
#include <pybind11/numpy.h>

#include "bind/casters.h"
#include "bind/dlpack.h"
#include "bind/gil.h"
#include "bind/module.h"
#include "bind/tensor_slots.h"
#include "ops/ops.h"

namespace py = pybind11;

namespace pe::bind {

namespace {

py::dtype numpy_dtype(DType t) {
  switch (t) {
    case DType::Bool: return py::dtype::of<bool>();
    case DType::UInt8: return py::dtype::of<uint8_t>();
    case DType::Int32: return py::dtype::of<int32_t>();
    case DType::Int64: return py::dtype::of<int64_t>();
    case DType::Float32: return py::dtype::of<float>();
    case DType::Float64: return py::dtype::of<double>();
  }
  return py::dtype::of<float>();
}

bool engine_dtype(const py::dtype& d, DType& t) {
  if (d.byteorder() == '>') return false;
  const char kind = d.kind();
  const auto size = d.itemsize();
  if (kind == 'b') return t = DType::Bool, true;
  if (kind == 'u' && size == 1) return t = DType::UInt8, true;
  if (kind == 'i' && size == 4) return t = DType::Int32, true;
  if (kind == 'i' && size == 8) return t = DType::Int64, true;
  if (kind == 'f' && size == 4) return t = DType::Float32, true;
  if (kind == 'f' && size == 8) return t = DType::Float64, true;
  return false;
}

void release_object(void* object) {
  if (!Py_IsInitialized()) return;
  const WithGil gil;
  Py_DECREF(static_cast<PyObject*>(object));
}

Tensor borrow(const py::array& a, const char* op) {
  DType t;
  PE_CHECK(engine_dtype(a.dtype(), t), Type, op, ": can't convert an array of dtype ", std::string(py::str(a.dtype())),
           "; the supported ones are float64, float32, int64, int32, uint8 and bool");
  Dims shape, strides;
  int64_t reach = 0;
  const int64_t item = int64_t(item_size(t));
  for (py::ssize_t i = 0; i < a.ndim(); ++i) {
    PE_CHECK(a.strides(i) >= 0 || a.shape(i) <= 1, Value, op,
             ": at least one stride of the array is negative, and tensors with negative strides are not supported; use "
             "array.copy()");
    PE_CHECK(a.strides(i) % item == 0, Value, op,
             ": the array's strides are not a multiple of its element size; use array.copy()");
    shape.push_back(a.shape(i));
    strides.push_back(a.shape(i) <= 1 ? 1 : a.strides(i) / item);
    if (a.shape(i) > 0) reach += (a.shape(i) - 1) * strides[int(i)];
  }
  PE_CHECK(reinterpret_cast<uintptr_t>(a.data()) % uintptr_t(item) == 0, Value, op,
           ": the array's memory is not aligned to its elements; use array.copy()");
  if (a.size() == 0 || a.ndim() == 0) strides = contiguous_strides(shape);
  // Strides of dimensions of size 1 mean nothing; the usual ones keep "contiguous" true.
  for (int i = shape.size() - 1, next = 1; i >= 0; --i) {
    if (shape[i] == 1) strides[i] = i + 1 < shape.size() ? strides[i + 1] * shape[i + 1] : next;
  }
  Ref<Storage> storage = Storage::borrow(const_cast<void*>(a.data()), size_t(a.size() ? (reach + 1) * item : 0), {},
                                         release_object, py::object(a).inc_ref().ptr());
  storage->read_only = !a.writeable();
  return Tensor(Ref<TensorImpl>(new TensorImpl(storage, 0, shape, strides, t)));
}

py::array to_numpy(const Tensor& x) {
  PE_CHECK(!requires_grad_flag(x), Runtime,
           "numpy: can't call numpy() on a Tensor that requires grad; use tensor.detach().numpy() instead");
  export_storage(x);
  std::vector<py::ssize_t> shape, strides;
  for (int i = 0; i < x.dim(); ++i) {
    shape.push_back(x.shape()[i]);
    strides.push_back(x.strides()[i] * int64_t(item_size(x.dtype())));
  }
  // The array keeps the storage alive through a handle of its own.
  const py::capsule owner(new Tensor(alias(x)), [](void* p) { delete static_cast<Tensor*>(p); });
  py::array a(numpy_dtype(x.dtype()), shape, strides, x.data(), owner);
  if (x->storage->read_only) a.attr("flags").attr("writeable") = false;
  return a;
}

// What an exported buffer keeps: the memory, also when the tensor's `data` is replaced meanwhile.
struct BufferExport {
  Tensor tensor;
  Py_ssize_t shape[kMaxDims], strides[kMaxDims];
};

}  // namespace

Tensor tensor_from(const py::handle& data) {
  if (is_tensor(data.ptr())) return ops::clone(ops::detach(unwrap(data.ptr())));
  Scalar scalar(0);
  if (to_scalar(data.ptr(), scalar) && !py::isinstance<py::array>(data) && !py::hasattr(data, "dtype"))
    return ops::scalar_tensor(scalar, scalar.default_dtype());
  const py::module_ numpy = py::module_::import("numpy");
  const bool typed = py::hasattr(data, "dtype");
  py::array a;
  try {
    a = numpy.attr("asarray")(data).cast<py::array>();
  } catch (py::error_already_set& e) {
    if (e.matches(PyExc_ValueError))
      fail(ErrorKind::Shape, "tensor: expected a sequence of equal lengths at every depth: ", e.what());
    throw;
  }
  PE_CHECK(a.dtype().kind() != 'O' && a.dtype().kind() != 'U' && a.dtype().kind() != 'S', Type,
           "tensor: could not make a tensor of an object of type ", Py_TYPE(data.ptr())->tp_name);
  if (a.dtype().byteorder() == '>') a = a.attr("astype")(a.dtype().attr("newbyteorder")("=")).cast<py::array>();
  if (!a.attr("flags").attr("aligned").cast<bool>()) a = a.attr("copy")().cast<py::array>();
  DType t;
  if (!engine_dtype(a.dtype(), t)) {
    const char kind = a.dtype().kind();  // float16, int8, int16, uint16, uint32 ... widen to what holds them
    PE_CHECK(kind == 'f' || kind == 'i' || kind == 'u', Type, "tensor: can't convert an array of dtype ",
             std::string(py::str(a.dtype())));
    a = a.attr("astype")(kind == 'f'        ? (a.itemsize() < 4 ? "float32" : "float64")
                         : a.itemsize() < 4 ? "int32"
                                            : "int64")
            .cast<py::array>();
  }
  // Negative or odd strides are fine here: the data is copied in any case.
  const Tensor x = ops::clone(borrow(numpy.attr("ascontiguousarray")(a).cast<py::array>(), "tensor"));
  const Tensor shaped = a.ndim() == 0 ? ops::reshape(x, {}) : x;
  return !typed && x.dtype() == DType::Float64 ? ops::to(shaped, default_dtype()) : shaped;
}

int get_buffer(PyObject* self, Py_buffer* view, int flags) {
  try {
    const Tensor x = unwrap(self);
    PE_CHECK(!requires_grad_flag(x), Runtime, "buffer: a Tensor that requires grad gives no buffer; use detach()");
    PE_CHECK(!(flags & PyBUF_WRITABLE) || !x->storage->read_only, Value, "buffer: the tensor's memory is read-only");
    PE_CHECK((flags & PyBUF_STRIDES) == PyBUF_STRIDES || x.is_contiguous(), Value,
             "buffer: the tensor is not contiguous");
    export_storage(x);
    static const char* const formats[kNumDTypes] = {"?", "B", "i", "q", "f", "d"};
    auto* exported = new BufferExport{alias(x), {}, {}};
    for (int i = 0; i < x.dim(); ++i) {
      exported->shape[i] = Py_ssize_t(x.shape()[i]);
      exported->strides[i] = Py_ssize_t(x.strides()[i]) * Py_ssize_t(item_size(x.dtype()));
    }
    *view = {};
    view->buf = x.data();
    view->obj = self;
    Py_INCREF(self);
    view->len = Py_ssize_t(x.numel()) * Py_ssize_t(item_size(x.dtype()));
    view->itemsize = Py_ssize_t(item_size(x.dtype()));
    view->readonly = x->storage->read_only;
    view->ndim = x.dim();
    view->format = flags & PyBUF_FORMAT ? const_cast<char*>(formats[int(x.dtype())]) : nullptr;
    view->shape = flags & PyBUF_ND ? exported->shape : nullptr;
    view->strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? exported->strides : nullptr;
    view->internal = exported;
    return 0;
  } catch (const std::exception& e) {
    view->obj = nullptr;
    PyErr_SetString(PyExc_BufferError, e.what());
    return -1;
  }
}

void release_buffer(PyObject*, Py_buffer* view) { delete static_cast<BufferExport*>(view->internal); }

void bind_numpy(py::module_& m) {
  m.def(
      "from_numpy", [](const py::array& a) { return borrow(a, "from_numpy"); }, py::arg("ndarray"),
      "A tensor that shares the array's memory. Dtypes float64, float32, int64, int32, uint8, bool; strides must not "
      "be negative "
      "(ValueError). A read-only array gives a tensor that refuses in-place writes.");
  m.def(
      "_tensor_from", [](const py::object& data) { return tensor_from(data); }, py::arg("data"),
      "A new tensor with a copy of numbers, sequences or arrays.");
  m.def("_to_numpy", to_numpy, py::arg("input"), "An array that shares the tensor's memory.");
  bind_dlpack(m);
}

}  // namespace pe::bind
