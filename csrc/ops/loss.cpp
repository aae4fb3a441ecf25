#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

void check_reduction(const std::string& reduction, const char* op) {
  PE_CHECK(reduction == "mean" || reduction == "sum" || reduction == "none", Value, op,
           ": expected reduction 'mean', 'sum' or 'none', got '", reduction, "'");
}

// (N, C, d1, ...) as rows of classes, one per position; (C,) is one row.
Tensor class_rows(const Tensor& x) {
  if (x.dim() <= 2) return contiguous(x.dim() == 1 ? unsqueeze(x, 0) : x);
  return contiguous(reshape(movedim(x, {1}, {-1}), {-1, x.shape()[1]}));
}

Dims without_classes(const Tensor& x) {
  Dims shape = x.shape();
  shape.erase(x.dim() == 1 ? 0 : 1);
  return shape;
}

Tensor checked_target(const Tensor& target, const Dims& shape, int64_t classes, int64_t ignore_index, const char* op) {
  PE_CHECK(is_integral(target.dtype()), Type, op, ": expected class indices of an integer dtype, got ",
           dtype_name(target.dtype()));
  PE_CHECK(target.shape() == shape, Shape, op, ": expected a target of shape ", shape, ", got ", target.shape());
  const Tensor rows = contiguous(reshape(to(target, DType::Int64), {target.numel()}));
  const int64_t* p = rows.data_as<int64_t>();
  for (int64_t i = 0; i < rows.numel(); ++i)
    PE_CHECK((p[i] >= 0 && p[i] < classes) || p[i] == ignore_index, Index, op, ": target ", p[i],
             " is out of bounds for ", classes, " classes");
  return rows;
}

// The mean over rows divides by the sum of their weights.
Tensor reduce_losses(const Tensor& losses, const Tensor& row_weights, const Dims& shape, const std::string& reduction) {
  if (reduction == "none") return reshape(losses, shape);
  const Tensor total = sum(losses);
  return reduction == "sum" ? total : div(total, sum(row_weights));
}

Tensor row_weights(const Tensor& target, const Tensor& weight, int64_t ignore_index, DType t) {
  const Tensor kept = to(compare(CompareOp::ne, target, scalar_tensor(ignore_index, DType::Int64)), t);
  if (!weight.defined()) return kept;
  return mul(kept, index_select(weight, 0, mul(target, to(kept, DType::Int64))));
}

}  // namespace

