#include "autograd/engine.h"

#include <algorithm>
#include <mutex>
#include <queue>
#include <unordered_map>

#include "ops/ops.h"  // gradients are added by an op, so that create_graph records the sum

namespace pe {

namespace {

// Keeps a gradient in the leaf's own memory layout and out of reach of other owners.
Tensor own_gradient(const Tensor& leaf, const Tensor& dy) {
  dy.data();  // a deferred gradient must not keep what it is made of
  const bool mine = dy->use_count() == 1 && dy->storage->unique() && dy.strides() == leaf.strides();
  if (mine || grad_enabled()) return dy;
  Tensor copy = empty_like(leaf);
  ops::copy_into(copy, dy);
  return copy;
}

// Two threads may run backward over graphs that share leaves.
std::mutex& leaf_mutex(const TensorImpl* leaf) {
  static std::mutex mutexes[32];
  return mutexes[reinterpret_cast<uintptr_t>(leaf) / 64 % 32];
}

void accumulate(TensorImpl* impl, Tensor dy) {
  Tensor leaf{Ref<TensorImpl>(impl)};
  AutogradMeta& meta = autograd_meta(leaf);
  for (const GradHook& hook : std::vector(meta.leaf_hooks))
    if (Tensor replaced = hook(dy); replaced.defined()) dy = replaced;
  const std::lock_guard lock(leaf_mutex(impl));
  if (!meta.grad.defined()) {
    meta.grad = own_gradient(leaf, std::move(dy));
  } else if (grad_enabled()) {
    meta.grad = ops::add(meta.grad, dy);
  } else {
    ops::add_into(meta.grad, dy);
  }
}

class Walk {
 public:
  explicit Walk(bool retain_graph) : retain_graph_(retain_graph) {}

  void add(const Edge& edge, const Tensor& dy) {
    auto [it, fresh] = waiting_.try_emplace(edge.node.get());
    if (fresh) {
      it->second.node = edge.node;
      it->second.grads.resize(edge.node->outputs.size());
      heap_.push(edge.node.get());
    }
    Tensor& sum = it->second.grads[size_t(edge.output_nr)];
    sum = sum.defined() ? ops::add(sum, dy) : dy;
  }

  // Restricts the walk to what leads to these edges, whose gradients are then in captured().
  void capture(const std::vector<Edge>& targets, const std::vector<Edge>& roots) {
    std::vector<Node*> reachable, stack;
    std::unordered_map<Node*, bool> seen;
    for (const Edge& e : roots)
      if (e.node && seen.emplace(e.node.get(), false).second) stack.push_back(e.node.get());
    while (!stack.empty()) {
      Node* node = stack.back();
      stack.pop_back();
      reachable.push_back(node);
      for (const Edge& e : node->edges)
        if (e.node && seen.emplace(e.node.get(), false).second) stack.push_back(e.node.get());
    }
    for (const Edge& e : targets)
      if (e.node) captured_[e.node.get()].resize(e.node->outputs.size());
    std::sort(reachable.begin(), reachable.end(), [](Node* a, Node* b) { return a->id < b->id; });
    for (Node* node : reachable) {
      bool leads = captured_.count(node) > 0;
      for (const Edge& e : node->edges) leads = leads || (e.node && seen[e.node.get()]);
      seen[node] = leads;
    }
    leads_ = std::move(seen);
    capturing_ = true;
  }
  Tensor captured(const Edge& edge) {
    return edge.node ? captured_[edge.node.get()][size_t(edge.output_nr)] : Tensor();
  }

  void run() {
    while (!heap_.empty()) {
      Node* node = heap_.top();
      heap_.pop();
      Waiting work = std::move(waiting_.at(node));
      waiting_.erase(node);
      step(*node, work.grads);
    }
  }

 private:
  struct Waiting {
    NodeRef node;
    Grads grads;
  };
  struct Older {
    bool operator()(const Node* a, const Node* b) const { return a->id < b->id; }
  };

  bool wanted(const Edge& e) const {
    if (!e.node) return false;
    if (!capturing_) return true;
    const auto it = leads_.find(e.node.get());
    return it != leads_.end() && it->second;
  }

