#include <algorithm>

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

// PyTorch's rule: with ceil_mode a last window may hang over the far edge, but must start inside the input or its left
// padding.
int64_t output_size(int64_t n, int64_t kernel, int64_t stride, int64_t pad, int64_t dilation, bool ceil_mode) {
  const int64_t room = n + 2 * pad - dilation * (kernel - 1) - 1;
  if (room < 0 && !ceil_mode) return 0;
  int64_t out = (room + (ceil_mode ? stride - 1 : 0)) / stride + 1;
  if (ceil_mode && (out - 1) * stride >= n + pad) --out;
  return out;
}

Tensor layout(const Tensor& x, bool channels_last_memory) {
  return channels_last_memory ? channels_last(x) : contiguous(x);
}

Tensor empty_layout(const Pool2dShape& s, int64_t H, int64_t W, DType t) {
  const Dims shape = {s.N, s.C, H, W};
  return s.channels_last ? empty_strided(shape, channels_last_strides(shape), t) : empty(shape, t);
}

void check_input(const Tensor& x, const char* op) {
  PE_CHECK(x.dim() == 4, Shape, op, ": expected an input of 3 or 4 dimensions, got shape ", x.shape());
  PE_CHECK(is_floating(x.dtype()), Type, op, ": expected a floating point tensor, got ", dtype_name(x.dtype()));
  PE_CHECK(x.shape()[1] > 0 && x.shape()[2] > 0 && x.shape()[3] > 0, Shape, op,
           ": expected non-zero channels, height and width, got shape ", x.shape());
}

Pool2dShape make_shape(const Tensor& x, const Pool2dOptions& o, const char* op) {
  check_input(x, op);
  auto pair = [](int64_t a, int64_t b) { return join("(", a, ", ", b, ")"); };
  PE_CHECK(o.kernel_h > 0 && o.kernel_w > 0, Value, op, ": kernel_size must be positive, got ",
           pair(o.kernel_h, o.kernel_w));
  PE_CHECK(o.stride_h > 0 && o.stride_w > 0, Value, op, ": stride must be positive, got ",
           pair(o.stride_h, o.stride_w));
  PE_CHECK(o.dilation_h > 0 && o.dilation_w > 0, Value, op, ": dilation must be positive, got ",
           pair(o.dilation_h, o.dilation_w));
  constexpr int64_t kLargest = int64_t(1) << 31;  // products of two do not overflow
  PE_CHECK(o.kernel_h < kLargest && o.kernel_w < kLargest && o.stride_h < kLargest && o.stride_w < kLargest &&
               o.dilation_h < kLargest && o.dilation_w < kLargest && o.pad_h < kLargest && o.pad_w < kLargest,
           Value, op, ": kernel_size, stride, padding and dilation must be below 2^31");
  PE_CHECK(o.pad_h >= 0 && o.pad_w >= 0 && 2 * o.pad_h <= o.kernel_h && 2 * o.pad_w <= o.kernel_w, Value, op,
           ": padding must not be negative and at most half of the kernel size, got padding ", pair(o.pad_h, o.pad_w),
           " and kernel size ", pair(o.kernel_h, o.kernel_w));
  Pool2dShape s;
  s.N = x.shape()[0], s.C = x.shape()[1], s.H = x.shape()[2], s.W = x.shape()[3];
  s.kernel_h = o.kernel_h, s.kernel_w = o.kernel_w, s.stride_h = o.stride_h, s.stride_w = o.stride_w;
  s.pad_h = o.pad_h, s.pad_w = o.pad_w, s.dilation_h = o.dilation_h, s.dilation_w = o.dilation_w;
  s.P = output_size(s.H, o.kernel_h, o.stride_h, o.pad_h, o.dilation_h, o.ceil_mode);
  s.Q = output_size(s.W, o.kernel_w, o.stride_w, o.pad_w, o.dilation_w, o.ceil_mode);
  PE_CHECK(s.P > 0 && s.Q > 0, Shape, op, ": input of shape ", x.shape(), " is too small for kernel size ",
           pair(o.kernel_h, o.kernel_w), " with padding ", pair(o.pad_h, o.pad_w));
  s.divisor = o.divisor;
  s.count_include_pad = o.count_include_pad;
  s.channels_last = x.is_channels_last() && !x.is_contiguous();
  s.argmax_bytes = o.kernel_h * o.kernel_w <= 256 ? 1 : 4;
  return s;
}

