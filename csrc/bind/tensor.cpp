// Sizes, conversions and in-place methods of Tensor.
#include "autograd/node.h"
#include "bind/define.h"
#include "ops/ops.h"

namespace py = pybind11;
using py::arg;

namespace pe::bind {

namespace {

py::object number_at(const void* data, DType t) {
  switch (t) {
    case DType::Bool: return py::bool_(*static_cast<const bool*>(data));
    case DType::UInt8: return py::int_(*static_cast<const uint8_t*>(data));
    case DType::Int32: return py::int_(*static_cast<const int32_t*>(data));
    case DType::Int64: return py::int_(*static_cast<const int64_t*>(data));
    case DType::Float32: return py::float_(double(*static_cast<const float*>(data)));
    case DType::Float64: return py::float_(*static_cast<const double*>(data));
  }
  return py::none();
}

py::object item(const Tensor& x) {
  PE_CHECK(x.numel() == 1, Runtime, "item: a tensor with ", x.numel(), " elements cannot be converted to a scalar");
  return number_at(x.data(), x.dtype());
}

py::object nested_list(const Tensor& x, int d, const char* data) {
  if (d == x.dim()) return number_at(data, x.dtype());
  py::list list;
  for (int64_t i = 0; i < x.shape()[d]; ++i)
    list.append(nested_list(x, d + 1, data + i * x.strides()[d] * int64_t(item_size(x.dtype()))));
  return list;
}

// to(dtype), to(device), to(device, dtype), to(other), all with copy= and the keywords dtype= and device=
Tensor to(const Tensor& x, const py::args& args, const py::kwargs& kwargs) {
  DType t = x.dtype();
  bool copy = false;
  auto take = [&](const py::handle& v) {
    Device device;
    if (v.is_none()) return;
    if (is_tensor(v.ptr()))
      t = unwrap(v.ptr()).dtype();
    else if (!to_dtype(v.ptr(), t) && !py::isinstance<py::bool_>(v))
      PE_CHECK(to_device(v.ptr(), device), Type, "to: expected a dtype, a device or a tensor, got ",
               std::string(py::repr(v)));
  };
  for (const py::handle& v : args) take(v);
  for (const auto& [key, value] : kwargs) {
    const std::string name = py::cast<std::string>(key);
    if (name == "dtype" || name == "device" || name == "other")
      take(value);
    else if (name == "copy")
      copy = value.cast<bool>();
    else
      PE_CHECK(name == "non_blocking" || name == "memory_format", Type, "to: unexpected keyword argument '", name, "'");
  }
  const Tensor y = ops::to(x, t);
  return copy && y.same(x) ? ops::clone(y) : y;
}

}  // namespace

void bind_tensor(py::module_& m) {
  Define define(m);
  m.def("is_tensor", [](const py::object& o) { return is_tensor(o.ptr()); }, arg("obj"), "True for tensors.");
  m.def(
      "is_floating_point", [](const Tensor& x) { return is_floating(x.dtype()); }, arg("input"),
      "True for float32 and float64.");
  m.def("numel", [](const Tensor& x) { return x.numel(); }, arg("input"), "The number of elements.");

  define.method(
      "size",
      [](const Tensor& x, const py::object& dim) -> py::object {
        if (dim.is_none()) return py::cast(x.shape());
        return py::cast(x.size(dim.cast<int64_t>()));
      },
      "The shape, or the size of one dimension.", arg("dim") = py::none());
  define.method(
      "stride",
      [](const Tensor& x, const py::object& dim) -> py::object {
        if (dim.is_none()) return py::tuple(py::cast(x.strides()));
        return py::cast(x.strides()[int(wrap_dim(dim.cast<int64_t>(), x.dim(), "stride"))]);
      },
      "The strides in elements, or one of them.", arg("dim") = py::none());
  for (const char* name : {"dim", "ndimension"})
    define.method(name, [](const Tensor& x) { return x.dim(); }, "The number of dimensions.");
  for (const char* name : {"numel", "nelement"})
    define.method(name, [](const Tensor& x) { return x.numel(); }, "The number of elements.");
  define.method("element_size", [](const Tensor& x) { return item_size(x.dtype()); }, "Bytes per element.");
  define.method(
      "storage_offset", [](const Tensor& x) { return x->offset; },
      "Where the first element stands in the memory, in elements.");
  define.method(
      "data_ptr", [](const Tensor& x) { return reinterpret_cast<uintptr_t>(x.data()); },
      "The address of the first element.");
  define.method(
      "is_contiguous",
      [](const Tensor& x, const py::object& format) {
        return format.is_none()                                         ? x.is_contiguous()
               : py::str(format).cast<std::string>() == "channels_last" ? x.is_channels_last()
                                                                        : x.is_contiguous();
      },
      "Whether memory is in row-major order (or N H W C for memory_format='channels_last').",
      arg("memory_format") = py::none());
  define.method(
      "contiguous",
      [](const Tensor& x, const py::object& format) {
        return !format.is_none() && py::str(format).cast<std::string>() == "channels_last" ? ops::channels_last(x)
                                                                                           : ops::contiguous(x);
      },
      "The tensor in row-major order; itself if it is already.", arg("memory_format") = py::none());
  define.method(
      "is_floating_point", [](const Tensor& x) { return is_floating(x.dtype()); }, "True for float32 and float64.");

  define.method("item", item, "The one element as a Python number.");
  define.method(
      "tolist", [](const Tensor& x) { return nested_list(x, 0, static_cast<const char*>(x.data())); },
      "The elements as nested lists of Python numbers.");
  define.method(
      "to", to,
      "to(dtype), to(device), to(other): the tensor in another dtype or on another device; itself if nothing changes.");
  const std::pair<const char*, DType> conversions[] = {{"float", DType::Float32}, {"double", DType::Float64},
                                                       {"long", DType::Int64},    {"int", DType::Int32},
                                                       {"bool", DType::Bool},     {"byte", DType::UInt8}};
  for (const auto& [name, t] : conversions)
    define.method(name, [t = t](const Tensor& x) { return ops::to(x, t); }, "The tensor in this dtype.");
  define.method(
      "type_as", [](const Tensor& x, const Tensor& y) { return ops::to(x, y.dtype()); }, "The tensor in other's dtype.",
      arg("other"));
  define.method("cpu", [](const Tensor& x) { return x; }, "The tensor on the CPU.");

  auto inplace = [&](const char* name, auto f, const char* doc, const auto&... extra) {
    define.method(name, f, doc, extra...);
  };
  inplace(
      "copy_",
      [](const Tensor& x, const Operand& source, bool) {
        ops::copy_(x, source.tensor);
        return x;
      },
      "In place: the elements of source, broadcast and converted.", arg("src"), arg("non_blocking") = false);
  inplace(
      "fill_",
      [](const Tensor& x, const Operand& v) {
        PE_CHECK(v.tensor.dim() == 0, Shape, "fill_: expected a number or a tensor without dimensions, got shape ",
                 v.tensor.shape());
        ops::copy_(x, v.tensor);
        return x;
      },
      "In place: one value everywhere.", arg("value"));
  inplace(
      "zero_",
      [](const Tensor& x) {
        ops::fill_(x, 0);
        return x;
      },
      "In place: zeros.");
  // Straight into x's memory; by way of a copy where x has a history, which the copy ends.
  auto write_random = [](const Tensor& x, const char* name, const auto& fill) {
    ops::check_inplace(x, name);
    if (grad_enabled() && requires_grad(x)) {
      const Tensor numbers = empty_like(x);
      fill(numbers);
      ops::copy_(x, numbers);
    } else {
      fill(x);
      ops::mark_written(x);
    }
    return x;
  };
  auto random = [&](const char* name, auto f, const char* doc, const auto&... extra) {
    define.method(
        name,
        [f, name, write_random](const Tensor& x, double a, double b, const py::object& generator) {
          return write_random(x, name, [&](const Tensor& y) { f(y, a, b, generator_of(generator)); });
        },
        doc, extra..., py::kw_only(), arg("generator") = py::none());
  };
  random("uniform_", ops::uniform_into, "In place: uniform numbers on [from, to).", arg("from") = 0.0, arg("to") = 1.0);
  random("normal_", ops::normal_into, "In place: normal numbers.", arg("mean") = 0.0, arg("std") = 1.0);
  inplace(
      "random_",
      [write_random](const Tensor& x, int64_t low, std::optional<int64_t> high, const py::object& generator) {
        return write_random(x, "random_", [&](const Tensor& y) {
          ops::random_into(y, high ? low : 0, high ? *high : low, generator_of(generator));
        });
      },
      "In place: integers from [from, to), or below from.", arg("from"), arg("to") = py::none(), py::kw_only(),
      arg("generator") = py::none());
  inplace(
      "bernoulli_",
      [](const Tensor& x, double p, const py::object& generator) {
        ops::check_inplace(x, "bernoulli_");
        ops::copy_(x, ops::bernoulli(ops::full(x.shape(), p, DType::Float32), generator_of(generator)));
        return x;
      },
      "In place: 1 with probability p, else 0.", arg("p") = 0.5, py::kw_only(), arg("generator") = py::none());

  m.def(
      "_make_subclass",
      [](const py::object& type, const Tensor& data, bool requires_grad) {
        PE_CHECK(PyType_Check(type.ptr()) && PyType_IsSubtype(reinterpret_cast<PyTypeObject*>(type.ptr()), TensorType),
                 Type, "_make_subclass: expected a subclass of Tensor, got ", std::string(py::repr(type)));
        const Tensor x = ops::detach(data);
        const py::object self =
            py::reinterpret_steal<py::object>(wrap_as(reinterpret_cast<PyTypeObject*>(type.ptr()), x));
        if (requires_grad) set_requires_grad(x, true);
        return self;
      },
      arg("cls"), arg("data"), arg("requires_grad") = false,
      "A tensor of a Python subclass that shares data's memory.");
}

}  // namespace pe::bind
