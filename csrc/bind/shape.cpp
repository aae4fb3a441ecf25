#include "bind/define.h"
#include "ops/ops.h"

namespace py = pybind11;
using py::arg;

namespace pe::bind {

namespace {

// f(input, dims) as a function; Tensor.f(*dims) as a method.
template <class F>
void define_sizes(Define& define, const char* name, const char* arg_name, const F& f, const char* doc) {
  define.function(
      name, [f](const Tensor& x, const Dims& dims) { return f(x, dims); }, doc, arg("input"), arg(arg_name));
  define.method(
      name,
      [f, name, arg_name](const Tensor& x, const py::args& args, const py::kwargs& kwargs) {
        if (kwargs.size() == 1 && kwargs.contains(arg_name)) return f(x, kwargs[arg_name].cast<Dims>());
        PE_CHECK(kwargs.empty(), Type, name, ": unexpected keyword argument ", std::string(py::repr(kwargs)));
        return f(x, dims_of(args, name));
      },
      doc);
}

Tensors split(const Tensor& x, const py::object& sizes, int64_t dim) {
  if (py::isinstance<py::int_>(sizes)) return ops::split(x, sizes.cast<int64_t>(), dim);
  return ops::split(x, sizes.cast<Dims>(), dim);
}

Tensors tensor_list(const py::args& args) {
  if (args.size() == 1 && !is_tensor(args[0].ptr())) return args[0].cast<Tensors>();
  return args.cast<Tensors>();
}

}  // namespace

void bind_shape(py::module_& m) {
  Define define(m);

  define_sizes(
      define, "reshape", "shape", [](const Tensor& x, const Dims& d) { return ops::reshape(x, d); },
      "The same elements in another shape; one size may be -1. A view where memory allows, else a copy.");
  define.method(
      "view",
      [](const Tensor& x, const py::args& args) {
        DType t;
        if (args.size() == 1 && to_dtype(args[0].ptr(), t)) {
          PE_CHECK(t == x.dtype(), NotImplemented,
                   "view: reinterpreting the bytes of one dtype as another is not supported; use to()");
          return ops::view_as_is(x);
        }
        return ops::view(x, dims_of(args, "view"));
      },
      "The same elements in another shape. Where memory forbids a view, this copies (differentiably); PyTorch raises "
      "there. Convolution outputs are "
      "channels-last in memory, so x.view(N, -1) after one is such a copy.");
  define_sizes(
      define, "permute", "dims", [](const Tensor& x, const Dims& d) { return ops::permute(x, d); },
      "The dimensions in another order; a view.");
  define_sizes(
      define, "flip", "dims", [](const Tensor& x, const Dims& d) { return ops::flip(x, d); },
      "Reversed along dims; a copy.");
  define_sizes(
      define, "tile", "dims",
      [](const Tensor& x, Dims d) {
        while (d.size() < x.dim()) d.insert(0, 1);
        return ops::repeat(x, d);
      },
      "Repeated along each dimension, as NumPy's tile.");
  auto varargs = [&](const char* name, auto f, const char* doc) {
    define.method(name, [f, name](const Tensor& x, const py::args& args) { return f(x, dims_of(args, name)); }, doc);
  };
  varargs(
      "expand", [](const Tensor& x, const Dims& d) { return ops::expand(x, d); },
      "A view with dimensions of size 1 stretched; -1 keeps a size.");
  varargs(
      "repeat", [](const Tensor& x, const Dims& d) { return ops::repeat(x, d); },
      "Copied along each dimension that many times.");
  define.method(
      "expand_as", [](const Tensor& x, const Tensor& y) { return ops::expand(x, y.shape()); }, "expand(other.shape)",
      arg("other"));
  define.method(
      "view_as", [](const Tensor& x, const Tensor& y) { return ops::view(x, y.shape()); }, "view(other.shape)",
      arg("other"));
  define.method(
      "reshape_as", [](const Tensor& x, const Tensor& y) { return ops::reshape(x, y.shape()); }, "reshape(other.shape)",
      arg("other"));
  define.function(
      "broadcast_to", [](const Tensor& x, const Dims& d) { return ops::expand(x, d); },
      "A view of input stretched to size.", arg("input"), arg("size"));
  for (const char* name : {"transpose", "swapaxes"})
    define.both(
        name, [](const Tensor& x, int64_t a, int64_t b) { return ops::transpose(x, a, b); },
        "Two dimensions exchanged; a view.", arg("dim0"), arg("dim1"));
  define.both(
      "t",
      [](const Tensor& x) {
        PE_CHECK(x.dim() <= 2, Shape, "t: expected at most 2 dimensions, got shape ", x.shape());
        return x.dim() == 2 ? ops::transpose(x, 0, 1) : x;
      },
      "The transpose of a matrix; a view.");
  for (const char* name : {"movedim", "moveaxis"})
    define.both(
        name, [](const Tensor& x, const Dims& s, const Dims& d) { return ops::movedim(x, s, d); },
        "Dimensions moved to other places; a view.", arg("source"), arg("destination"));
  define.both(
      "squeeze", [](const Tensor& x, const OptDims& d) { return d ? ops::squeeze(x, *d) : ops::squeeze(x); },
      "Without dimensions of size 1 (all, or those of dim); a view.", arg("dim") = py::none());
  define.both(
      "unsqueeze", [](const Tensor& x, int64_t d) { return ops::unsqueeze(x, d); },
      "With a new dimension of size 1 at dim; a view.", arg("dim"));
  define.both(
      "flatten", [](const Tensor& x, int64_t a, int64_t z) { return ops::flatten(x, a, z); },
      "Dimensions start_dim to end_dim joined into one.", arg("start_dim") = 0, arg("end_dim") = -1);
  for (const char* name : {"ravel"})
    define.both(name, [](const Tensor& x) { return ops::reshape(x, {-1}); }, "All elements in one dimension.");
  define.both(
      "unflatten", [](const Tensor& x, int64_t d, const Dims& s) { return ops::unflatten(x, d, s); },
      "One dimension split into several.", arg("dim"), arg("sizes"));
  define.both(
      "narrow", [](const Tensor& x, int64_t d, int64_t s, int64_t n) { return ops::narrow(x, d, s, n); },
      "length elements from start along dim; a view.", arg("dim"), arg("start"), arg("length"));
  define.both(
      "select", [](const Tensor& x, int64_t d, int64_t i) { return ops::select(x, d, i); },
      "One index along dim; a view.", arg("dim"), arg("index"));
  define.both(
      "diagonal", [](const Tensor& x, int64_t o, int64_t a, int64_t b) { return ops::diagonal(x, o, a, b); },
      "The diagonal of two dimensions; a view.", arg("offset") = 0, arg("dim1") = 0, arg("dim2") = 1);
  define.both(
      "as_strided",
      [](const Tensor& x, const Dims& size, const Dims& stride, std::optional<int64_t> offset) {
        return ops::as_strided(x, size, stride, offset.value_or(x->offset));
      },
      "A view with these sizes and strides (in elements).", arg("size"), arg("stride"),
      arg("storage_offset") = py::none());
  define.both("split", split,
              "Parts of split_size (the last may be smaller), or of the listed sizes, along dim; views.",
              arg("split_size"), arg("dim") = 0);
  define.both(
      "chunk", [](const Tensor& x, int64_t n, int64_t d) { return ops::chunk(x, n, d); },
      "At most `chunks` equal parts along dim; views.", arg("chunks"), arg("dim") = 0);
  define.both(
      "unbind", [](const Tensor& x, int64_t d) { return ops::unbind(x, d); }, "The slices along dim; views.",
      arg("dim") = 0);
  define.both(
      "clone", [](const Tensor& x, const py::object&) { return ops::clone(x); }, "A copy that gradients flow through.",
      py::kw_only(), arg("memory_format") = py::none());
  define.both("detach", [](const Tensor& x) { return ops::detach(x); }, "The same memory without a link to the graph.");

  for (const char* name : {"cat", "concat", "concatenate"})
    define.function(
        name, [](const Tensors& t, int64_t d) { return ops::cat(t, d); },
        "The tensors joined along an existing dimension.", arg("tensors"), arg("dim") = 0);
  define.function(
      "stack", [](const Tensors& t, int64_t d) { return ops::stack(t, d); },
      "The tensors joined along a new dimension.", arg("tensors"), arg("dim") = 0);
  define.function(
      "pad",
      [](const Tensor& x, const Dims& p, const std::string& mode, std::optional<double> v) {
        return ops::pad(x, p, mode, v.value_or(0));
      },
      "input with borders: pairs of sizes, the last dimension first; negative ones crop. Modes: constant, reflect, "
      "replicate, circular.",
      arg("input"), arg("pad"), arg("mode") = "constant", arg("value") = py::none());
  define.both(
      "roll", [](const Tensor& x, const Dims& s, const OptDims& d) { return ops::roll(x, s, or_all(d)); },
      "Elements shifted around along dims.", arg("shifts"), arg("dims") = py::none());
  define.both(
      "repeat_interleave",
      [](const Tensor& x, int64_t n, std::optional<int64_t> d) { return ops::repeat_interleave(x, n, d); },
      "Each element repeated n times, along dim or flattened.", arg("repeats"), arg("dim") = py::none());

  define.both(
      "matmul", [](const Tensor& a, const Tensor& b) { return ops::matmul(a, b); },
      "The matrix product; leading dimensions are batches and broadcast.", arg("other"));
  auto checked = [](const char* name, int da, int db) {
    return [=](const Tensor& a, const Tensor& b) {
      PE_CHECK(a.dim() == da && b.dim() == db, Shape, name, ": expected ", da, " and ", db, " dimensions, got shapes ",
               a.shape(), " and ", b.shape());
      PE_CHECK(da != 3 || a.shape()[0] == b.shape()[0], Shape, name, ": expected equal batch sizes, got shapes ",
               a.shape(), " and ", b.shape());
      return ops::matmul(a, b);
    };
  };
  define.both("mm", checked("mm", 2, 2), "The product of two matrices.", arg("mat2"));
  define.both("bmm", checked("bmm", 3, 3), "The products of two batches of matrices.", arg("mat2"));
  define.both("mv", checked("mv", 2, 1), "A matrix times a vector.", arg("vec"));
  define.both("dot", checked("dot", 1, 1), "The inner product of two vectors.", arg("other"));
  define.both(
      "outer",
      [](const Tensor& a, const Tensor& b) {
        PE_CHECK(a.dim() == 1 && b.dim() == 1, Shape, "outer: expected two vectors, got shapes ", a.shape(), " and ",
                 b.shape());
        return ops::mul(ops::unsqueeze(a, 1), b);
      },
      "The outer product of two vectors.", arg("vec2"));
  define.both(
      "addmm",
      [](const Tensor& c, const Tensor& a, const Tensor& b, double beta, double alpha) {
        return ops::addmm(c, a, b, beta, alpha);
      },
      "beta * input + alpha * (mat1 @ mat2).", arg("mat1"), arg("mat2"), py::kw_only(), arg("beta") = 1.0,
      arg("alpha") = 1.0);
  define.function(
      "einsum",
      [](const std::string& equation, const py::args& operands) {
        return ops::einsum(equation, tensor_list(operands));
      },
      "einsum(equation, *operands): Einstein summation; operands are contracted from left to right.");

  define.both(
      "index_select", [](const Tensor& x, int64_t d, const Tensor& i) { return ops::index_select(x, d, i); },
      "The listed indices along dim; a copy.", arg("dim"), arg("index"));
  define.both(
      "gather", [](const Tensor& x, int64_t d, const Tensor& i) { return ops::gather(x, d, i); },
      "y[i][j] = input[index[i][j]][j] (dim 0), and so on.", arg("dim"), arg("index"));
  define.both(
      "take_along_dim", [](const Tensor& x, const Tensor& i, int64_t d) { return ops::gather(x, d, i); },
      "gather(dim, indices).", arg("indices"), arg("dim"));
  define.both(
      "scatter",
      [](const Tensor& x, int64_t d, const Tensor& i, const Operand& src) {
        return ops::scatter(
            x, d, i, src.tensor->wrapped_number ? ops::expand(ops::to(src.tensor, x.dtype()), i.shape()) : src.tensor);
      },
      "input with src written to the places that index names along dim.", arg("dim"), arg("index"), arg("src"));
  define.both(
      "scatter_add",
      [](const Tensor& x, int64_t d, const Tensor& i, const Tensor& s) { return ops::scatter_add(x, d, i, s); },
      "input with src added at the places that index names along dim.", arg("dim"), arg("index"), arg("src"));
  auto inplace = [&](const char* name, auto f, const char* doc, const auto&... extra) {
    define.method(name, f, doc, extra...);
  };
  inplace(
      "scatter_",
      [](const Tensor& x, int64_t d, const Tensor& i, const Operand& src) {
        const Tensor s =
            src.tensor->wrapped_number ? ops::expand(ops::to(src.tensor, x.dtype()), i.shape()) : src.tensor;
        ops::assign_inplace(x, ops::scatter(x, d, i, s), "scatter_");
        return x;
      },
      "In place: scatter.", arg("dim"), arg("index"), arg("src"));
  inplace(
      "scatter_add_",
      [](const Tensor& x, int64_t d, const Tensor& i, const Tensor& s) {
        ops::assign_inplace(x, ops::scatter_add(x, d, i, s), "scatter_add_");
        return x;
      },
      "In place: scatter_add.", arg("dim"), arg("index"), arg("src"));
  inplace(
      "index_put_",
      [](const Tensor& x, const std::vector<std::optional<Tensor>>& indices, const Tensor& v, bool accumulate) {
        ops::Indices list;
        for (const auto& i : indices) list.push_back(or_undefined(i));
        ops::index_put_(x, list, v, accumulate);
        return x;
      },
      "In place: x[indices] = values, or += where accumulate.", arg("indices"), arg("values"),
      arg("accumulate") = false);
  auto along = [](const Tensor& x, int64_t d, const Tensor& i) {
    ops::Indices list(size_t(wrap_dim(d, x.dim(), "index_add")) + 1);
    list.back() = i;
    return list;
  };
  define.both(
      "index_add",
      [along](const Tensor& x, int64_t d, const Tensor& i, const Tensor& s, double alpha) {
        return ops::index_put(x, along(x, d, i), alpha == 1 ? s : ops::mul(s, ops::wrapped_number(alpha)), true);
      },
      "input with alpha * source added at the listed indices along dim.", arg("dim"), arg("index"), arg("source"),
      py::kw_only(), arg("alpha") = 1.0);
  inplace(
      "index_add_",
      [along](const Tensor& x, int64_t d, const Tensor& i, const Tensor& s, double alpha) {
        ops::index_put_(x, along(x, d, i), alpha == 1 ? s : ops::mul(s, ops::wrapped_number(alpha)), true);
        return x;
      },
      "In place: index_add.", arg("dim"), arg("index"), arg("source"), py::kw_only(), arg("alpha") = 1.0);
  inplace(
      "index_fill_",
      [along](const Tensor& x, int64_t d, const Tensor& i, const Operand& v) {
        ops::index_put_(x, along(x, d, i), ops::to(v.tensor, x.dtype()), false);
        return x;
      },
      "In place: value at the listed indices along dim.", arg("dim"), arg("index"), arg("value"));
  define.both(
      "masked_select", [](const Tensor& x, const Tensor& mask) { return ops::masked_select(x, mask); },
      "The elements where mask is true, in one dimension.", arg("mask"));
  define.both(
      "nonzero",
      [](const Tensor& x, bool as_tuple) -> py::object {
        const Tensor p = ops::nonzero(x);
        if (!as_tuple) return py::cast(p);
        return py::tuple(py::cast(ops::unbind(p, 1)));
      },
      "The positions of elements that are not 0: (n, dim) int64, or a tuple of columns.", py::kw_only(),
      arg("as_tuple") = false);
  define.function(
      "one_hot", [](const Tensor& x, int64_t n) { return ops::one_hot(x, n); },
      "int64 indices (...) as rows (..., num_classes) of 0 and one 1; -1 infers the number.", arg("tensor"),
      arg("num_classes") = -1);
  define.both(
      "tril", [](const Tensor& x, int64_t k) { return ops::tril(x, k); },
      "The part on and below a diagonal; 0 elsewhere.", arg("diagonal") = 0);
  define.both(
      "triu", [](const Tensor& x, int64_t k) { return ops::triu(x, k); },
      "The part on and above a diagonal; 0 elsewhere.", arg("diagonal") = 0);
}

}  // namespace pe::bind
