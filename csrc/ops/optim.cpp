#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

// The kernels want every parameter's tensors dense and in one order; a gradient in another layout is copied.
Tensor in_layout_of(const Tensor& p, const Tensor& t) {
  if (t.strides() == p.strides() && t.dtype() == p.dtype()) return t;
  const Tensor copy = empty_like(p);
  copy_into(copy, t);
  return copy;
}

void check_param(const Tensor& p, const Tensor& g, const char* op) {
  PE_CHECK(is_floating(p.dtype()), Type, op, ": expected floating point parameters, got ", dtype_name(p.dtype()));
  PE_CHECK(p.is_dense(), Value, op, ": expected parameters without gaps in memory, got shape ", p.shape(),
           " with strides ", p.strides());
  p->storage->compute_readers();
  PE_CHECK(g.shape() == p.shape(), Shape, op, ": gradient has shape ", g.shape(), ", its parameter ", p.shape());
}

void check_state(const Tensor& p, const Tensor& s, const char* op) {
  PE_CHECK(s.shape() == p.shape() && s.strides() == p.strides() && s.dtype() == p.dtype(), Value, op,
           ": optimizer state must match its parameter in shape, layout and dtype, got ", describe(s), " for ",
           describe(p));
}

template <class Kernel, class Options>
void run_by_dtype(const std::vector<Tensor>& params, const std::vector<OptimTensor>& entries, Kernel kernel,
                  const Options& options) {
  for (const DType t : {DType::Float32, DType::Float64}) {
    std::vector<OptimTensor> mine;
    for (size_t i = 0; i < params.size(); ++i)
      if (params[i].dtype() == t && entries[i].n > 0) mine.push_back(entries[i]);
    if (!mine.empty()) kernel(t, int64_t(mine.size()), mine.data(), options);
  }
  for (const Tensor& p : params) mark_written(p);
}

}  // namespace

void sgd_step(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
              std::vector<Tensor>& momentum_buffers, const SgdOptions& options) {
  PE_CHECK(grads.size() == params.size() && momentum_buffers.size() == params.size(), Value, "sgd_step: got ",
           params.size(), " parameters, ", grads.size(), " gradients and ", momentum_buffers.size(),
           " momentum buffers");
  std::vector<OptimTensor> entries;
  std::vector<Tensor> alive;
  for (size_t i = 0; i < params.size(); ++i) {
    const Tensor& p = params[i];
    check_param(p, grads[i], "sgd_step");
    alive.push_back(in_layout_of(p, grads[i]));
    OptimTensor e = {p.numel(), p.data(), alive.back().data(), nullptr, nullptr, nullptr, 2};
    if (options.momentum != 0) {
      if (!momentum_buffers[i].defined()) {
        momentum_buffers[i] = empty_like(p);
        e.step = 1;
      }
      check_state(p, momentum_buffers[i], "sgd_step");
      e.state0 = momentum_buffers[i].data();
    }
    entries.push_back(e);
  }
  run_by_dtype(params, entries, kernels().sgd_step, options);
}

void adam_step(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& exp_avgs,
               const std::vector<Tensor>& exp_avg_sqs, const std::vector<Tensor>& max_exp_avg_sqs,
               const std::vector<double>& steps, const AdamOptions& options) {
  const size_t n = params.size();
  PE_CHECK(grads.size() == n && exp_avgs.size() == n && exp_avg_sqs.size() == n && steps.size() == n &&
               (!options.amsgrad || max_exp_avg_sqs.size() == n),
           Value, "adam_step: the lists of parameters, gradients and state must have the same length");
  std::vector<OptimTensor> entries;
  std::vector<Tensor> alive;
  for (size_t i = 0; i < n; ++i) {
    const Tensor& p = params[i];
    check_param(p, grads[i], "adam_step");
    check_state(p, exp_avgs[i], "adam_step");
    check_state(p, exp_avg_sqs[i], "adam_step");
    if (options.amsgrad) check_state(p, max_exp_avg_sqs[i], "adam_step");
    alive.push_back(in_layout_of(p, grads[i]));
    entries.push_back({p.numel(), p.data(), alive.back().data(), exp_avgs[i].data(), exp_avg_sqs[i].data(),
                       options.amsgrad ? max_exp_avg_sqs[i].data() : nullptr, steps[i]});
  }
  run_by_dtype(params, entries, kernels().adam_step, options);
}

}  // namespace pe::ops