Pool2dShape adaptive_shape(const Tensor& x, int64_t P, int64_t Q, const char* op) {
  check_input(x, op);
  PE_CHECK(P > 0 && Q > 0, Value, op, ": output_size must be positive, got (", P, ", ", Q, ")");
  Pool2dShape s = {};
  s.N = x.shape()[0], s.C = x.shape()[1], s.H = x.shape()[2], s.W = x.shape()[3], s.P = P, s.Q = Q;
  s.channels_last = x.is_channels_last() && !x.is_contiguous();
  s.argmax_bytes = 4;
  return s;
}

// Positions h * W + w as int64, from what the kernel stored.
Tensor positions(const Pool2dShape& s, const Tensor& argmax) {
  const Tensor code = to(argmax, DType::Int64);
  if (s.argmax_bytes == 4) return contiguous(code);
  auto number = [](int64_t v) { return scalar_tensor(v, DType::Int64); };
  const Tensor r = floor_divide(code, number(s.kernel_w)), c = remainder(code, number(s.kernel_w));
  const Tensor p = reshape(arange(int64_t(0), s.P, int64_t(1), DType::Int64), {s.P, 1}),
               q = arange(int64_t(0), s.Q, int64_t(1), DType::Int64);
  const Tensor h = sub(add(mul(r, number(s.dilation_h)), mul(p, number(s.stride_h))), number(s.pad_h));
  const Tensor w = sub(add(mul(c, number(s.dilation_w)), mul(q, number(s.stride_w))), number(s.pad_w));
  return contiguous(add(mul(h, number(s.W)), w));
}

// y and what backward needs; record adds dx[argmax] += dy, whose own derivative gathers at the same places.
struct MaxPooled {
  Tensor y, argmax;
};

template <class Forward, class BackwardKernel>
MaxPooled max_pool(const char* name, const Tensor& x0, const Pool2dShape& s, Forward forward,
                   BackwardKernel backward_kernel, bool keep_argmax) {
  const Tensor x = layout(x0, s.channels_last);
  const Tensor y = empty_layout(s, s.P, s.Q, x.dtype());
  Tensor argmax;
  if (keep_argmax || recording(x))
    argmax = empty_layout(s, s.P, s.Q, s.argmax_bytes == 1 ? DType::UInt8 : DType::Int32);
  if (y.numel() > 0) forward(s, x.dtype(), x.data(), y.data(), argmax.defined() ? argmax.data() : nullptr);
  if (recording(x))
    record(name, y, {x}, [s, argmax, backward_kernel](const Backward& b) {
      const Tensor dy = layout(b.dy[0], s.channels_last);
      if (b.create_graph()) {
        const Tensor flat = scatter_add(full({s.N, s.C, s.H * s.W}, 0, dy.dtype()), 2,
                                        reshape(positions(s, argmax), {s.N, s.C, s.P * s.Q}),
                                        contiguous(reshape(dy, {s.N, s.C, s.P * s.Q})));
        return Grads{reshape(flat, {s.N, s.C, s.H, s.W})};
      }
      const Tensor dx = empty_layout(s, s.H, s.W, dy.dtype());
      if (dx.numel() > 0) backward_kernel(s, dy.dtype(), dy.data(), argmax.data(), dx.data());
      return Grads{dx};
    });
  return {y, argmax};
}

// Average pooling is linear: its gradient is an op whose gradient is average pooling again.
template <class Forward, class BackwardKernel>
Tensor average(const char* name, const Tensor& x0, const Pool2dShape& s, Forward forward,
               BackwardKernel backward_kernel);

