#include <algorithm>

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/batch_norm.h"
#include "ops/elementwise.h"
#include "ops/ops.h"

namespace pe::ops {

DType promote(DType a, DType b) {
  if (a == b) return a;
  // The dtypes are in promotion order, but uint8 and int32/int64 meet in the wider one, which is also the later one.
  return std::max(a, b);
}

namespace {

int category(DType t) { return t == DType::Bool ? 0 : is_integral(t) ? 1 : 2; }

// PyTorch's rule: tensors with dimensions decide; scalar tensors, then Python numbers, only when their category is
// higher.
int priority(const Tensor& x) { return x->wrapped_number ? 0 : x.dim() == 0 ? 1 : 2; }
DType weak_dtype(const Tensor& x) { return x->wrapped_number && is_floating(x.dtype()) ? default_dtype() : x.dtype(); }

}  // namespace

DType promote(const Tensor& a, const Tensor& b) {
  if (a.dtype() == b.dtype() && !a->wrapped_number && !b->wrapped_number) return a.dtype();
  const DType ta = weak_dtype(a), tb = weak_dtype(b);
  const int pa = priority(a), pb = priority(b);
  if (pa == pb) return promote(ta, tb);
  const DType strong = pa > pb ? ta : tb, weak = pa > pb ? tb : ta;
  return category(weak) > category(strong) ? weak : strong;
}

namespace {

const char* const kNames[] = {
#define BINARY(name, ...) #name,
#include "kernels/binary.def"
#undef BINARY
};

bool integers_only(BinaryOp op) {
  return op == BinaryOp::bitwise_and || op == BinaryOp::bitwise_or || op == BinaryOp::bitwise_xor ||
         op == BinaryOp::shift_left || op == BinaryOp::shift_right;
}

void check_integer_operands(BinaryOp op, const Tensor& a, const Tensor& b, DType t) {
  if (op == BinaryOp::remainder || op == BinaryOp::fmod || op == BinaryOp::floor_divide)
    PE_CHECK(b.numel() == 0 || *all(compare(CompareOp::ne, b, scalar_tensor(0, b.dtype())), {}, false).data_as<bool>(),
             Runtime, kNames[int(op)], ": integer division by zero");
  if (op == BinaryOp::pow && t != DType::UInt8 && b->wrapped_number)
    PE_CHECK(*to(b, DType::Int64).data_as<int64_t>() >= 0, Runtime,
             "pow: integers to negative integer powers are not allowed");
  (void)a;
}

// d a^b / d b = a^b log a, and 0 where a is 0 and b is not negative.
Tensor pow_gradient_exponent(const Tensor& dy, const Tensor& a, const Tensor& b, const Tensor& y) {
  const Tensor zero = scalar_tensor(0, y.dtype());
  const Tensor flat = bitwise_and(compare(CompareOp::eq, a, zero), compare(CompareOp::ge, b, zero));
  return where(flat, mul(dy, zero), mul(dy, mul(y, log(a))));
}

// The gradients in each operand's own broadcast shape; sum_to brings them back.
Grads gradients(BinaryOp op, const Backward& back, const Tensor& a, const Tensor& b, const Tensor& y) {
  const Tensor& dy = back.dy[0];
  const bool da = back.needed[0], db = back.needed[1];
  Grads g(2);
  auto masked = [&](const Tensor& m) {  // ties give half to each, as in PyTorch
    const Tensor tie = compare(CompareOp::eq, a, b), half = mul(dy, scalar_tensor(0.5, dy.dtype()));
    const Tensor zero = scalar_tensor(0, dy.dtype());
    if (da) g[0] = where(tie, half, where(m, dy, zero));
    if (db) g[1] = where(tie, half, where(m, zero, dy));
  };
  switch (op) {
    case BinaryOp::add:
      if (da) g[0] = dy;
      if (db) g[1] = dy;
      break;
    case BinaryOp::sub:
      if (da) g[0] = dy;
      if (db) g[1] = neg(dy);
      break;
    case BinaryOp::mul:
      if (da) g[0] = mul(dy, b);
      if (db) g[1] = mul(dy, a);
      break;
    case BinaryOp::div:
      if (da) g[0] = div(dy, b);
      if (db) g[1] = neg(div(mul(dy, div(a, b)), b));
      break;
    case BinaryOp::maximum: masked(compare(CompareOp::gt, a, b)); break;
    case BinaryOp::minimum: masked(compare(CompareOp::lt, a, b)); break;
    case BinaryOp::pow:
      if (da) {
        const Tensor one = scalar_tensor(1, b.dtype()), zero = scalar_tensor(0, b.dtype());
        const Tensor slope = mul(dy, mul(b, pow(a, sub(b, one))));
        g[0] = where(compare(CompareOp::eq, b, zero), scalar_tensor(0, dy.dtype()), slope);
      }
      if (db) g[1] = pow_gradient_exponent(dy, a, b, y);
      break;
    case BinaryOp::remainder:
      if (da) g[0] = dy;
      if (db) g[1] = neg(mul(dy, floor_divide(a, b)));
      break;
    case BinaryOp::fmod:
      if (da) g[0] = dy;
      if (db) g[1] = neg(mul(dy, trunc(div(a, b))));
      break;
    case BinaryOp::atan2: {
      const Tensor scaled = div(dy, add(square(a), square(b)));
      if (da) g[0] = mul(scaled, b);
      if (db) g[1] = neg(mul(scaled, a));
      break;
    }
    default:  // floor_divide: flat almost everywhere
      if (da) g[0] = mul(dy, scalar_tensor(0, dy.dtype()));
      if (db) g[1] = mul(dy, scalar_tensor(0, dy.dtype()));
  }
  return g;
}

}  // namespace

Tensor binary(BinaryOp op, const Tensor& a0, const Tensor& b0) {
  const char* name = kNames[int(op)];
  DType t = promote(a0, b0);
  if ((op == BinaryOp::div || op == BinaryOp::atan2) && !is_floating(t)) t = default_dtype();
  if (integers_only(op))
    PE_CHECK(!is_floating(t), Type, name, ": expected integer or bool tensors, got ", dtype_name(a0.dtype()), " and ",
             dtype_name(b0.dtype()));
  PE_CHECK(!(op == BinaryOp::sub && t == DType::Bool), Type,
           "sub: subtraction of bool tensors is not supported; use ^ or logical_not()");
  if (t == DType::Bool && (op == BinaryOp::pow || op == BinaryOp::remainder || op == BinaryOp::fmod ||
                           op == BinaryOp::floor_divide || op == BinaryOp::shift_left || op == BinaryOp::shift_right))
    t = DType::Int64;
  const Dims shape = broadcast_shapes(a0.shape(), b0.shape(), name);
  if (!is_floating(t)) check_integer_operands(op, a0, b0, t);
  const Tensor a = to(a0, t), b = to(b0, t);
  Tensor y = op == BinaryOp::add ? add_to_deferred_norm(a, b) : Tensor();
  if (!y.defined()) {
    y = elementwise_output(shape, t, {&a, &b});
    kernels().binary(op, t, make_loop({&y, &a, &b}), a.data(), b.data(), y.data());
  }
  if (!recording(a, b)) return y;

  // Only what the gradients read is kept alive.
  const bool reads = op != BinaryOp::add && op != BinaryOp::sub;
  const bool need_a =
      reads && !(op == BinaryOp::mul && !requires_grad(b)) && !(op == BinaryOp::div && !requires_grad(b));
  const bool need_b = reads && !(op == BinaryOp::mul && !requires_grad(a));
  std::optional<SavedOutput> saved_y;
  if (op == BinaryOp::pow) saved_y.emplace(y);
  record(name, y, {a, b},
         [op, a = Saved(need_a ? a : Tensor()), b = Saved(need_b ? b : Tensor()), y = saved_y, a_shape = a.shape(),
          b_shape = b.shape()](const Backward& back) {
           Grads g = gradients(op, back, a.get(back.node), b.get(back.node), y ? y->get(back.node) : Tensor());
           if (g[0].defined()) g[0] = sum_to(g[0], a_shape);
           if (g[1].defined()) g[1] = sum_to(g[1], b_shape);
           return g;
         });
  return y;
}

Tensor compare(CompareOp op, const Tensor& a0, const Tensor& b0) {
  const DType t = promote(a0, b0);
  const Dims shape = broadcast_shapes(a0.shape(), b0.shape(), "comparison");
  const Tensor a = to(detach(a0), t), b = to(detach(b0), t);
  const Tensor y = elementwise_output(shape, DType::Bool, {&a, &b});
  kernels().compare(op, t, make_loop({&y, &a, &b}), a.data(), b.data(), y.data());
  return y;
}

Tensor where(const Tensor& condition, const Tensor& a0, const Tensor& b0) {
  PE_CHECK(condition.dtype() == DType::Bool, Type, "where: condition must be a bool tensor, got ",
           dtype_name(condition.dtype()));
  const DType t = promote(a0, b0);
  const Tensor a = to(a0, t), b = to(b0, t);
  const Dims shape = broadcast_shapes(broadcast_shapes(a.shape(), b.shape(), "where"), condition.shape(), "where");
  const Tensor y = elementwise_output(shape, t, {&a, &b, &condition});
  kernels().where(t, make_loop({&y, &condition, &a, &b}), condition.data(), a.data(), b.data(), y.data());
  if (recording(a, b))
    record("where", y, {a, b},
           [condition = Saved(condition), a_shape = a.shape(), b_shape = b.shape()](const Backward& back) {
             const Tensor& m = condition.get(back.node);
             const Tensor& dy = back.dy[0];
             const Tensor zero = scalar_tensor(0, dy.dtype());
             Grads g(2);
             if (back.needed[0]) g[0] = sum_to(where(m, dy, zero), a_shape);
             if (back.needed[1]) g[1] = sum_to(where(m, zero, dy), b_shape);
             return g;
           });
  return y;
}

Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value) {
  PE_CHECK(value.dim() == 0, Shape, "masked_fill: value must have no dimensions, got shape ", value.shape());
  return where(mask, to(value, x.dtype()), x);
}

Tensor lerp(const Tensor& a, const Tensor& b, const Tensor& weight) { return add(a, mul(weight, sub(b, a))); }

}  // namespace pe::ops
