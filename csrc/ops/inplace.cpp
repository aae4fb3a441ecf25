// Writing into a tensor that may have a history. An op f_ is: y = f(x) with its graph, then x takes over y's data and
// history. A view's write also gives its base a new history; other views of the base look it up again when next used.
#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/elementwise.h"
#include "ops/ops.h"

namespace pe {

// A view whose base was written to: its link becomes "this region of the base as it is now".
void refresh_view(const Tensor& x) {
  const Tensor base{x->view_base};
  x->view_version = x->storage->version.load();
  if (!requires_grad(base)) return;
  const GradMode mode(true);
  const Tensor again = ops::as_strided(base, x.shape(), x.strides(), x->offset);
  const Edge edge = gradient_edge(again);
  set_grad_fn(x, edge.node, edge.output_nr);
}

namespace ops {

void check_inplace(const Tensor& x, const char* op) {
  PE_CHECK(!x->storage->read_only, Runtime, op,
           ": the tensor shares memory that must not be written to (a read-only array)");
  if (x.numel() > 1)
    for (int i = 0; i < x.dim(); ++i)
      PE_CHECK(
          x.strides()[i] != 0 || x.shape()[i] == 1, Runtime, op,
          ": more than one element of the written-to tensor refers to a single memory location; clone() it before");
  x->storage->compute_readers();
  if (!grad_enabled()) return;
  const Tensor owner = x->view_base ? Tensor(x->view_base) : x;
  PE_CHECK(!(owner->autograd && owner->autograd->requires_grad), Runtime, op, ": a ", x->view_base ? "view of a " : "",
           "leaf Variable that requires grad is being used in an in-place operation");
}

void mark_written(const Tensor& x) { x->storage->version.fetch_add(1); }

void assign_inplace(const Tensor& x, const Tensor& y, const char* op) {
  check_inplace(x, op);
  PE_CHECK(y.shape() == x.shape(), Shape, op, ": output with shape ", x.shape(), " doesn't match the broadcast shape ",
           y.shape());
  const bool linked = grad_enabled() && requires_grad(y);
  const Tensor value = to(y, x.dtype());
  if (!x->view_base) {
    const Edge edge = linked ? gradient_edge(value) : Edge{};
    const bool overwritten = grad_enabled() && !linked && requires_grad(x);
    const Edge before = overwritten ? gradient_edge(x) : Edge{};
    copy_into(x, value);
    mark_written(x);
    if (linked) set_grad_fn(x, edge.node, edge.output_nr);
    if (overwritten) {  // what x was no longer counts: its gradient is zero
      auto backward = [](const Backward& b) { return Grads{full(b.dy[0].shape(), 0, b.dy[0].dtype())}; };
      NodeRef node(new FunctionNode<decltype(backward)>(op, 1, std::move(backward)));
      node->edges = {before};
      node->outputs[0] = {x.shape(), x.dtype()};
      set_grad_fn(x, node, 0);
    }
    return;
  }
  const Tensor base{x->view_base};
  const bool record_base = grad_enabled() && (linked || requires_grad(base));
  PE_CHECK(!record_base || !x->no_grad_view, Runtime, op,
           ": the tensor is a view that was made under no_grad and is now written to with gradients; make the view "
           "outside no_grad");
  if (!record_base) {
    copy_into(x, value);
    mark_written(x);
    return;
  }
  const std::vector<Edge> edges = {gradient_edge(base), linked ? gradient_edge(value) : Edge{}};
  copy_into(x, value);
  mark_written(x);
  PE_CHECK(base.is_dense(), NotImplemented, op,
           ": a write with gradients to a view of a tensor that has gaps in memory; clone() it before");
  // The written region's gradient belongs to the value, the rest to what the base was before.
  auto backward = [base_shape = base.shape(), base_strides = base.strides(), shape = x.shape(), strides = x.strides(),
                   offset = x->offset - base->offset](const Backward& b) {
    b.refuse_create_graph();
    const Tensor base_grad = empty_strided(base_shape, base_strides, b.dy[0].dtype());
    copy_into(base_grad, b.dy[0]);
    const Tensor region = alias(base_grad, offset, shape, strides);
    const Tensor value_grad = clone(region);
    copy_into(region, scalar_tensor(0, region.dtype()));
    return Grads{base_grad, value_grad};
  };
  NodeRef node(new FunctionNode<decltype(backward)>(op, 1, std::move(backward)));
  node->edges = edges;
  node->outputs[0] = {base.shape(), base.dtype()};
  set_grad_fn(base, node, 0);
  refresh_view(x);
}

void copy_(const Tensor& x, const Tensor& source) {
  check_inplace(x, "copy_");
  PE_CHECK(broadcast_shapes(x.shape(), source.shape(), "copy_") == x.shape(), Shape, "copy_: shape ", source.shape(),
           " does not broadcast to ", x.shape());
  const Tensor owner = x->view_base ? Tensor(x->view_base) : x;
  if (recording(x, owner, source)) {
    // A fresh tensor, so that x never shares a node with the source itself.
    assign_inplace(x, clone(expand(to(source, x.dtype()), x.shape())), "copy_");
    return;
  }
  // Overlapping memory (x[1:] = x[:-1]) is read before it is written.
  const bool overlaps =
      x->storage == source->storage && !(x->offset == source->offset && x.strides() == source.strides());
  copy_into(x, overlaps ? clone(source) : source);
  mark_written(x);
}

void fill_(const Tensor& x, Scalar value) { copy_(x, scalar_tensor(value, x.dtype())); }

void add_into(const Tensor& x, const Tensor& y) {
  kernels().binary(BinaryOp::add, x.dtype(), make_loop({&x, &x, &y}), x.data(), y.data(), x.data());
  mark_written(x);
}

namespace {

// Gradients that read x itself need a copy: x is about to be overwritten.
bool saves_input(UnaryOp op) {
  enum { NOTHING, INPUT, OUTPUT };
  constexpr int kSaves[] = {
#define UNARY(name, saves, ...) saves,
#include "kernels/unary.def"
#undef UNARY
  };
  return kSaves[int(op)] == INPUT;
}

bool saves_left(BinaryOp op, const Tensor& right) {
  if (op == BinaryOp::add || op == BinaryOp::sub) return false;
  return !(op == BinaryOp::mul || op == BinaryOp::div) || requires_grad(right);
}

}  // namespace

void unary_(UnaryOp op, const Tensor& x, double p0, double p1) {
  check_inplace(x, "in-place operation");
  if (x->storage->deferred() && x->storage->unique() && !x->view_base && x.is_dense() && x->offset == 0) {
    // Nobody has seen x's memory: it takes over that of the result, and a relu can take over the computation.
    const Edge before = gradient_edge(x);
    const Tensor old = alias(x);
    if (before.node) set_grad_fn(old, before.node, before.output_nr);
    const Tensor y = unary(op, old, p0, p1);
    const Edge after = gradient_edge(y);
    x->storage = y->storage;
    if (after.node) set_grad_fn(x, after.node, after.output_nr);
    return;
  }
  if (recording(x)) return assign_inplace(x, unary(op, saves_input(op) ? clone(x) : x, p0, p1), "in-place operation");
  if (!is_floating(x.dtype())) return copy_(x, unary(op, x, p0, p1));
  const double params[2] = {p0, p1};
  kernels().unary(op, x.dtype(), make_loop({&x, &x}), params, x.data(), x.data());
  mark_written(x);
}

void binary_(BinaryOp op, const Tensor& x, const Tensor& y) {
  check_inplace(x, "in-place operation");
  PE_CHECK(broadcast_shapes(x.shape(), y.shape(), "in-place operation") == x.shape(), Shape,
           "in-place operation: output with shape ", x.shape(), " doesn't match the broadcast shape ",
           broadcast_shapes(x.shape(), y.shape(), "in-place operation"));
  const DType t = op == BinaryOp::div && !is_floating(promote(x, y)) ? default_dtype() : promote(x, y);
  PE_CHECK(is_floating(x.dtype()) || (!is_floating(t) && (x.dtype() != DType::Bool || t == DType::Bool)), Runtime,
           "in-place operation: result type ", dtype_name(t), " can't be cast to the desired output type ",
           dtype_name(x.dtype()));
  const Tensor owner = x->view_base ? Tensor(x->view_base) : x;
  if (recording(x, owner, y)) {
    const bool overlaps = x->storage == y->storage;
    return assign_inplace(x, binary(op, saves_left(op, y) ? clone(x) : x, overlaps ? clone(y) : y),
                          "in-place operation");
  }
  if (t != x.dtype() || !is_floating(t) || x->storage == y->storage) return copy_(x, binary(op, x, y));
  const Tensor other = to(y, t);
  kernels().binary(op, t, make_loop({&x, &x, &other}), x.data(), other.data(), x.data());
  mark_written(x);
}

}  // namespace ops
}  // namespace pe
