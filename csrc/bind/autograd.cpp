#include <set>

#include "autograd/engine.h"
#include "bind/define.h"
#include "bind/gil.h"
#include "bind/tensor_slots.h"
#include "ops/ops.h"

namespace py = pybind11;
using py::arg;

PYBIND11_DECLARE_HOLDER_TYPE(T, pe::Ref<T>, true)

namespace pe::bind {

namespace {

// The engine runs without the GIL; Python code that it calls takes it, and its exceptions cross the engine as they are.

// A pyengine.autograd.Function's application: calls `callback(ctx, saved tensors, gradients, which are needed)`.
class PythonNode final : public Node {
 public:
  PythonNode(const char* name, size_t outputs, py::object ctx, py::object callback)
      : Node(name, outputs), ctx_(std::make_unique<Held>(std::move(ctx))), callback_(std::move(callback)) {}

  struct SavedAny {
    Saved input;
    std::optional<SavedOutput> output;
  };
  std::vector<SavedAny> saved;
  bool materialize = true;
  std::vector<int> differentiable_inputs;  // positions of the tensors among the arguments

  Grads apply(const Grads& dy, const std::vector<bool>& needed) override {
    const WithGil gil;
    py::tuple tensors(saved.size());
    for (size_t i = 0; i < saved.size(); ++i)
      tensors[i] = py::cast(saved[i].output ? saved[i].output->get(*this) : saved[i].input.get(*this));
    py::list grads;
    for (size_t i = 0; i < dy.size(); ++i)
      grads.append(dy[i].defined() || !materialize ? py::cast(dy[i])
                                                   : py::cast(ops::full(outputs[i].shape, 0, outputs[i].dtype)));
    py::list mask;
    for (bool b : needed) mask.append(b);
    const py::object result = call_python(callback_.get(), py::handle(ctx_->get()), tensors, grads, mask);
    Grads dx;
    for (const auto& g : result.cast<std::vector<OptTensor>>()) dx.push_back(or_undefined(g));
    return dx;
  }
  void release() override {
    saved.clear();
    released_ = true;
  }
  bool released() const override { return released_; }
  PyObject* ctx() const { return ctx_->get(); }

 private:
  std::unique_ptr<Held> ctx_;
  Held callback_;
  bool released_ = false;
};

void record_function(const std::string& name, const py::object& ctx, const py::object& callback, const Tensors& inputs,
                     const Tensors& outputs, const std::vector<OptTensor>& saved,
                     const std::vector<bool>& differentiable, bool materialize) {
  for (const Tensor& y : outputs)
    for (const Tensor& x : inputs) {
      if (!y.same(x)) continue;  // written to in place
      PE_CHECK(!(x->autograd && x->autograd->requires_grad), Runtime, name,
               ": a leaf Variable that requires grad is being used in an in-place operation");
      PE_CHECK(!x->view_base, Runtime, name,
               ": a Function cannot change a view in place (mark_dirty); clone() it before");
    }
  // A node keeps a pointer to its name. Never destroyed: daemon threads may still look at nodes while the process ends.
  static auto& names = *new std::set<std::string>;
  const std::string* kept = &*names.insert(name).first;
  auto* raw = new PythonNode(kept->c_str(), outputs.size(), ctx, callback);
  const NodeRef node(raw);
  raw->materialize = materialize;
  Tensors linked = outputs;
  for (size_t i = 0; i < linked.size(); ++i)
    if (!differentiable[i]) linked[i] = Tensor();
  link(node, linked, inputs);
  for (size_t i = 0; i < outputs.size(); ++i) node->outputs[i] = {outputs[i].shape(), outputs[i].dtype()};
  for (const OptTensor& s : saved) {
    PythonNode::SavedAny entry;
    const Tensor t = or_undefined(s);
    for (size_t i = 0; i < outputs.size(); ++i)
      if (t.defined() && t.same(outputs[i])) entry.output.emplace(t, int(i));
    if (!entry.output) entry.input = Saved(t);
    raw->saved.push_back(std::move(entry));
  }
}

Grads optional_grads(const std::optional<std::vector<OptTensor>>& grads) {
  Grads result;
  if (grads)
    for (const OptTensor& g : *grads) result.push_back(or_undefined(g));
  return result;
}

// batch_norm is BatchNormBackward0; a name with capitals (AccumulateGrad, a Function's) stays.
std::string node_name(const Node& n) {
  const std::string name = n.name;
  if (n.leaf()) return name;
  std::string text;
  bool start = true;
  for (const char c : name) {
    if (c == '_' || c == ' ' || c == '-')
      start = true;
    else
      text.push_back(std::exchange(start, false) ? char(std::toupper(static_cast<unsigned char>(c))) : c);
  }
  return text + (dynamic_cast<const PythonNode*>(&n) ? "Backward" : "Backward0");
}

// Calls a Python function on a gradient. Removing the hook empties it; the handle does not own it.
struct PythonHook {
  std::shared_ptr<std::unique_ptr<Held>> function;

