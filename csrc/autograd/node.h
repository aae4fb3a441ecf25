// The graph: a Node per recorded operation, linked from outputs to inputs.
#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "autograd/grad_mode.h"
#include "tensor/tensor.h"

namespace pe {

class Node;
using NodeRef = Ref<Node>;
using Grads = std::vector<Tensor>;                      // one per input or output; undefined: no gradient
using GradHook = std::function<Tensor(const Tensor&)>;  // returns a replacement, or an undefined tensor

// Where an input's gradient goes: output `output_nr` of `node`. A null node: nowhere.
struct Edge {
  NodeRef node;
  int output_nr = 0;
};

class Node {
 public:
  Node(const char* name, size_t outputs);
  virtual ~Node() = default;

  // Gradients of the inputs from those of the outputs. needed[i] is false where nobody asks for input i's.
  virtual Grads apply(const Grads& dy, const std::vector<bool>& needed) = 0;
  virtual void release() = 0;  // drops what was saved for apply
  virtual bool released() const = 0;
  virtual TensorImpl* leaf() const { return nullptr; }  // AccumulateGrad's tensor

  void ref() { refs_.fetch_add(1, std::memory_order_relaxed); }
  bool try_ref();  // false when the node is already dying
  bool unique() const { return refs_.load(std::memory_order_acquire) == 1; }
  void unref();

  const char* name;
  uint64_t id;  // from one global counter: a node's inputs have lower ids
  std::vector<Edge> edges;
  struct Output {
    Dims shape;
    DType dtype;
  };
  std::vector<Output> outputs;
  std::vector<std::pair<int, GradHook>> hooks;  // run on the finished gradient of an output, in order
  std::vector<std::pair<int, TensorImpl*>>
      retained;  // outputs whose .grad is to be kept; each removes itself when it dies

 private:
  std::atomic<int64_t> refs_{0};
};

// A tensor's part in the graph; allocated for those that have one.
struct AutogradMeta {
  bool requires_grad = false;  // leaves
  bool retains_grad = false;
  Tensor grad;
  NodeRef grad_fn;
  int output_nr = 0;
  Node* accumulator = nullptr;  // not owned: the edges that lead to it own it
  std::vector<GradHook> leaf_hooks;
  TensorImpl* owner = nullptr;
  ~AutogradMeta();
};

AutogradMeta& autograd_meta(const Tensor& x);  // allocates
bool requires_grad(const Tensor& x);
bool is_leaf(const Tensor& x);
void set_requires_grad(const Tensor& x, bool value);
Tensor grad_of(const Tensor& x);      // undefined when there is none
Edge gradient_edge(const Tensor& x);  // also refreshes a view whose base was written to
void set_grad_fn(const Tensor& x, const NodeRef& node, int output_nr);
void retain_grad(const Tensor& x);

// True when an operation on these inputs must be recorded.
template <class... Tensors>
bool recording(const Tensors&... inputs) {
  return grad_enabled() && ((inputs.defined() && requires_grad(inputs)) || ...);
}
bool recording_any(const std::vector<Tensor>& inputs);

// An input saved for the backward pass, with its graph link; get() raises if it was written to since.
class Saved {
 public:
  Saved() = default;
  Saved(const Tensor& x) : tensor_(x), version_(x.defined() ? x->storage->version.load() : 0) {}
  const Tensor& get(const Node& node) const;

 private:
  Tensor tensor_;
  uint32_t version_ = 0;
};

// An output saved for its own node's backward pass: without its link, which would be a cycle; get() links it again.
class SavedOutput {
 public:
  SavedOutput(const Tensor& y, int output_nr = 0) : saved_(alias(y)), output_nr_(output_nr) {}
  Tensor get(Node& node) const;

 private:
  Saved saved_;
  int output_nr_;
};

// What a backward closure is called with.
struct Backward {
  Node& node;
  const Grads& dy;
  const std::vector<bool>& needed;
  bool create_graph() const { return grad_enabled(); }
  // For gradients computed by kernels that have no derivative of their own.
  void refuse_create_graph() const {
    PE_CHECK(!grad_enabled(), NotImplemented, node.name,
             ": its gradient cannot be differentiated again (create_graph=True)");
  }
};

template <class F>
class FunctionNode final : public Node {
 public:
  FunctionNode(const char* name, size_t outputs, F&& f) : Node(name, outputs), f_(std::make_unique<F>(std::move(f))) {}
  Grads apply(const Grads& dy, const std::vector<bool>& needed) override { return (*f_)(Backward{*this, dy, needed}); }
  void release() override { f_.reset(); }
  bool released() const override { return !f_; }

 private:
  std::unique_ptr<F> f_;  // apart from the node, so that what it holds can go before the node does
};

void link(const NodeRef& node, const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs);

// Records one operation; call it only if recording(inputs...). f(const Backward&) returns the inputs' gradients.
template <class F>
void record(const char* name, const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs, F f) {
  link(NodeRef(new FunctionNode<F>(name, outputs.size(), std::move(f))), outputs, inputs);
}
template <class F>
void record(const char* name, const Tensor& output, const std::vector<Tensor>& inputs, F f) {
  record(name, std::vector<Tensor>{output}, inputs, std::move(f));
}

}  // namespace pe
