#include "autograd/node.h"
#include "bind/define.h"
#include "ops/ops.h"

namespace py = pybind11;
using py::arg;
using py::kw_only;

namespace pe::bind {

Tensor finish(const Tensor& x, bool requires_grad) {
  if (requires_grad) set_requires_grad(x, true);
  return x;
}

void check_device(const py::object& device) {
  Device d;
  if (!device.is_none())
    PE_CHECK(to_device(device.ptr(), d), Type, "device: expected a device or a string, got ",
             Py_TYPE(device.ptr())->tp_name);
}

namespace {

DType or_default(const OptDType& dtype) { return dtype ? *dtype : default_dtype(); }

// zeros(2, 3), zeros((2, 3)), zeros(size=(2, 3)), with dtype, device, requires_grad
struct Creation {
  Dims shape;
  DType dtype;
  bool requires_grad;
};

Creation creation(const char* op, const py::args& args, const py::kwargs& kwargs) {
  Creation c{{}, default_dtype(), false};
  bool sized = false;
  for (const auto& [key, value] : kwargs) {
    const std::string name = py::cast<std::string>(key);
    if (name == "dtype") {
      if (!value.is_none())
        PE_CHECK(to_dtype(value.ptr(), c.dtype), Type, op, ": expected a dtype, got ", std::string(py::repr(value)));
    } else if (name == "device") {
      check_device(py::reinterpret_borrow<py::object>(value));
    } else if (name == "requires_grad") {
      c.requires_grad = value.cast<bool>();
    } else if (name == "size" || name == "shape") {
      PE_CHECK(to_dims(value.ptr(), c.shape), Type, op, ": expected a size of integers, got ",
               std::string(py::repr(value)));
      sized = true;
    } else {
      PE_CHECK(name == "generator" || name == "memory_format" || name == "layout" || name == "pin_memory" ||
                   name == "names" || name == "out",
               Type, op, ": unexpected keyword argument '", name, "'");
      PE_CHECK(name == "generator" || value.is_none() || (name == "pin_memory" && !value.cast<bool>()) ||
                   name == "memory_format",
               Value, op, ": ", name, " is not supported");
    }
  }
  if (!sized) c.shape = dims_of(args, op);
  return c;
}

py::object generator_in(const py::kwargs& kwargs) {
  return kwargs.contains("generator") ? py::object(kwargs["generator"]) : py::none();
}

template <class Fill>
void define_filled(Define& define, const char* name, const char* doc, const Fill& fill) {
  define.function(
      name,
      [name, fill](const py::args& args, const py::kwargs& kwargs) {
        const Creation c = creation(name, args, kwargs);
        return finish(fill(c, kwargs), c.requires_grad);
      },
      doc);
}

template <class Fill>
void define_like(Define& define, const char* name, const char* doc, const Fill& fill) {
  define.function(
      name,
      [fill](const Tensor& x, OptDType dtype, const py::object& device, bool requires_grad, const py::object&) {
        check_device(device);
        const Tensor y = empty_like(x, dtype.value_or(x.dtype()));
        const GradMode off(false);
        fill(y);
        return finish(y, requires_grad);
      },
      doc, arg("input"), kw_only(), arg("dtype") = py::none(), arg("device") = py::none(), arg("requires_grad") = false,
      arg("memory_format") = py::none());
}

}  // namespace

void bind_create(py::module_& m) {
  Define define(m);

  define_filled(define, "empty",
                "empty(*size, dtype=None, device=None, requires_grad=False): an uninitialized tensor. dtype defaults "
                "to get_default_dtype().",
                [](const Creation& c, const py::kwargs&) { return empty(c.shape, c.dtype); });
  define_filled(define, "zeros", "zeros(*size, dtype=None, device=None, requires_grad=False): a tensor of zeros.",
                [](const Creation& c, const py::kwargs&) { return ops::full(c.shape, 0, c.dtype); });
  define_filled(define, "ones", "ones(*size, dtype=None, device=None, requires_grad=False): a tensor of ones.",
                [](const Creation& c, const py::kwargs&) { return ops::full(c.shape, 1, c.dtype); });
  define_filled(define, "rand",
                "rand(*size, generator=None, dtype=None, device=None, requires_grad=False): uniform numbers on [0, 1).",
                [](const Creation& c, const py::kwargs& k) {
                  return ops::rand(c.shape, c.dtype, generator_of(generator_in(k)));
                });
  define_filled(define, "randn",
                "randn(*size, generator=None, dtype=None, device=None, requires_grad=False): standard normal numbers.",
                [](const Creation& c, const py::kwargs& k) {
                  return ops::randn(c.shape, c.dtype, generator_of(generator_in(k)));
                });

  define_like(define, "empty_like", "An uninitialized tensor of input's shape and layout.", [](const Tensor&) {});
  define_like(define, "zeros_like", "Zeros of input's shape and layout.", [](const Tensor& y) { ops::fill_(y, 0); });
  define_like(define, "ones_like", "Ones of input's shape and layout.", [](const Tensor& y) { ops::fill_(y, 1); });
  define_like(define, "rand_like", "Uniform numbers on [0, 1) of input's shape.",
              [](const Tensor& y) { ops::uniform_into(y, 0, 1, default_generator()); });
  define_like(define, "randn_like", "Standard normal numbers of input's shape.",
              [](const Tensor& y) { ops::normal_into(y, 0, 1, default_generator()); });

  define.function(
      "full",
      [](const Dims& size, Scalar value, OptDType dtype, const py::object& device, bool requires_grad) {
        check_device(device);
        return finish(ops::full(size, value, dtype.value_or(value.default_dtype())), requires_grad);
      },
      "A tensor of one value; dtype defaults to the value's kind.", arg("size"), arg("fill_value"), kw_only(),
      arg("dtype") = py::none(), arg("device") = py::none(), arg("requires_grad") = false);
  define.function(
      "full_like",
      [](const Tensor& x, Scalar value, OptDType dtype, const py::object& device, bool requires_grad) {
        check_device(device);
        const Tensor y = empty_like(x, dtype.value_or(x.dtype()));
        ops::copy_into(y, ops::scalar_tensor(value, y.dtype()));
        return finish(y, requires_grad);
      },
      "A tensor of one value with input's shape, layout and dtype.", arg("input"), arg("fill_value"), kw_only(),
      arg("dtype") = py::none(), arg("device") = py::none(), arg("requires_grad") = false);

  auto arange = [](Scalar start, Scalar end, Scalar step, OptDType dtype, const py::object& device,
                   bool requires_grad) {
    check_device(device);
    const bool floating = start.kind == Scalar::Float || end.kind == Scalar::Float || step.kind == Scalar::Float;
    return finish(ops::arange(start, end, step, dtype.value_or(floating ? default_dtype() : DType::Int64)),
                  requires_grad);
  };
  define.function(
      "arange",
      [arange](Scalar end, OptDType dtype, const py::object& device, bool rg) {
        return arange(0, end, 1, dtype, device, rg);
      },
      "arange(end) or arange(start, end, step=1): start, start + step, ... below end; int64 for integers, else the "
      "default dtype.",
      arg("end"), kw_only(), arg("dtype") = py::none(), arg("device") = py::none(), arg("requires_grad") = false);
  define.function("arange", arange, "", arg("start"), arg("end"), arg("step") = 1, kw_only(), arg("dtype") = py::none(),
                  arg("device") = py::none(), arg("requires_grad") = false);
  define.function(
      "linspace",
      [](double start, double end, int64_t steps, OptDType dtype, const py::object& device, bool requires_grad) {
        check_device(device);
        return finish(ops::linspace(start, end, steps, or_default(dtype)), requires_grad);
      },
      "`steps` numbers evenly spaced from start to end, both included.", arg("start"), arg("end"), arg("steps"),
      kw_only(), arg("dtype") = py::none(), arg("device") = py::none(), arg("requires_grad") = false);
  define.function(
      "eye",
      [](int64_t n, std::optional<int64_t> cols, OptDType dtype, const py::object& device, bool requires_grad) {
        check_device(device);
        return finish(ops::eye(n, cols.value_or(n), or_default(dtype)), requires_grad);
      },
      "An n × m matrix with ones on the diagonal.", arg("n"), arg("m") = py::none(), kw_only(),
      arg("dtype") = py::none(), arg("device") = py::none(), arg("requires_grad") = false);

  auto randint = [](int64_t low, int64_t high, const Dims& size, OptDType dtype, const py::object& generator,
                    const py::object& device) {
    check_device(device);
    return ops::randint(low, high, size, dtype.value_or(DType::Int64), generator_of(generator));
  };
  define.function(
      "randint",
      [randint](int64_t high, const Dims& size, OptDType dtype, const py::object& generator, const py::object& device) {
        return randint(0, high, size, dtype, generator, device);
      },
      "randint(high, size) or randint(low, high, size): integers from [low, high), int64.", arg("high"), arg("size"),
      kw_only(), arg("dtype") = py::none(), arg("generator") = py::none(), arg("device") = py::none());
  define.function("randint", randint, "", arg("low"), arg("high"), arg("size"), kw_only(), arg("dtype") = py::none(),
                  arg("generator") = py::none(), arg("device") = py::none());
  define.function(
      "randperm",
      [](int64_t n, const py::object& generator, OptDType dtype, const py::object& device) {
        check_device(device);
        return ops::randperm(n, dtype.value_or(DType::Int64), generator_of(generator));
      },
      "The integers below n in random order.", arg("n"), kw_only(), arg("generator") = py::none(),
      arg("dtype") = py::none(), arg("device") = py::none());
  define.function(
      "normal",
      [](double mean, double std, const Dims& size, const py::object& generator, OptDType dtype) {
        const Tensor y = empty(size, or_default(dtype));
        ops::normal_into(y, mean, std, generator_of(generator));
        return y;
      },
      "Normal numbers of a given mean and standard deviation.", arg("mean"), arg("std"), arg("size"), kw_only(),
      arg("generator") = py::none(), arg("dtype") = py::none());
  define.both(
      "bernoulli",
      [](const Tensor& p, const py::object& generator) { return ops::bernoulli(p, generator_of(generator)); },
      "1 with the probability that each element of input gives, else 0.", kw_only(), arg("generator") = py::none());
  define.both(
      "multinomial",
      [](const Tensor& weights, int64_t samples, bool replacement, const py::object& generator) {
        return ops::multinomial(weights, samples, replacement, generator_of(generator));
      },
      "int64 positions drawn from each row in proportion to its weights.", arg("num_samples"),
      arg("replacement") = false, kw_only(), arg("generator") = py::none());

  m.def("get_default_dtype", &default_dtype, "The dtype of new floating point tensors.");
  m.def("set_default_dtype", &set_default_dtype, arg("d"),
        "Sets the dtype of new floating point tensors: float32 or float64.");
  m.def(
      "promote_types", [](DType a, DType b) { return ops::promote(a, b); }, arg("type1"), arg("type2"),
      "The dtype in which two dtypes meet.");
  m.def(
      "result_type", [](const Operand& a, const Operand& b) { return ops::promote(a.tensor, b.tensor); },
      arg("tensor1"), arg("tensor2"), "The dtype of an arithmetic result of two tensors or numbers.");
}

}  // namespace pe::bind
