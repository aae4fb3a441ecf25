#include "autograd/node.h"
#include "bind/define.h"
#include "bind/tensor_slots.h"
#include "ops/ops.h"

namespace py = pybind11;
using py::arg;

namespace pe::bind {

namespace {

// y = f(input), Tensor.f(), and Tensor.f_(), which overwrites its tensor.
void define_unary(Define& define, UnaryOp op, const std::string& name, const std::string& doc) {
  static std::vector<std::unique_ptr<std::string>> names;  // pybind11 keeps the pointers
  auto keep = [&](const std::string& text) { return names.emplace_back(std::make_unique<std::string>(text))->c_str(); };
  define.both(keep(name), [op](const Tensor& x) { return ops::unary(op, x); }, keep(doc));
  define.method(
      keep(name + "_"),
      [op](const Tensor& x) {
        ops::unary_(op, x);
        return x;
      },
      keep("In place: " + doc));
}

// f(input, other), Tensor.f(other), Tensor.f_(other)
void define_binary(Define& define, BinaryOp op, const char* name, const char* inplace_name, const char* doc) {
  auto f = [op](const Operand& a, const Operand& b) { return ops::binary(op, a.tensor, b.tensor); };
  define.function(name, f, doc, arg("input"), arg("other"));
  define.method(name, f, doc, arg("other"));
  if (inplace_name)
    define.method(
        inplace_name,
        [op](const Tensor& a, const Operand& b) {
          ops::binary_(op, a, b.tensor);
          return a;
        },
        doc, arg("other"));
}

Tensor scaled(const Operand& x, const std::optional<Scalar>& alpha) {
  return alpha && alpha->d != 1 ? ops::mul(x.tensor, ops::wrapped_number(*alpha)) : x.tensor;
}

// add and sub take alpha=
void define_sum(Define& define, BinaryOp op, const char* name, const char* inplace_name, const char* doc) {
  auto f = [op](const Operand& a, const Operand& b, const std::optional<Scalar>& alpha) {
    return ops::binary(op, a.tensor, scaled(b, alpha));
  };
  define.function(name, f, doc, arg("input"), arg("other"), py::kw_only(), arg("alpha") = py::none());
  define.method(name, f, doc, arg("other"), py::kw_only(), arg("alpha") = py::none());
  define.method(
      inplace_name,
      [op](const Tensor& a, const Operand& b, const std::optional<Scalar>& alpha) {
        ops::binary_(op, a, scaled(b, alpha));
        return a;
      },
      doc, arg("other"), py::kw_only(), arg("alpha") = py::none());
}

void define_compare(Define& define, CompareOp op, const char* name, const char* long_name, const char* doc) {
  auto f = [op](const Operand& a, const Operand& b) { return ops::compare(op, a.tensor, b.tensor); };
  for (const char* n : {name, long_name}) {
    if (!n) continue;
    define.function(n, f, doc, arg("input"), arg("other"));
    define.method(n, f, doc, arg("other"));
  }
}

Tensor rounded_div(const Operand& a, const Operand& b, const std::optional<std::string>& mode) {
  if (!mode) return ops::div(a.tensor, b.tensor);
  if (*mode == "floor") return ops::floor_divide(a.tensor, b.tensor);
  PE_CHECK(*mode == "trunc", Value, "div: expected rounding_mode None, 'floor' or 'trunc', got '", *mode, "'");
  const DType t = ops::promote(a.tensor, b.tensor);
  return ops::to(ops::trunc(ops::div(ops::to(a.tensor, DType::Float64), ops::to(b.tensor, DType::Float64))), t);
}

Tensor logical(BinaryOp op, const Tensor& a, const Tensor& b) {
  return ops::binary(op, ops::to(ops::detach(a), DType::Bool), ops::to(ops::detach(b), DType::Bool));
}

}  // namespace

void bind_elementwise(py::module_& m) {
  Define define(m);

  const std::pair<UnaryOp, const char*> plain[] = {
      {UnaryOp::abs, "the absolute value"},
      {UnaryOp::neg, "-input"},
      {UnaryOp::sign, "-1, 0 or 1; 0 for NaN's gradient"},
      {UnaryOp::square, "input * input"},
      {UnaryOp::sqrt, "the square root"},
      {UnaryOp::rsqrt, "1 / sqrt(input)"},
      {UnaryOp::reciprocal, "1 / input"},
      {UnaryOp::exp, "e to the power of input"},
      {UnaryOp::exp2, "2 to the power of input"},
      {UnaryOp::expm1, "exp(input) - 1, accurate near 0"},
      {UnaryOp::log, "the natural logarithm"},
      {UnaryOp::log2, "the logarithm to base 2"},
      {UnaryOp::log10, "the logarithm to base 10"},
      {UnaryOp::log1p, "log(1 + input), accurate near 0"},
      {UnaryOp::sin, "the sine, of radians"},
      {UnaryOp::cos, "the cosine, of radians"},
      {UnaryOp::tan, "the tangent, of radians"},
      {UnaryOp::asin, "the inverse sine"},
      {UnaryOp::acos, "the inverse cosine"},
      {UnaryOp::atan, "the inverse tangent"},
      {UnaryOp::sinh, "the hyperbolic sine"},
      {UnaryOp::cosh, "the hyperbolic cosine"},
      {UnaryOp::tanh, "the hyperbolic tangent"},
      {UnaryOp::asinh, "the inverse hyperbolic sine"},
      {UnaryOp::acosh, "the inverse hyperbolic cosine"},
      {UnaryOp::atanh, "the inverse hyperbolic tangent"},
      {UnaryOp::erf, "the error function"},
      {UnaryOp::floor, "the largest integer not above input"},
      {UnaryOp::ceil, "the smallest integer not below input"},
      {UnaryOp::round, "the nearest integer; halves to the even one"},
      {UnaryOp::trunc, "input without its fraction"},
      {UnaryOp::relu, "max(input, 0)"},
      {UnaryOp::sigmoid, "1 / (1 + exp(-input))"},
  };
  static const char* const names[] = {
#define UNARY(name, ...) #name,
#include "kernels/unary.def"
#undef UNARY
  };
  for (const auto& [op, doc] : plain)
    define_unary(define, op, names[int(op)], std::string("Elementwise: ") + doc + ".");
  for (const UnaryOp op :
       {UnaryOp::relu6, UnaryOp::silu, UnaryOp::hardsigmoid, UnaryOp::hardswish, UnaryOp::log_sigmoid})
    define.function(
        names[int(op)], [op](const Tensor& x) { return ops::unary(op, x); },
        "Elementwise activation; see pyengine.nn.functional.", arg("input"));
  define_unary(define, UnaryOp::neg, "negative", "Elementwise: -input.");
  define_unary(define, UnaryOp::abs, "absolute", "Elementwise: the absolute value.");

  // Activations with parameters.
  define.function(
      "leaky_relu", [](const Tensor& x, double slope) { return ops::leaky_relu(x, slope); },
      "input where positive, else negative_slope * input.", arg("input"), arg("negative_slope") = 0.01);
  define.function(
      "elu", [](const Tensor& x, double alpha) { return ops::elu(x, alpha); },
      "input where positive, else alpha * (exp(input) - 1) (Clevert et al. 2015).", arg("input"), arg("alpha") = 1.0);
  define.function(
      "softplus", [](const Tensor& x, double beta, double threshold) { return ops::softplus(x, beta, threshold); },
      "log(1 + exp(beta * input)) / beta; input itself where beta * input > threshold.", arg("input"),
      arg("beta") = 1.0, arg("threshold") = 20.0);
  define.function(
      "gelu",
      [](const Tensor& x, const std::string& approximate) {
        if (approximate == "none") return ops::gelu(x);
        PE_CHECK(approximate == "tanh", Value, "gelu: expected approximate 'none' or 'tanh', got '", approximate, "'");
        return ops::gelu_tanh(x);
      },
      "input * Phi(input), Phi the normal distribution function; 'tanh' approximates it (Hendrycks, Gimpel 2016).",
      arg("input"), py::kw_only(), arg("approximate") = "none");
  define.function(
      "hardtanh", [](const Tensor& x, double low, double high) { return ops::hardtanh(x, low, high); },
      "input held within [min_val, max_val].", arg("input"), arg("min_val") = -1.0, arg("max_val") = 1.0);

  define_sum(define, BinaryOp::add, "add", "add_", "input + alpha * other; shapes broadcast, dtypes promote.");
  define_sum(define, BinaryOp::sub, "sub", "sub_", "input - alpha * other.");
  define_binary(define, BinaryOp::mul, "mul", "mul_", "input * other.");
  define_binary(define, BinaryOp::mul, "multiply", "multiply_", "input * other.");
  define_binary(define, BinaryOp::maximum, "maximum", nullptr, "The larger of the two; NaN if either is.");
  define_binary(define, BinaryOp::minimum, "minimum", nullptr, "The smaller of the two; NaN if either is.");
  define_binary(define, BinaryOp::remainder, "remainder", "remainder_",
                "The remainder with the divisor's sign, as Python's %.");
  define_binary(define, BinaryOp::fmod, "fmod", "fmod_", "The remainder with the dividend's sign, as C's fmod.");
  define_binary(define, BinaryOp::floor_divide, "floor_divide", "floor_divide_",
                "The quotient rounded down, as Python's //.");
  define_binary(define, BinaryOp::atan2, "atan2", "atan2_", "The angle of the point (other, input), in radians.");
  define_binary(define, BinaryOp::bitwise_and, "bitwise_and", "bitwise_and_", "input & other, of integers or bools.");
  define_binary(define, BinaryOp::bitwise_or, "bitwise_or", "bitwise_or_", "input | other, of integers or bools.");
  define_binary(define, BinaryOp::bitwise_xor, "bitwise_xor", "bitwise_xor_", "input ^ other, of integers or bools.");
  define.function("div", rounded_div, "input / other; integers give floats unless rounding_mode is 'floor' or 'trunc'.",
                  arg("input"), arg("other"), py::kw_only(), arg("rounding_mode") = py::none());
  define.method("div", rounded_div, "input / other.", arg("other"), py::kw_only(), arg("rounding_mode") = py::none());
  define_binary(define, BinaryOp::div, "true_divide", "div_", "input / other.");
  auto power = [](const Operand& a, const Operand& b) { return power_of(a.tensor, b.tensor); };
  define.function("pow", power, "input to the power of exponent.", arg("input"), arg("exponent"));
  define.method("pow", power, "input to the power of exponent.", arg("exponent"));
  define.method(
      "pow_",
      [](const Tensor& a, const Operand& b) {
        ops::binary_(BinaryOp::pow, a, b.tensor);
        return a;
      },
      "In place: input to the power of exponent.", arg("exponent"));

  define_compare(define, CompareOp::eq, "eq", nullptr, "input == other, bool.");
  define_compare(define, CompareOp::ne, "ne", "not_equal", "input != other, bool.");
  define_compare(define, CompareOp::lt, "lt", "less", "input < other, bool.");
  define_compare(define, CompareOp::le, "le", "less_equal", "input <= other, bool.");
  define_compare(define, CompareOp::gt, "gt", "greater", "input > other, bool.");
  define_compare(define, CompareOp::ge, "ge", "greater_equal", "input >= other, bool.");

  define.both("isnan", [](const Tensor& x) { return ops::unary_test(UnaryTest::isnan, x); }, "True where NaN.");
  define.both("isinf", [](const Tensor& x) { return ops::unary_test(UnaryTest::isinf, x); }, "True where infinite.");
  define.both(
      "isfinite", [](const Tensor& x) { return ops::unary_test(UnaryTest::isfinite, x); },
      "True where neither infinite nor NaN.");
  define.both(
      "logical_not", [](const Tensor& x) { return ops::unary_test(UnaryTest::logical_not, x); },
      "True where input is 0.");
  define.both("bitwise_not", [](const Tensor& x) { return ops::bitwise_not(x); }, "~input, of integers or bools.");
  define.both(
      "logical_and", [](const Tensor& a, const Tensor& b) { return logical(BinaryOp::bitwise_and, a, b); },
      "True where both are not 0.", arg("other"));
  define.both(
      "logical_or", [](const Tensor& a, const Tensor& b) { return logical(BinaryOp::bitwise_or, a, b); },
      "True where either is not 0.", arg("other"));
  define.both(
      "logical_xor", [](const Tensor& a, const Tensor& b) { return logical(BinaryOp::bitwise_xor, a, b); },
      "True where one is not 0.", arg("other"));

  auto clamp = [](const Tensor& x, const py::object& low, const py::object& high) {
    if (is_tensor(low.ptr()) || is_tensor(high.ptr())) {
      Tensor y = x;
      if (!low.is_none()) y = ops::maximum(y, low.cast<Operand>().tensor);
      if (!high.is_none()) y = ops::minimum(y, high.cast<Operand>().tensor);
      return y;
    }
    auto bound = [](const py::object& o) { return o.is_none() ? ops::OptScalar() : ops::OptScalar(o.cast<Scalar>()); };
    return ops::clamp(x, bound(low), bound(high));
  };
  for (const char* name : {"clamp", "clip"})
    define.both(name, clamp, "input held within [min, max]; numbers, tensors or None.", arg("min") = py::none(),
                arg("max") = py::none());
  define.method(
      "clamp_",
      [clamp](const Tensor& x, const py::object& low, const py::object& high) {
        ops::check_inplace(x, "clamp_");
        ops::assign_inplace(x, clamp(requires_grad(x) ? ops::clone(x) : x, low, high),
                            "clamp_");  // its gradient reads x
        return x;
      },
      "In place: held within [min, max].", arg("min") = py::none(), arg("max") = py::none());
  define.function(
      "where", [](const Tensor& c, const Operand& a, const Operand& b) { return ops::where(c, a.tensor, b.tensor); },
      "input where condition, else other; where(condition) alone gives the positions of the true elements.",
      arg("condition"), arg("input"), arg("other"));
  define.function(
      "where", [](const Tensor& c) { return py::tuple(py::cast(ops::unbind(ops::nonzero(c), 1))); }, "",
      arg("condition"));
  define.method(
      "where", [](const Tensor& a, const Tensor& c, const Operand& b) { return ops::where(c, a, b.tensor); },
      "self where condition, else other.", arg("condition"), arg("other"));
  define.both(
      "masked_fill",
      [](const Tensor& x, const Tensor& mask, const Operand& value) { return ops::masked_fill(x, mask, value.tensor); },
      "value where mask is true, else input.", arg("mask"), arg("value"));
  define.method(
      "masked_fill_",
      [](const Tensor& x, const Tensor& mask, const Operand& value) {
        ops::check_inplace(x, "masked_fill_");
        ops::assign_inplace(x, ops::masked_fill(x, mask, value.tensor), "masked_fill_");
        return x;
      },
      "In place: value where mask is true.", arg("mask"), arg("value"));
  define.both(
      "lerp", [](const Tensor& a, const Tensor& b, const Operand& w) { return ops::lerp(a, b, w.tensor); },
      "input + weight * (end - input).", arg("end"), arg("weight"));
  define.method(
      "lerp_",
      [](const Tensor& a, const Tensor& b, const Operand& w) {
        ops::check_inplace(a, "lerp_");
        ops::assign_inplace(a, ops::lerp(a, b, w.tensor), "lerp_");
        return a;
      },
      "In place: self + weight * (end - self).", arg("end"), arg("weight"));
  auto addcmul = [](const Tensor& x, const Tensor& a, const Tensor& b, double value) {
    return ops::add(x, ops::mul(ops::mul(a, b), ops::wrapped_number(value)));
  };
  auto addcdiv = [](const Tensor& x, const Tensor& a, const Tensor& b, double value) {
    return ops::add(x, ops::mul(ops::div(a, b), ops::wrapped_number(value)));
  };
  define.both("addcmul", addcmul, "input + value * tensor1 * tensor2.", arg("tensor1"), arg("tensor2"), py::kw_only(),
              arg("value") = 1.0);
  define.both("addcdiv", addcdiv, "input + value * tensor1 / tensor2.", arg("tensor1"), arg("tensor2"), py::kw_only(),
              arg("value") = 1.0);
  define.method(
      "addcmul_",
      [addcmul](const Tensor& x, const Tensor& a, const Tensor& b, double value) {
        ops::assign_inplace(x, addcmul(x, a, b, value), "addcmul_");
        return x;
      },
      "In place: self + value * tensor1 * tensor2.", arg("tensor1"), arg("tensor2"), py::kw_only(), arg("value") = 1.0);
  define.method(
      "addcdiv_",
      [addcdiv](const Tensor& x, const Tensor& a, const Tensor& b, double value) {
        ops::assign_inplace(x, addcdiv(x, a, b, value), "addcdiv_");
        return x;
      },
      "In place: self + value * tensor1 / tensor2.", arg("tensor1"), arg("tensor2"), py::kw_only(), arg("value") = 1.0);
}

}  // namespace pe::bind
