#include "bind/dlpack.h"

#include "autograd/node.h"
#include "bind/casters.h"
#include "bind/gil.h"
#include "ops/ops.h"

namespace py = pybind11;

namespace pe::bind {

bool requires_grad_flag(const Tensor& x) { return requires_grad(x); }

void export_storage(const Tensor& x) {
  x->storage->compute_readers();
  x->storage->shared_outside = true;
}

namespace {

constexpr uint64_t kReadOnly = 1, kCopied = 2;

// What an exported tensor keeps alive; the same for both versions.
struct Export {
  Tensor tensor;
  Dims shape, strides;
};

DLDataType dl_dtype(DType t) {
  const uint8_t code = t == DType::Bool ? 6 : t == DType::UInt8 ? 1 : is_floating(t) ? 2 : 0;
  return {code, uint8_t(8 * item_size(t)), 1};
}

bool engine_dtype(const DLDataType& d, DType& t) {
  if (d.lanes != 1) return false;
  for (int i = 0; i < kNumDTypes; ++i) {
    const DLDataType c = dl_dtype(DType(i));
    if (c.code == d.code && c.bits == d.bits) return t = DType(i), true;
  }
  return false;
}

template <class Managed>
Managed* export_tensor(const Tensor& x) {
  auto* kept = new Export{x, x.shape(), x.strides()};
  auto* managed = new Managed{};
  managed->manager_ctx = kept;
  managed->deleter = [](Managed* self) {
    delete static_cast<Export*>(self->manager_ctx);
    delete self;
  };
  managed->dl_tensor = {x.data(), {1, 0}, x.dim(), dl_dtype(x.dtype()), &kept->shape[0], &kept->strides[0], 0};
  return managed;
}

template <class Managed>
void destroy_capsule(PyObject* capsule, const char* name) {
  if (!PyCapsule_IsValid(capsule, name)) return;  // consumed: the new owner deletes it
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  managed->deleter(managed);
}

py::object to_dlpack(const Tensor& x0, const py::object& stream, const py::object& max_version,
                     const py::object& dl_device, const py::object& copy) {
  PE_CHECK(!requires_grad(x0), Runtime, "__dlpack__: can't export a tensor that requires grad; use tensor.detach()");
  PE_CHECK(stream.is_none(), Value, "__dlpack__: a CPU tensor takes no stream");
  if (!dl_device.is_none()) {
    const auto device = dl_device.cast<std::pair<int, int>>();
    if (device.first != 1 || device.second != 0)
      throw py::buffer_error("__dlpack__: this tensor is on the CPU, device (1, 0)");
  }
  const bool copied = !copy.is_none() && copy.cast<bool>();
  const Tensor x = copied ? ops::clone(x0) : alias(x0);
  export_storage(x);
  if (!max_version.is_none() && max_version.cast<std::pair<int, int>>().first >= 1) {
    auto* managed = export_tensor<DLManagedTensorVersioned>(x);
    managed->version = {1, 0};
    managed->flags = (x->storage->read_only ? kReadOnly : 0) | (copied ? kCopied : 0);
    PyObject* capsule = PyCapsule_New(managed, "dltensor_versioned", [](PyObject* c) {
      destroy_capsule<DLManagedTensorVersioned>(c, "dltensor_versioned");
    });
    return py::reinterpret_steal<py::object>(capsule);
  }
  if (x->storage->read_only) throw py::buffer_error("__dlpack__: a read-only tensor needs DLPack 1.0 or newer");
  PyObject* capsule = PyCapsule_New(export_tensor<DLManagedTensor>(x), "dltensor",
                                    [](PyObject* c) { destroy_capsule<DLManagedTensor>(c, "dltensor"); });
  return py::reinterpret_steal<py::object>(capsule);
}

template <class Managed>
Tensor import_tensor(Managed* managed) {
  const DLTensor& d = managed->dl_tensor;
  DType t;
  PE_CHECK(d.device.device_type == 1, Runtime, "from_dlpack: expected a tensor on the CPU, got device type ",
           d.device.device_type);
  PE_CHECK(engine_dtype(d.dtype, t), Type, "from_dlpack: unsupported dtype (code ", int(d.dtype.code), ", ",
           int(d.dtype.bits), " bits)");
  PE_CHECK(d.ndim <= kMaxDims, Shape, "from_dlpack: a tensor has at most ", kMaxDims, " dimensions, got ", d.ndim);
  Dims shape, strides;
  for (int i = 0; i < d.ndim; ++i) shape.push_back(d.shape[i]);
  if (d.strides)
    for (int i = 0; i < d.ndim; ++i) {
      PE_CHECK(d.strides[i] >= 0 || d.shape[i] <= 1, Value, "from_dlpack: negative strides are not supported");
      strides.push_back(d.shape[i] <= 1 ? 1 : d.strides[i]);
    }
  else
    strides = contiguous_strides(shape);
  const int64_t n = checked_numel(shape, "from_dlpack");
  int64_t reach = n > 0;
  for (int i = 0; i < d.ndim && n > 0; ++i) reach += (shape[i] - 1) * strides[i];
  auto release = [](void* p) {
    auto* m = static_cast<Managed*>(p);
    if (!m->deleter || !Py_IsInitialized()) return;
    const WithGil gil;
    m->deleter(m);
  };
  Ref<Storage> storage =
      Storage::borrow(static_cast<char*>(d.data) + d.byte_offset, size_t(reach) * item_size(t), {}, release, managed);
  if constexpr (std::is_same_v<Managed, DLManagedTensorVersioned>) storage->read_only = managed->flags & kReadOnly;
  return Tensor(Ref<TensorImpl>(new TensorImpl(storage, 0, shape, strides, t)));
}

template <class Managed>
Tensor consume(PyObject* capsule, const char* name, const char* used_name) {
  auto* managed = static_cast<Managed*>(PyCapsule_GetPointer(capsule, name));
  const Tensor x = import_tensor(managed);
  PyCapsule_SetName(capsule, used_name);
  return x;
}

Tensor from_dlpack(const py::object& source) {
  py::object capsule = source;
  if (!PyCapsule_CheckExact(source.ptr())) {
    PE_CHECK(py::hasattr(source, "__dlpack__"), Type, "from_dlpack: expected an object with __dlpack__, got ",
             Py_TYPE(source.ptr())->tp_name);
    try {
      capsule = source.attr("__dlpack__")(py::arg("max_version") = py::make_tuple(1, 0));
    } catch (py::error_already_set& e) {
      if (!e.matches(PyExc_TypeError)) throw;
      capsule = source.attr("__dlpack__")();  // a producer from before version 1
    }
  }
  if (PyCapsule_IsValid(capsule.ptr(), "dltensor_versioned")) {
    auto* managed = static_cast<DLManagedTensorVersioned*>(PyCapsule_GetPointer(capsule.ptr(), "dltensor_versioned"));
    PE_CHECK(managed->version.major == 1, Runtime, "from_dlpack: unsupported DLPack version ", managed->version.major);
    return consume<DLManagedTensorVersioned>(capsule.ptr(), "dltensor_versioned", "used_dltensor_versioned");
  }
  PE_CHECK(PyCapsule_IsValid(capsule.ptr(), "dltensor"), Value,
           "from_dlpack: the capsule was already consumed or is not a DLPack tensor");
  return consume<DLManagedTensor>(capsule.ptr(), "dltensor", "used_dltensor");
}

}  // namespace

void bind_dlpack(py::module_& m) {
  m.def("from_dlpack", from_dlpack, py::arg("ext_tensor"),
        "A tensor that shares memory with any object that has __dlpack__ (NumPy, PyTorch, JAX, ...).");
  m.def("_to_dlpack", to_dlpack, py::arg("input"), py::arg("stream"), py::arg("max_version"), py::arg("dl_device"),
        py::arg("copy"));
}

}  // namespace pe::bind