  void step(Node& node, Grads& grads) {
    for (const auto& [output, hook] : std::vector(node.hooks))
      if (Tensor& dy = grads[size_t(output)]; dy.defined())
        if (Tensor replaced = hook(dy); replaced.defined()) dy = replaced;
    if (!capturing_)
      for (const auto& [output, impl] : node.retained)
        if (const Tensor& dy = grads[size_t(output)]; dy.defined()) {
          Tensor& grad = impl->autograd->grad;
          grad = grad.defined() ? ops::add(grad, dy) : dy;
        }
    if (const auto it = captured_.find(&node); it != captured_.end()) {
      if (node.leaf() != nullptr)
        for (const GradHook& hook : std::vector(node.leaf()->autograd->leaf_hooks))
          if (Tensor replaced = hook(grads[0]); replaced.defined()) grads[0] = replaced;
      it->second = grads;
    }

    if (TensorImpl* leaf = node.leaf()) {
      if (!capturing_) accumulate(leaf, std::move(grads[0]));
      return;
    }
    std::vector<bool> needed(node.edges.size());
    bool any = false;
    for (size_t i = 0; i < needed.size(); ++i) any |= needed[i] = wanted(node.edges[i]);
    if (!any) return;
    PE_CHECK(!node.released(), Runtime, node.name,
             ": trying to backward through the graph a second time: what the first backward saved has been freed. Use "
             "retain_graph=True in the first call");
    Grads dx = node.apply(grads, needed);
    grads.clear();
    PE_CHECK(dx.size() == node.edges.size(), Runtime, node.name, ": backward returned ", dx.size(), " gradients for ",
             node.edges.size(), " inputs");
    if (!retain_graph_) node.release();
    for (size_t i = 0; i < dx.size(); ++i) {
      if (!needed[i] || !dx[i].defined()) continue;
      const Node::Output& expected = node.edges[i].node->outputs[size_t(node.edges[i].output_nr)];
      PE_CHECK(dx[i].shape() == expected.shape, Shape, node.name, ": backward returned a gradient of shape ",
               dx[i].shape(), " for input ", i, " of shape ", expected.shape);
      if (dx[i].dtype() != expected.dtype) dx[i] = ops::to(dx[i], expected.dtype);
      add(node.edges[i], dx[i]);
      dx[i] = Tensor();
    }
  }

  bool retain_graph_;
  bool capturing_ = false;
  std::unordered_map<Node*, Waiting> waiting_;
  std::priority_queue<Node*, std::vector<Node*>, Older> heap_;  // the newest node first: all its users have run
  std::unordered_map<Node*, Grads> captured_;
  std::unordered_map<Node*, bool> leads_;
};

// Checks the roots and completes their gradients.
std::vector<Edge> roots_of(const std::vector<Tensor>& outputs, Grads& dys, const char* op) {
  PE_CHECK(dys.empty() || dys.size() == outputs.size(), Runtime, op, ": got ", outputs.size(), " tensors and ",
           dys.size(), " gradients");
  dys.resize(outputs.size());
  std::vector<Edge> roots;
  for (size_t i = 0; i < outputs.size(); ++i) {
    const Tensor& y = outputs[i];
    PE_CHECK(requires_grad(y), Runtime, op, ": element ", i,
             " of tensors does not require grad and does not have a grad_fn");
    if (!dys[i].defined()) {
      PE_CHECK(y.numel() == 1, Runtime, op, ": grad can be implicitly created only for scalar outputs, got shape ",
               y.shape());
      dys[i] = ops::full_like(y, 1.0);
    }
    PE_CHECK(dys[i].shape() == y.shape(), Shape, op, ": gradient has shape ", dys[i].shape(), ", its tensor ",
             y.shape());
    roots.push_back(gradient_edge(y));
  }
  return roots;
}

}  // namespace

void backward(const std::vector<Tensor>& outputs, const Grads& output_grads, bool retain_graph, bool create_graph) {
  const GradMode mode(create_graph);
  Walk walk(retain_graph || create_graph);
  Grads dys = output_grads;
  const std::vector<Edge> roots = roots_of(outputs, dys, "backward");
  for (size_t i = 0; i < roots.size(); ++i) walk.add(roots[i], dys[i]);
  dys.clear();
  walk.run();
}

Grads grad(const std::vector<Tensor>& outputs, const Grads& output_grads, const std::vector<Tensor>& inputs,
           bool retain_graph, bool create_graph) {
  std::vector<Edge> targets;
  for (size_t i = 0; i < inputs.size(); ++i) {
    PE_CHECK(requires_grad(inputs[i]), Runtime, "grad: input ", i, " does not require grad");
    targets.push_back(gradient_edge(inputs[i]));
  }
  const GradMode mode(create_graph);
  Walk walk(retain_graph || create_graph);
  Grads dys = output_grads;
  const std::vector<Edge> roots = roots_of(outputs, dys, "grad");
  walk.capture(targets, roots);
  for (size_t i = 0; i < roots.size(); ++i) walk.add(roots[i], dys[i]);
  dys.clear();
  walk.run();
  Grads result;
  for (const Edge& e : targets) result.push_back(walk.captured(e));
  return result;
}

}  // namespace pe