template <class Forward, class BackwardKernel>
Tensor average_backward(const char* name, const Tensor& dy0, const Pool2dShape& s, Forward forward,
                        BackwardKernel backward_kernel) {
  const Tensor dy = layout(dy0, s.channels_last);
  const Tensor dx = empty_layout(s, s.H, s.W, dy.dtype());
  if (dx.numel() > 0) backward_kernel(s, dy.dtype(), dy.data(), dx.data());
  if (recording(dy))
    record(name, dx, {dy},
           [=](const Backward& b) { return Grads{average(name, b.dy[0], s, forward, backward_kernel)}; });
  return dx;
}

template <class Forward, class BackwardKernel>
Tensor average(const char* name, const Tensor& x0, const Pool2dShape& s, Forward forward,
               BackwardKernel backward_kernel) {
  const Tensor x = layout(x0, s.channels_last);
  const Tensor y = empty_layout(s, s.P, s.Q, x.dtype());
  if (y.numel() > 0) forward(s, x.dtype(), x.data(), y.data());
  if (recording(x))
    record(name, y, {x},
           [=](const Backward& b) { return Grads{average_backward(name, b.dy[0], s, forward, backward_kernel)}; });
  return y;
}

// Runs f on a batch of one where x has no batch dimension.
template <class F>
Tensor batched(const Tensor& x, const F& f) {
  return x.dim() == 3 ? squeeze(f(unsqueeze(x, 0)), {0}) : f(x);
}
template <class F>
Pair batched_pair(const Tensor& x, const F& f) {
  if (x.dim() != 3) return f(x);
  const auto [y, indices] = f(unsqueeze(x, 0));
  return {squeeze(y, {0}), squeeze(indices, {0})};
}

}  // namespace

Tensor max_pool2d(const Tensor& input, const Pool2dOptions& options) {
  return batched(input, [&](const Tensor& x) {
    const Pool2dShape s = make_shape(x, options, "max_pool2d");
    return max_pool("max_pool2d", x, s, kernels().max_pool2d, kernels().max_pool2d_backward, false).y;
  });
}

Pair max_pool2d_with_indices(const Tensor& input, const Pool2dOptions& options) {
  return batched_pair(input, [&](const Tensor& x) -> Pair {
    const Pool2dShape s = make_shape(x, options, "max_pool2d");
    const MaxPooled pooled = max_pool("max_pool2d", x, s, kernels().max_pool2d, kernels().max_pool2d_backward, true);
    return {pooled.y, positions(s, pooled.argmax)};
  });
}

Tensor avg_pool2d(const Tensor& input, const Pool2dOptions& options) {
  PE_CHECK(options.divisor >= 0, Value, "avg_pool2d: divisor_override must be positive, got ", options.divisor);
  return batched(input, [&](const Tensor& x) {
    const Pool2dShape s = make_shape(x, options, "avg_pool2d");
    return average("avg_pool2d", x, s, kernels().avg_pool2d, kernels().avg_pool2d_backward);
  });
}

Tensor adaptive_avg_pool2d(const Tensor& input, int64_t P, int64_t Q) {
  return batched(input, [&](const Tensor& x) {
    const Pool2dShape s = adaptive_shape(x, P, Q, "adaptive_avg_pool2d");
    return average("adaptive_avg_pool2d", x, s, kernels().adaptive_avg_pool2d, kernels().adaptive_avg_pool2d_backward);
  });
}

Pair adaptive_max_pool2d(const Tensor& input, int64_t P, int64_t Q) {
  return batched_pair(input, [&](const Tensor& x) -> Pair {
    const Pool2dShape s = adaptive_shape(x, P, Q, "adaptive_max_pool2d");
    const MaxPooled pooled = max_pool("adaptive_max_pool2d", x, s, kernels().adaptive_max_pool2d,
                                      kernels().adaptive_max_pool2d_backward, true);
    return {pooled.y, positions(s, pooled.argmax)};
  });
}

}  // namespace pe::ops
