#include "autograd/node.h"

#include <algorithm>
#include <mutex>

namespace pe {

namespace {

thread_local bool grad_mode = true;
std::atomic<uint64_t> next_id{1};
std::mutex accumulator_mutex;

// A chain of nodes must not be destroyed by recursion: a dying node is put on this list, and the outermost call empties
// it.
thread_local std::vector<Node*> dying;
thread_local bool burying = false;

// Adds a gradient to a leaf's .grad.
class AccumulateGrad final : public Node {
 public:
  explicit AccumulateGrad(const Tensor& leaf) : Node("AccumulateGrad", 1), leaf_(leaf) {
    outputs[0] = {leaf.shape(), leaf.dtype()};
  }
  ~AccumulateGrad() override {
    const std::lock_guard lock(accumulator_mutex);
    if (leaf_->autograd->accumulator == this) leaf_->autograd->accumulator = nullptr;
  }
  Grads apply(const Grads&, const std::vector<bool>&) override { return {}; }  // the engine does it (engine.cpp)
  void release() override {}
  bool released() const override { return false; }
  TensorImpl* leaf() const override { return leaf_.impl(); }

 private:
  Tensor leaf_;
};

}  // namespace

bool grad_enabled() { return grad_mode; }
void set_grad_enabled(bool enabled) { grad_mode = enabled; }

Node::Node(const char* name, size_t outputs)
    : name(name), id(next_id.fetch_add(1, std::memory_order_relaxed)), outputs(outputs) {}

void Node::unref() {
  if (refs_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  dying.push_back(this);
  if (burying) return;
  burying = true;
  while (!dying.empty()) {
    Node* node = dying.back();
    dying.pop_back();
    delete node;  // its edges and saved tensors put further nodes on the list
  }
  burying = false;
}

bool Node::try_ref() {
  int64_t count = refs_.load(std::memory_order_acquire);
  while (count > 0)
    if (refs_.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel)) return true;
  return false;
}

AutogradMeta::~AutogradMeta() {
  if (retains_grad && grad_fn) {
    auto& retained = grad_fn->retained;
    retained.erase(std::remove_if(retained.begin(), retained.end(), [this](auto& r) { return r.second == owner; }),
                   retained.end());
  }
}

void destroy(AutogradMeta* meta) { delete meta; }

AutogradMeta& autograd_meta(const Tensor& x) {
  if (!x->autograd) {
    x->autograd = new AutogradMeta;
    x->autograd->owner = x.impl();
  }
  return *x->autograd;
}

void refresh_view(const Tensor& x);  // ops/inplace.cpp

bool requires_grad(const Tensor& x) {
  const AutogradMeta* meta = x->autograd;
  if (meta && (meta->requires_grad || meta->grad_fn)) return true;
  if (x->view_base && !x->no_grad_view && x->view_version != x->storage->version.load(std::memory_order_relaxed))
    return requires_grad(Tensor(x->view_base));
  return false;
}

bool is_leaf(const Tensor& x) { return !gradient_edge(x).node || (x->autograd && !x->autograd->grad_fn); }

void set_requires_grad(const Tensor& x, bool value) {
  PE_CHECK(!value || is_floating(x.dtype()), Runtime,
           "requires_grad: only floating point tensors can require gradients, got ", dtype_name(x.dtype()));
  if (!value && !x->autograd) return;
  AutogradMeta& meta = autograd_meta(x);
  PE_CHECK(!meta.grad_fn || value, Runtime,
           "requires_grad: you can only change requires_grad flags of leaf tensors; use x.detach() for a tensor that "
           "doesn't require gradients");
  if (!meta.grad_fn) meta.requires_grad = value;
}

Tensor grad_of(const Tensor& x) { return x->autograd ? x->autograd->grad : Tensor(); }

Edge gradient_edge(const Tensor& x) {
  if (x->view_base && !x->no_grad_view && x->view_version != x->storage->version.load(std::memory_order_relaxed))
    refresh_view(x);
  AutogradMeta* meta = x->autograd;
  if (!meta) return {};
  if (meta->grad_fn) return {meta->grad_fn, meta->output_nr};
  if (!meta->requires_grad) return {};
  const std::lock_guard lock(accumulator_mutex);
  if (meta->accumulator && meta->accumulator->try_ref()) return {NodeRef::adopt(meta->accumulator), 0};
  NodeRef node(new AccumulateGrad(x));
  meta->accumulator = node.get();
  return {node, 0};
}

void set_grad_fn(const Tensor& x, const NodeRef& node, int output_nr) {
  AutogradMeta& meta = autograd_meta(x);
  const bool retained = meta.retains_grad;
  if (retained && meta.grad_fn) std::erase_if(meta.grad_fn->retained, [&](auto& r) { return r.second == x.impl(); });
  meta.requires_grad = false;
  meta.grad_fn = node;
  meta.output_nr = output_nr;
  if (retained && node) node->retained.emplace_back(output_nr, x.impl());
}

void retain_grad(const Tensor& x) {
  PE_CHECK(requires_grad(x), Runtime, "retain_grad: can't retain_grad on a tensor that has requires_grad=False");
  gradient_edge(x);
  AutogradMeta& meta = autograd_meta(x);
  if (!meta.grad_fn || meta.retains_grad) return;
  meta.retains_grad = true;
  meta.grad_fn->retained.emplace_back(meta.output_nr, x.impl());
}

bool recording_any(const std::vector<Tensor>& inputs) {
  if (!grad_enabled()) return false;
  for (const Tensor& x : inputs)
    if (x.defined() && requires_grad(x)) return true;
  return false;
}

const Tensor& Saved::get(const Node& node) const {
  if (tensor_.defined()) {
    const uint32_t now = tensor_->storage->version.load();
    PE_CHECK(now == version_, Runtime, node.name,
             ": one of the variables needed for gradient computation has been modified by an inplace operation: ",
             describe(tensor_), " is at version ", now, "; expected version ", version_, " instead");
  }
  return tensor_;
}

Tensor SavedOutput::get(Node& node) const {
  const Tensor& y = saved_.get(node);
  if (!grad_enabled()) return y;
  Tensor linked = alias(y);
  set_grad_fn(linked, NodeRef(&node), output_nr_);
  return linked;
}

void link(const NodeRef& node, const std::vector<Tensor>& outputs, const std::vector<Tensor>& inputs) {
  node->edges.reserve(inputs.size());
  uint64_t newest = 0;
  for (const Tensor& x : inputs) {
    node->edges.push_back(x.defined() ? gradient_edge(x) : Edge{});
    if (node->edges.back().node) newest = std::max(newest, node->edges.back().node->id);
  }
  // gradient_edge may have just made an accumulator, which must be older than its user.
  if (newest > node->id) node->id = next_id.fetch_add(1, std::memory_order_relaxed);
  for (size_t i = 0; i < outputs.size(); ++i) {
    if (!outputs[i].defined()) continue;
    node->outputs[i] = {outputs[i].shape(), outputs[i].dtype()};
    if (is_floating(outputs[i].dtype())) set_grad_fn(outputs[i], node, int(i));
  }
}

}  // namespace pe
