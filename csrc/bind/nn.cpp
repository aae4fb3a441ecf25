#include "bind/define.h"
#include "ops/ops.h"

namespace py = pybind11;
using py::arg;

namespace pe::bind {

namespace {

// An int for both, or (height, width).
std::pair<int64_t, int64_t> pair_of(const Dims& d, const char* op, const char* name) {
  PE_CHECK(d.size() == 1 || d.size() == 2, Value, op, ": ", name, " must be an int or a pair of ints, got ", d);
  return {d[0], d.back()};
}

Tensor conv2d(const Tensor& x, const Tensor& weight, const OptTensor& bias, const Dims& stride,
              const py::object& padding, const Dims& dilation, int64_t groups) {
  ops::Conv2dOptions o;
  std::tie(o.stride_h, o.stride_w) = pair_of(stride, "conv2d", "stride");
  std::tie(o.dilation_h, o.dilation_w) = pair_of(dilation, "conv2d", "dilation");
  o.groups = groups;
  Tensor input = x;
  if (py::isinstance<py::str>(padding)) {
    const std::string mode = padding.cast<std::string>();
    PE_CHECK(mode == "same" || mode == "valid", Value, "conv2d: padding must be 'same', 'valid' or integers, got '",
             mode, "'");
    if (mode == "same") {
      PE_CHECK(o.stride_h == 1 && o.stride_w == 1, Value, "conv2d: padding='same' needs stride 1, got ", stride);
      PE_CHECK(weight.dim() == 4, Shape, "conv2d: weight must have 4 dimensions, got shape ", weight.shape());
      const int64_t total_h = o.dilation_h * (weight.shape()[2] - 1), total_w = o.dilation_w * (weight.shape()[3] - 1);
      o.pad_h = total_h / 2, o.pad_w = total_w / 2;
      if (total_h % 2 || total_w % 2)
        input = ops::pad(x, {0, total_w % 2, 0, total_h % 2}, "constant", 0);  // the odd one at the far side
    }
  } else {
    std::tie(o.pad_h, o.pad_w) = pair_of(padding.cast<Dims>(), "conv2d", "padding");
  }
  return ops::conv2d(input, weight, or_undefined(bias), o);
}

ops::Pool2dOptions pool_options(const char* op, const Dims& kernel, const OptDims& stride, const Dims& padding,
                                bool ceil_mode) {
  ops::Pool2dOptions o;
  std::tie(o.kernel_h, o.kernel_w) = pair_of(kernel, op, "kernel_size");
  std::tie(o.stride_h, o.stride_w) = pair_of(stride && !stride->empty() ? *stride : kernel, op, "stride");
  std::tie(o.pad_h, o.pad_w) = pair_of(padding, op, "padding");
  o.ceil_mode = ceil_mode;
  return o;
}

// None keeps the input's size.
std::pair<int64_t, int64_t> output_size(const Tensor& x, const py::object& size, const char* op) {
  PE_CHECK(x.dim() == 3 || x.dim() == 4, Shape, op, ": expected an input of 3 or 4 dimensions, got shape ", x.shape());
  auto one = [&](const py::handle& v, int64_t d) { return v.is_none() ? x.size(d) : v.cast<int64_t>(); };
  if (!py::isinstance<py::sequence>(size)) return {one(size, -2), one(size, -1)};
  const auto s = size.cast<py::sequence>();
  PE_CHECK(s.size() == 2, Value, op, ": output_size must be an int or a pair, got ", std::string(py::repr(size)));
  return {one(s[0], -2), one(s[1], -1)};
}

Tensor softmax(const Tensor& x, int64_t dim, const OptDType& dtype, bool log) {
  const Tensor v = dtype ? ops::to(x, *dtype) : x;
  return log ? ops::log_softmax(v, dim) : ops::softmax(v, dim);
}

Tensors tensors_of(const std::vector<OptTensor>& list) {
  Tensors result;
  for (const auto& t : list) result.push_back(or_undefined(t));
  return result;
}

}  // namespace

void bind_nn(py::module_& m) {
  Define define(m);

  define.function(
      "linear", [](const Tensor& x, const Tensor& w, const OptTensor& b) { return ops::linear(x, w, or_undefined(b)); },
      "input (..., in) times weight (out, in) transposed, plus bias (out,).", arg("input"), arg("weight"),
      arg("bias") = py::none());
  define.function("conv2d", conv2d,
                  "Cross-correlation of input (N, C, H, W) or (C, H, W) with weight (K, C / groups, R, S), plus bias "
                  "(K,). stride, padding, dilation: int or pair; padding also 'same', "
                  "'valid'. The output's height is floor((H + 2 padding - dilation (R - 1) - 1) / stride) + 1.",
                  arg("input"), arg("weight"), arg("bias") = py::none(), arg("stride") = Dims{1}, arg("padding") = 0,
                  arg("dilation") = Dims{1}, arg("groups") = 1);

  m.def(
      "set_conv_precision",
      [](const std::string& mode) {
        PE_CHECK(mode == "fast" || mode == "exact", Value, "set_conv_precision: expected 'fast' or 'exact', got '",
                 mode, "'");
        ops::set_conv_exact(mode == "exact");
      },
      arg("mode"),
      "'fast' (the default) lets float32 convolutions use transforms that round up to ten times coarser than a sum of "
      "products; 'exact' does not. For all threads.");
  m.def(
      "get_conv_precision", [] { return ops::conv_exact() ? "exact" : "fast"; },
      "What set_conv_precision chose: 'fast' or 'exact'.");

  define.function(
      "max_pool2d",
      [](const Tensor& x, const Dims& kernel, const OptDims& stride, const Dims& padding, const Dims& dilation,
         bool ceil_mode, bool return_indices) -> py::object {
        ops::Pool2dOptions o = pool_options("max_pool2d", kernel, stride, padding, ceil_mode);
        std::tie(o.dilation_h, o.dilation_w) = pair_of(dilation, "max_pool2d", "dilation");
        if (!return_indices) return py::cast(ops::max_pool2d(x, o));
        return py::cast(ops::max_pool2d_with_indices(x, o));
      },
      "The maximum of each window; stride defaults to kernel_size. With return_indices also the positions h * W + w.",
      arg("input"), arg("kernel_size"), arg("stride") = py::none(), arg("padding") = Dims{0}, arg("dilation") = Dims{1},
      arg("ceil_mode") = false, arg("return_indices") = false);
  define.function(
      "avg_pool2d",
      [](const Tensor& x, const Dims& kernel, const OptDims& stride, const Dims& padding, bool ceil_mode,
         bool count_include_pad, std::optional<int64_t> divisor) {
        ops::Pool2dOptions o = pool_options("avg_pool2d", kernel, stride, padding, ceil_mode);
        o.count_include_pad = count_include_pad;
        if (divisor) PE_CHECK(*divisor != 0, Value, "avg_pool2d: divisor_override must not be zero");
        o.divisor = divisor.value_or(0);
        return ops::avg_pool2d(x, o);
      },
      "The mean of each window; stride defaults to kernel_size.", arg("input"), arg("kernel_size"),
      arg("stride") = py::none(), arg("padding") = Dims{0}, arg("ceil_mode") = false, arg("count_include_pad") = true,
      arg("divisor_override") = py::none());
  define.function(
      "adaptive_avg_pool2d",
      [](const Tensor& x, const py::object& size) {
        const auto [P, Q] = output_size(x, size, "adaptive_avg_pool2d");
        return ops::adaptive_avg_pool2d(x, P, Q);
      },
      "The mean over output_size windows that cover the input.", arg("input"), arg("output_size"));
  define.function(
      "adaptive_max_pool2d",
      [](const Tensor& x, const py::object& size, bool return_indices) -> py::object {
        const auto [P, Q] = output_size(x, size, "adaptive_max_pool2d");
        const auto [y, indices] = ops::adaptive_max_pool2d(x, P, Q);
        if (!return_indices) return py::cast(y);
        return py::make_tuple(y, indices);
      },
      "The maximum over output_size windows that cover the input.", arg("input"), arg("output_size"),
      arg("return_indices") = false);

  define.function(
      "batch_norm",
      [](const Tensor& x, const OptTensor& mean, const OptTensor& var, const OptTensor& w, const OptTensor& b,
         bool training, double momentum, double eps) {
        return ops::batch_norm(x, or_undefined(mean), or_undefined(var), or_undefined(w), or_undefined(b), training,
                               momentum, eps);
      },
      "Each channel (dimension 1) normalized by the batch's mean and biased variance (training, which also updates the "
      "running ones with the unbiased variance), or by "
      "the running ones (Ioffe, Szegedy 2015).",
      arg("input"), arg("running_mean"), arg("running_var"), arg("weight") = py::none(), arg("bias") = py::none(),
      arg("training") = false, arg("momentum") = 0.1, arg("eps") = 1e-5);

  define.function(
      "layer_norm",
      [](const Tensor& x, const Dims& shape, const OptTensor& w, const OptTensor& b, double eps) {
        return ops::layer_norm(x, shape, or_undefined(w), or_undefined(b), eps);
      },
      "The last dimensions, those of normalized_shape, normalized together by their mean and biased variance; then "
      "times weight, plus bias (Ba, Kiros, Hinton 2016).",
      arg("input"), arg("normalized_shape"), arg("weight") = py::none(), arg("bias") = py::none(), arg("eps") = 1e-5);

  for (const bool log : {false, true})
    define.both(
        log ? "log_softmax" : "softmax",
        [log](const Tensor& x, int64_t dim, const OptDType& t) { return softmax(x, dim, t, log); },
        log ? "log(softmax(input)) along dim, computed without overflow."
            : "exp(input) / sum(exp(input)) along dim, computed without overflow.",
        arg("dim"), arg("dtype") = py::none());
  define.function(
      "cross_entropy",
      [](const Tensor& x, const Tensor& target, const OptTensor& w, int64_t ignore, const std::string& reduction,
         double smoothing) { return ops::cross_entropy(x, target, or_undefined(w), ignore, reduction, smoothing); },
      "Cross entropy of logits (N, C, ...) and class indices (N, ...) or probabilities (N, C, ...), one fused op. "
      "label_smoothing mixes the target with the uniform "
      "distribution (Szegedy et al. 2016).",
      arg("input"), arg("target"), arg("weight") = py::none(), arg("ignore_index") = -100, arg("reduction") = "mean",
      arg("label_smoothing") = 0.0);
  define.function(
      "nll_loss",
      [](const Tensor& x, const Tensor& target, const OptTensor& w, int64_t ignore, const std::string& reduction) {
        return ops::nll_loss(x, target, or_undefined(w), ignore, reduction);
      },
      "Minus the log-probability (N, C, ...) of the target classes (N, ...).", arg("input"), arg("target"),
      arg("weight") = py::none(), arg("ignore_index") = -100, arg("reduction") = "mean");
  define.function(
      "dropout",
      [](const Tensor& x, double p, bool training, bool inplace, const py::object& generator) {
        const Tensor y = ops::dropout(x, p, training, generator_of(generator));
        if (!inplace || y.same(x)) return y;
        ops::assign_inplace(x, y, "dropout");
        return x;
      },
      "Elements set to 0 with probability p, the others scaled by 1 / (1 - p), while training (Srivastava et al. "
      "2014).",
      arg("input"), arg("p") = 0.5, arg("training") = true, arg("inplace") = false, arg("generator") = py::none());

  m.def(
      "sgd_step",
      [](const Tensors& params, const Tensors& grads, const py::list& buffers, double lr, double momentum,
         double dampening, double weight_decay, bool nesterov, bool maximize) {
        Tensors momentum_buffers = tensors_of(buffers.cast<std::vector<OptTensor>>());
        ops::sgd_step(params, grads, momentum_buffers, {lr, momentum, dampening, weight_decay, nesterov, maximize});
        for (size_t i = 0; i < momentum_buffers.size(); ++i)
          if (py::object(buffers[i]).is_none()) buffers[i] = momentum_buffers[i];
      },
      "One SGD step on all parameters, in place. A None in momentum_buffers is replaced by a new buffer when momentum "
      "is not 0.",
      arg("params"), arg("grads"), arg("momentum_buffers"), arg("lr"), arg("momentum") = 0.0, arg("dampening") = 0.0,
      arg("weight_decay") = 0.0, arg("nesterov") = false, arg("maximize") = false);
  m.def(
      "adam_step",
      [](const Tensors& params, const Tensors& grads, const Tensors& avgs, const Tensors& sqs, const Tensors& max_sqs,
         const std::vector<double>& steps, double lr, double beta1, double beta2, double eps, double weight_decay,
         bool decoupled, bool amsgrad, bool maximize) {
        ops::adam_step(params, grads, avgs, sqs, max_sqs, steps,
                       {lr, beta1, beta2, eps, weight_decay, decoupled, amsgrad, maximize});
      },
      "One Adam (Kingma, Ba 2015) or AdamW (decoupled; Loshchilov, Hutter 2019) step on all parameters, in place; "
      "steps count from 1.",
      arg("params"), arg("grads"), arg("exp_avgs"), arg("exp_avg_sqs"), arg("max_exp_avg_sqs"), arg("steps"), arg("lr"),
      arg("beta1"), arg("beta2"), arg("eps"), arg("weight_decay"), arg("decoupled"), arg("amsgrad"), arg("maximize"));
}

}  // namespace pe::bind
