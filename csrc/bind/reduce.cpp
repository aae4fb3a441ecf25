#include "bind/define.h"
#include "ops/ops.h"

namespace py = pybind11;
using py::arg;

namespace pe::bind {

namespace {

// (values, indices) as PyTorch's named tuple; the type is made once.
py::object values_indices(const ops::Pair& pair) {
  static PyObject* type = [] {
    return py::module_::import("collections")
        .attr("namedtuple")("ValuesIndices", py::make_tuple("values", "indices"))
        .release()
        .ptr();
  }();
  return py::handle(type)(std::get<0>(pair), std::get<1>(pair));
}

// NumPy's names for the same arguments, which PyTorch takes as well: x.sum(axis=0, keepdims=True), np.sum(x).
template <class F>
void define_axis_names(Define& define, const char* name, const F& f) {
  define.both(
      name,
      [f, name](const Tensor& x, const OptDims& axis, bool keepdims, OptDType dtype, const py::object& out) {
        PE_CHECK(out.is_none(), Value, name, ": out is not supported");
        return f(dtype ? ops::to(x, *dtype) : x, or_all(axis), keepdims);
      },
      "", py::kw_only(), arg("axis"), arg("keepdims") = false, arg("dtype") = py::none(), arg("out") = py::none());
}

template <class F>
void define_reduction(Define& define, const char* name, const F& f, const char* doc) {
  define.both(
      name, [f](const Tensor& x, const OptDims& dim, bool keepdim) { return f(x, or_all(dim), keepdim); }, doc,
      arg("dim") = py::none(), arg("keepdim") = false);
  define_axis_names(define, name, f);
}

// max() of everything, max(dim) with indices, max(other) elementwise.
template <class All, class Along, class Other>
void define_extreme(Define& define, const char* name, const char* doc, const All& all, const Along& along,
                    const Other& other) {
  define.both(name, [all](const Tensor& x) { return all(x); }, doc);
  define.both(
      name, [along](const Tensor& x, int64_t dim, bool keepdim) { return values_indices(along(x, dim, keepdim)); }, "",
      arg("dim"), arg("keepdim") = false);
  define.both(name, [other](const Tensor& x, const Tensor& y) { return other(x, y); }, "", arg("other"));
}

double correction_of(const py::object& unbiased, double correction) {
  return unbiased.is_none() ? correction : unbiased.cast<bool>() ? 1 : 0;
}

}  // namespace

void bind_reduce(py::module_& m) {
  Define define(m);
  auto with_dtype = [&](const char* name, auto f, const char* doc) {
    define.both(
        name,
        [f](const Tensor& x, const OptDims& dim, bool keepdim, OptDType dtype) {
          return f(x, or_all(dim), keepdim, dtype);
        },
        doc, arg("dim") = py::none(), arg("keepdim") = false, py::kw_only(), arg("dtype") = py::none());
    define_axis_names(define, name, [f](const Tensor& x, const Dims& axis, bool keepdims) {
      return f(x, axis, keepdims, OptDType());
    });
  };
  with_dtype(
      "sum", [](const Tensor& x, const Dims& d, bool k, OptDType t) { return ops::sum(x, d, k, t); },
      "The sum over dim (all by default); integers give int64.");
  with_dtype(
      "mean", [](const Tensor& x, const Dims& d, bool k, OptDType t) { return ops::mean(x, d, k, t); },
      "The mean over dim (all by default), of floats.");
  define_reduction(
      define, "prod", [](const Tensor& x, const Dims& d, bool k) { return ops::prod(x, d, k); },
      "The product over dim (all by default).");
  define_reduction(
      define, "amax", [](const Tensor& x, const Dims& d, bool k) { return ops::amax(x, d, k); },
      "The maximum over dim; ties share the gradient.");
  define_reduction(
      define, "amin", [](const Tensor& x, const Dims& d, bool k) { return ops::amin(x, d, k); },
      "The minimum over dim; ties share the gradient.");
  define_reduction(
      define, "any", [](const Tensor& x, const Dims& d, bool k) { return ops::any(x, d, k); },
      "True where any element over dim is not 0.");
  define_reduction(
      define, "all", [](const Tensor& x, const Dims& d, bool k) { return ops::all(x, d, k); },
      "True where all elements over dim are not 0.");
  define_reduction(
      define, "logsumexp", [](const Tensor& x, const Dims& d, bool k) { return ops::logsumexp(x, d, k); },
      "log(sum(exp(input))) over dim, without overflow.");
  define_extreme(
      define, "max", "max(): the maximum of all; max(dim, keepdim=False): (values, indices); max(other): elementwise.",
      [](const Tensor& x) { return ops::amax(x, {}, false); },
      [](const Tensor& x, int64_t d, bool k) { return ops::max(x, d, k); },
      [](const Tensor& x, const Tensor& y) { return ops::maximum(x, y); });
  define_extreme(
      define, "min", "min(): the minimum of all; min(dim, keepdim=False): (values, indices); min(other): elementwise.",
      [](const Tensor& x) { return ops::amin(x, {}, false); },
      [](const Tensor& x, int64_t d, bool k) { return ops::min(x, d, k); },
      [](const Tensor& x, const Tensor& y) { return ops::minimum(x, y); });
  define.both(
      "argmax", [](const Tensor& x, std::optional<int64_t> d, bool k) { return ops::argmax(x, d, k); },
      "The position of the maximum, the first of equals; int64.", arg("dim") = py::none(), arg("keepdim") = false);
  define.both(
      "argmin", [](const Tensor& x, std::optional<int64_t> d, bool k) { return ops::argmin(x, d, k); },
      "The position of the minimum, the first of equals; int64.", arg("dim") = py::none(), arg("keepdim") = false);
  define.both(
      "var",
      [](const Tensor& x, const OptDims& d, const py::object& unbiased, double c, bool k) {
        return ops::var(x, or_all(d), correction_of(unbiased, c), k);
      },
      "The variance over dim; the divisor is n - correction.", arg("dim") = py::none(), arg("unbiased") = py::none(),
      py::kw_only(), arg("correction") = 1.0, arg("keepdim") = false);
  define.both(
      "std",
      [](const Tensor& x, const OptDims& d, const py::object& unbiased, double c, bool k) {
        return ops::std(x, or_all(d), correction_of(unbiased, c), k);
      },
      "The standard deviation over dim; the divisor is n - correction.", arg("dim") = py::none(),
      arg("unbiased") = py::none(), py::kw_only(), arg("correction") = 1.0, arg("keepdim") = false);
  define.both(
      "norm",
      [](const Tensor& x, const py::object& p, const OptDims& d, bool k) {
        if (py::isinstance<py::str>(p))
          PE_CHECK(p.cast<std::string>() == "fro", Value, "norm: expected a number or 'fro', got ",
                   std::string(py::repr(p)));
        return ops::norm(x, p.is_none() || py::isinstance<py::str>(p) ? 2.0 : p.cast<double>(), or_all(d), k);
      },
      "The p-norm of the elements over dim (all by default).", arg("p") = 2.0, arg("dim") = py::none(),
      arg("keepdim") = false);
  define.both(
      "count_nonzero", [](const Tensor& x, const OptDims& d) { return ops::count_nonzero(x, or_all(d)); },
      "How many elements over dim are not 0.", arg("dim") = py::none());
  define.both(
      "cumsum", [](const Tensor& x, int64_t d, OptDType t) { return ops::cumsum(x, d, t); }, "Running sums along dim.",
      arg("dim"), py::kw_only(), arg("dtype") = py::none());
  define.both(
      "cumprod", [](const Tensor& x, int64_t d, OptDType t) { return ops::cumprod(x, d, t); },
      "Running products along dim.", arg("dim"), py::kw_only(), arg("dtype") = py::none());
  define.both(
      "sort",
      [](const Tensor& x, int64_t d, bool descending, bool) { return values_indices(ops::sort(x, d, descending)); },
      "(values, indices) in order along dim; always stable, NaN last.", arg("dim") = -1, arg("descending") = false,
      arg("stable") = true);
  define.both(
      "argsort",
      [](const Tensor& x, int64_t d, bool descending, bool) {
        return std::get<1>(ops::sort(ops::detach(x), d, descending));
      },
      "The indices that sort along dim.", arg("dim") = -1, arg("descending") = false, arg("stable") = true);
  define.both(
      "topk",
      [](const Tensor& x, int64_t k, int64_t d, bool largest, bool) {
        return values_indices(ops::topk(x, k, d, largest));
      },
      "(values, indices) of the k largest (or smallest) along dim, in order.", arg("k"), arg("dim") = -1,
      arg("largest") = true, arg("sorted") = true);
}

}  // namespace pe::bind