  Tensor operator()(const Tensor& grad) const {
    const WithGil gil;
    if (!*function) return Tensor();
    const py::object called = py::reinterpret_borrow<py::object>((*function)->get());  // it may remove itself
    const py::object result = call_python(called.ptr(), py::cast(grad));
    if (result.is_none()) return Tensor();
    PE_CHECK(is_tensor(result.ptr()), Type, "a gradient hook must return None or a Tensor, got ",
             Py_TYPE(result.ptr())->tp_name);
    const Tensor replaced = unwrap(result.ptr());
    PE_CHECK(replaced.shape() == grad.shape(), Shape, "a gradient hook changed the shape of the gradient from ",
             grad.shape(), " to ", replaced.shape());
    return replaced;
  }
};

struct HookHandle {
  std::weak_ptr<std::unique_ptr<Held>> function;
  void remove() const {
    if (const auto f = function.lock()) const auto gone = std::move(*f);
  }
};

HookHandle register_hook(const Tensor& x, const py::object& function) {
  PE_CHECK(requires_grad(x), Runtime,
           "register_hook: cannot register a hook on a tensor that doesn't require gradient");
  const PythonHook hook{std::make_shared<std::unique_ptr<Held>>(std::make_unique<Held>(function))};
  auto removed = [](const GradHook& h) { return h.target<PythonHook>() && !*h.target<PythonHook>()->function; };
  const Edge edge = gradient_edge(x);
  if (edge.node->leaf()) {
    auto& hooks = autograd_meta(x).leaf_hooks;
    std::erase_if(hooks, removed);
    hooks.emplace_back(hook);
  } else {
    edge.node->hooks.emplace_back(edge.output_nr, hook);
  }
  return {hook.function};
}

template <class F>
void for_each_hook(TensorImpl* impl, const F& f) {
  if (!impl->autograd) return;
  for (const GradHook& h : impl->autograd->leaf_hooks) f(h);
  if (const NodeRef& node = impl->autograd->grad_fn; node && node->unique())
    for (const auto& [output, h] : node->hooks) f(h);
}

}  // namespace

int visit_graph(TensorImpl* impl, visitproc visit, void* arg) {
  int result = 0;
  auto visit_object = [&](PyObject* o) {
    if (result == 0) result = visit(o, arg);
  };
  for_each_hook(impl, [&](const GradHook& h) {
    const PythonHook* hook = h.target<PythonHook>();
    if (hook && hook->function.use_count() == 1 && *hook->function) visit_object((*hook->function)->get());
  });
  if (impl->autograd && impl->autograd->grad_fn && impl->autograd->grad_fn->unique())
    if (const auto* node = dynamic_cast<PythonNode*>(impl->autograd->grad_fn.get())) visit_object(node->ctx());
  return result;
}

void clear_graph(TensorImpl* impl) {
  std::vector<std::unique_ptr<Held>> gone;  // a function may run Python code when it goes
  for_each_hook(impl, [&](const GradHook& h) {
    if (const PythonHook* hook = h.target<PythonHook>()) gone.push_back(std::move(*hook->function));
  });
}

PyObject* node_object(const NodeRef& node) { return py::cast(node).release().ptr(); }

void bind_autograd(py::module_& m) {
  m.def(
      "_backward",
      [](const Tensors& outputs, const std::optional<std::vector<OptTensor>>& grads, bool retain_graph,
         bool create_graph) {
        const Grads dys = optional_grads(grads);
        const WithoutGil without_gil;
        backward(outputs, dys, retain_graph, create_graph);
      },
      arg("tensors"), arg("grad_tensors"), arg("retain_graph"), arg("create_graph"), "See pyengine.autograd.backward.");
  m.def(
      "_grad",
      [](const Tensors& outputs, const std::optional<std::vector<OptTensor>>& grads, const Tensors& inputs,
         bool retain_graph, bool create_graph) {
        const Grads dys = optional_grads(grads);
        const WithoutGil without_gil;
        return grad(outputs, dys, inputs, retain_graph, create_graph);
      },
      arg("outputs"), arg("grad_outputs"), arg("inputs"), arg("retain_graph"), arg("create_graph"),
      "See pyengine.autograd.grad.");
  m.def("is_grad_enabled", &grad_enabled, "Whether operations record the graph, on this thread.");
  m.def("_set_grad_enabled", &set_grad_enabled, arg("mode"));
  m.def("_record_function", record_function);

  py::class_<Node, Ref<Node>>(m, "Node", "A recorded operation.")
      .def("name", node_name, "The operation's name, as PyTorch writes it: AddBackward0.")
      .def_property_readonly(
          "next_functions",
          [](const Node& n) {
            py::tuple edges(n.edges.size());
            for (size_t i = 0; i < n.edges.size(); ++i)
              edges[i] = py::make_tuple(n.edges[i].node, n.edges[i].output_nr);
            return edges;
          },
          "Where the gradients go: (node, output) for each input.")
      .def_property_readonly(
          "variable", [](const Node& n) { return n.leaf() ? Tensor(Ref<TensorImpl>(n.leaf())) : Tensor(); },
          "The leaf of an AccumulateGrad node.")
      .def("__repr__", [](const Node& n) { return join("<", node_name(n), " object, node ", n.id, ">"); });

  py::class_<HookHandle>(m, "_HookHandle").def("remove", &HookHandle::remove);

  Define define(m);
  define.method(
      "requires_grad_",
      [](const Tensor& x, bool v) {
        set_requires_grad(x, v);
        return x;
      },
      "Sets requires_grad, and returns the tensor.", arg("requires_grad") = true);
  define.method(
      "retain_grad", [](const Tensor& x) { retain_grad(x); }, "Keeps .grad also for a tensor that is not a leaf.");
  define.method("_register_hook", register_hook, "See register_hook.", arg("hook"));
  define.method(
      "detach_",
      [](const Tensor& x) {
        PE_CHECK(!x->view_base, Runtime, "detach_: can't detach a view in place; use detach()");
        if (x->autograd) set_grad_fn(x, nullptr, 0);
        return x;
      },
      "In place: cut from the graph.");
}

}  // namespace pe::bind
