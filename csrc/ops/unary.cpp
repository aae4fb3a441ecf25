#include <algorithm>
#include <cmath>

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/batch_norm.h"
#include "ops/elementwise.h"
#include "ops/masked_gradient.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

enum Saves { NOTHING, INPUT, OUTPUT };

struct Row {
  const char* name;
  Saves saves;
  Tensor (*gradient)(const Tensor& dy, const Tensor& s, double p0, double p1);  // the table's backward over tensors
};

// What the formulas need besides the functions of the table itself, over tensors.
namespace formula {

Tensor number(const Tensor& like, double v) { return scalar_tensor(v, like.dtype()); }
Tensor operator+(const Tensor& a, const Tensor& b) { return ops::add(a, b); }
[[maybe_unused]] Tensor operator-(const Tensor& a, const Tensor& b) { return ops::sub(a, b); }
Tensor operator*(const Tensor& a, const Tensor& b) { return ops::mul(a, b); }
Tensor operator/(const Tensor& a, const Tensor& b) { return ops::div(a, b); }
Tensor operator+(const Tensor& a, double b) { return ops::add(a, number(a, b)); }
Tensor operator-(double a, const Tensor& b) { return ops::sub(number(b, a), b); }
Tensor operator-(const Tensor& a, double b) { return ops::sub(a, number(a, b)); }
Tensor operator*(const Tensor& a, double b) { return ops::mul(a, number(a, b)); }
Tensor operator/(const Tensor& a, double b) { return ops::div(a, number(a, b)); }
Tensor operator-(const Tensor& a) { return ops::neg(a); }
Tensor operator<(const Tensor& a, double b) { return ops::compare(CompareOp::lt, a, number(a, b)); }
Tensor operator>(const Tensor& a, double b) { return ops::compare(CompareOp::gt, a, number(a, b)); }
Tensor select(const Tensor& m, const Tensor& a, const Tensor& b) { return ops::where(m, a, b); }
Tensor select(const Tensor& m, double a, const Tensor& b) { return ops::where(m, number(b, a), b); }
Tensor select(const Tensor& m, const Tensor& a, double b) { return ops::where(m, a, number(a, b)); }

Tensor gelu_slope(const Tensor& x) { return ndtr(x) + x * exp(x * x * -0.5) * 0.398942280401432677940; }

#define UNARY(name, saves, forward, backward)                                                 \
  Tensor name##_gradient([[maybe_unused]] const Tensor& dy, [[maybe_unused]] const Tensor& s, \
                         [[maybe_unused]] double p0, [[maybe_unused]] double p1) {            \
    return backward;                                                                          \
  }
#include "kernels/unary.def"
#undef UNARY

}  // namespace formula

const Row kRows[] = {
#define UNARY(name, saves, forward, backward) {#name, saves, formula::name##_gradient},
#include "kernels/unary.def"
#undef UNARY
};

// Ops whose result on integers is an integer; the others make float32 of them.
bool keeps_integers(UnaryOp op) {
  switch (op) {
    case UnaryOp::abs:
    case UnaryOp::neg:
    case UnaryOp::sign:
    case UnaryOp::square:
    case UnaryOp::floor:
    case UnaryOp::ceil:
    case UnaryOp::round:
    case UnaryOp::trunc:
    case UnaryOp::clamp: return true;
    default: return false;
  }
}

}  // namespace

Tensor unary(UnaryOp op, const Tensor& input, double p0, double p1) {
  const Row& row = kRows[int(op)];
  Tensor x = input;
  if (!is_floating(x.dtype())) {
    PE_CHECK(x.dtype() != DType::Bool || !keeps_integers(op), Type, row.name, ": not defined for bool tensors");
    if (!keeps_integers(op)) x = to(x, default_dtype());
  }
  const double params[2] = {p0, p1};
  Tensor y = op == UnaryOp::relu ? relu_of_deferred_norm(x) : Tensor();
  const bool after_norm = y.defined();
  if (!after_norm) {
    y = empty_like(x);
    kernels().unary(op, x.dtype(), make_loop({&y, &x}), params, x.data(), y.data());
  }
  if (!recording(x)) return y;

  auto backward = [op, p0, p1, after_norm, &row](const Backward& b, const Tensor& s) {
    const Tensor& dy = b.dy[0];
    if (b.create_graph()) return Grads{row.gradient(dy, s, p0, p1)};
    if (after_norm && dy.strides() == s.strides() && dy.is_dense()) return Grads{masked_gradient(dy, s)};
    const double params[2] = {p0, p1};
    const Tensor& saved = s.defined() ? s : dy;
    const Tensor dx = elementwise_output(dy.shape(), dy.dtype(), {&saved, &dy});
    kernels().unary_backward(op, dy.dtype(), make_loop({&dx, &dy, &saved}), params, dy.data(), saved.data(), dx.data());
    return Grads{dx};
  };
  switch (row.saves) {
    case NOTHING: record(row.name, y, {x}, [backward](const Backward& b) { return backward(b, Tensor()); }); break;
    case INPUT:
      record(row.name, y, {x}, [backward, x = Saved(x)](const Backward& b) { return backward(b, x.get(b.node)); });
      break;
    case OUTPUT:
      record(row.name, y, {x},
             [backward, y = SavedOutput(y)](const Backward& b) { return backward(b, y.get(b.node)); });
      break;
  }
  return y;
}

Tensor unary_test(UnaryTest test, const Tensor& x) {
  const Tensor y = empty_like(x, DType::Bool);
  kernels().unary_test(test, x.dtype(), make_loop({&y, &x}), x.data(), y.data());
  return y;
}

Tensor bitwise_not(const Tensor& x) {
  if (x.dtype() == DType::Bool) return unary_test(UnaryTest::logical_not, x);
  PE_CHECK(is_integral(x.dtype()), Type, "bitwise_not: expected an integer or bool tensor, got ",
           dtype_name(x.dtype()));
  return bitwise_xor(x, scalar_tensor(-1, x.dtype()));
}

Tensor clamp(const Tensor& x, OptScalar low, OptScalar high) {
  PE_CHECK(low || high, Value, "clamp: at least one of 'min' or 'max' must not be None");
  const bool to_float =
      !is_floating(x.dtype()) && ((low && low->kind == Scalar::Float) || (high && high->kind == Scalar::Float));
  const double top = high ? high->d : INFINITY;
  return unary(UnaryOp::clamp, to_float ? to(x, default_dtype()) : x, std::min(low ? low->d : -INFINITY, top), top);
}

}  // namespace pe::ops