Tensor cross_entropy(const Tensor& x0, const Tensor& target, const Tensor& weight0, int64_t ignore_index,
                     const std::string& reduction, double label_smoothing) {
  check_reduction(reduction, "cross_entropy");
  PE_CHECK(x0.dim() >= 1, Shape, "cross_entropy: expected at least one dimension, got shape ", x0.shape());
  PE_CHECK(is_floating(x0.dtype()), Type, "cross_entropy: expected floating point logits, got ",
           dtype_name(x0.dtype()));
  PE_CHECK(label_smoothing >= 0 && label_smoothing <= 1, Value,
           "cross_entropy: label_smoothing must be between 0 and 1, got ", label_smoothing);
  CrossEntropyShape s;
  s.classes = x0.shape()[x0.dim() == 1 ? 0 : 1];
  PE_CHECK(s.classes > 0, Shape, "cross_entropy: expected at least one class, got shape ", x0.shape());
  PE_CHECK(!weight0.defined() || (weight0.dim() == 1 && weight0.shape()[0] == s.classes), Shape,
           "cross_entropy: expected a weight of shape (", s.classes, ",), got ",
           weight0.defined() ? weight0.shape() : Dims());
  const DType t = x0.dtype();
  const Tensor x = class_rows(x0), weight = weight0.defined() ? contiguous(to(detach(weight0), t)) : Tensor();
  s.rows = x.shape()[0], s.label_smoothing = label_smoothing, s.ignore_index = ignore_index;
  s.soft_targets = is_floating(target.dtype());
  Tensor rows;
  if (s.soft_targets) {
    PE_CHECK(target.shape() == x0.shape(), Shape, "cross_entropy: expected class probabilities of shape ", x0.shape(),
             ", got ", target.shape());
    PE_CHECK(!recording(target), NotImplemented,
             "cross_entropy: target probabilities that require a gradient are not supported; detach() them");
    rows = class_rows(to(detach(target), t));
  } else {
    rows = checked_target(target, without_classes(x0), s.classes, ignore_index, "cross_entropy");
  }
  const Tensor losses = empty({s.rows}, t), lse = empty({s.rows}, t);
  auto data = [](const Tensor& p) { return p.defined() ? p.data() : nullptr; };
  if (s.rows > 0) kernels().cross_entropy(s, t, x.data(), rows.data(), data(weight), losses.data(), lse.data());
  if (recording(x))
    record("cross_entropy", losses, {x},
           [s, x = Saved(x), target = Saved(rows), class_weight = Saved(weight), lse](const Backward& b) {
             const Tensor &v = x.get(b.node), &rows = target.get(b.node), &weight = class_weight.get(b.node);
             const DType dtype = v.dtype();
             if (b.create_graph()) {  // d loss / d x = softmax(x) sum(q) - q with q the weighted, smoothed target
                                      // distribution
               Tensor q = s.soft_targets ? rows : Tensor();
               if (!s.soft_targets) {
                 const Tensor kept = compare(CompareOp::ne, rows, scalar_tensor(s.ignore_index, DType::Int64));
                 q = mul(to(one_hot(mul(rows, to(kept, DType::Int64)), s.classes), dtype),
                         unsqueeze(to(kept, dtype), 1));
               }
               const Tensor mass = sum(q, {1}, true);
               q = add(mul(q, scalar_tensor(1 - s.label_smoothing, dtype)),
                       mul(mass, scalar_tensor(s.label_smoothing / double(s.classes), dtype)));
               if (weight.defined()) q = mul(q, weight);
               return Grads{mul(unsqueeze(b.dy[0], 1), sub(mul(softmax(v, 1), sum(q, {1}, true)), q))};
             }
             const Tensor dlosses = contiguous(b.dy[0]), dx = empty(v.shape(), dtype);
             if (dx.numel() > 0)
               kernels().cross_entropy_backward(s, dtype, v.data(), lse.data(), rows.data(),
                                                weight.defined() ? weight.data() : nullptr, dlosses.data(), dx.data());
             return Grads{dx};
           });
  if (s.soft_targets) {
    if (reduction == "none") return reshape(losses, without_classes(x0));
    const Tensor total = sum(losses);
    return reduction == "sum" ? total : div(total, scalar_tensor(double(s.rows), t));
  }
  // Without weights and ignored rows the divisor is the number of rows: known without a pass.
  if (reduction == "mean" && !weight.defined()) {
    int64_t kept = 0;
    for (int64_t i = 0; i < s.rows; ++i) kept += rows.data_as<int64_t>()[i] != ignore_index;
    return div(sum(losses), scalar_tensor(double(kept), t));
  }
  return reduce_losses(losses, reduction == "mean" ? row_weights(rows, weight, ignore_index, t) : Tensor(),
                       without_classes(x0), reduction);
}

Tensor nll_loss(const Tensor& x0, const Tensor& target, const Tensor& weight0, int64_t ignore_index,
                const std::string& reduction) {
  check_reduction(reduction, "nll_loss");
  PE_CHECK(x0.dim() >= 1, Shape, "nll_loss: expected at least one dimension, got shape ", x0.shape());
  PE_CHECK(is_floating(x0.dtype()), Type, "nll_loss: expected floating point log-probabilities, got ",
           dtype_name(x0.dtype()));
  const Tensor x = class_rows(x0), weight = weight0.defined() ? to(detach(weight0), x0.dtype()) : Tensor();
  PE_CHECK(!weight.defined() || (weight.dim() == 1 && weight.shape()[0] == x.shape()[1]), Shape,
           "nll_loss: expected a weight of shape (", x.shape()[1], ",), got ",
           weight.defined() ? weight.shape() : Dims());
  const Tensor rows = checked_target(target, without_classes(x0), x.shape()[1], ignore_index, "nll_loss");
  const Tensor w = row_weights(rows, weight, ignore_index, x.dtype());
  const Tensor kept = to(compare(CompareOp::ne, rows, scalar_tensor(ignore_index, DType::Int64)), DType::Int64);
  const Tensor picked = squeeze(gather(x, 1, unsqueeze(mul(rows, kept), 1)), {1});
  return reduce_losses(neg(mul(picked, w)), w, without_classes(x0), reduction);
}

}  // namespace pe::ops
