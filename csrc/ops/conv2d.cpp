// Convolution (cross-correlation, as in PyTorch). Its two gradients are ops of their own: each of the three is linear
// in two tensors, and the derivatives of any of them are the other two, so higher derivatives need nothing more.
#include <atomic>

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

Conv2dShape make_shape(const Dims& x, const Dims& w, const Conv2dOptions& o) {
  Conv2dShape s;
  s.N = x[0], s.C = x[1], s.H = x[2], s.W = x[3], s.K = w[0], s.R = w[2], s.S = w[3];
  s.stride_h = o.stride_h, s.stride_w = o.stride_w, s.pad_h = o.pad_h, s.pad_w = o.pad_w;
  s.dilation_h = o.dilation_h, s.dilation_w = o.dilation_w, s.groups = o.groups;
  s.P = (s.H + 2 * s.pad_h - s.dilation_h * (s.R - 1) - 1) / s.stride_h + 1;
  s.Q = (s.W + 2 * s.pad_w - s.dilation_w * (s.S - 1) - 1) / s.stride_w + 1;
  return s;
}

void check(const Tensor& x, const Tensor& w, const Tensor& bias, const Conv2dOptions& o) {
  auto shapes = [&] { return join(" (x ", x.shape(), ", weight ", w.shape(), ", groups=", o.groups, ")"); };
  PE_CHECK(x.dim() == 4 && w.dim() == 4, Shape, "conv2d: expected x of 3 or 4 and weight of 4 dimensions", shapes());
  PE_CHECK(o.stride_h > 0 && o.stride_w > 0, Value, "conv2d: stride must be positive, got (", o.stride_h, ", ",
           o.stride_w, ")");
  PE_CHECK(o.dilation_h > 0 && o.dilation_w > 0, Value, "conv2d: dilation must be positive, got (", o.dilation_h, ", ",
           o.dilation_w, ")");
  PE_CHECK(o.pad_h >= 0 && o.pad_w >= 0, Value, "conv2d: padding must not be negative, got (", o.pad_h, ", ", o.pad_w,
           ")");
  constexpr int64_t kLargest = int64_t(1) << 31;
  PE_CHECK(o.stride_h < kLargest && o.stride_w < kLargest && o.dilation_h < kLargest && o.dilation_w < kLargest &&
               o.pad_h < kLargest && o.pad_w < kLargest,
           Value, "conv2d: stride, padding and dilation must be below 2^31");
  PE_CHECK(o.groups > 0 && w.shape()[0] % o.groups == 0, Value, "conv2d: groups must be positive and divide the ",
           w.shape()[0], " output channels", shapes());
  PE_CHECK(x.shape()[1] == w.shape()[1] * o.groups, Shape, "conv2d: weight expects ", w.shape()[1] * o.groups,
           " input channels, but x has ", x.shape()[1], shapes());
  PE_CHECK(w.shape()[2] > 0 && w.shape()[3] > 0, Shape, "conv2d: the kernel must not be empty", shapes());
  PE_CHECK(x.shape()[1] > 0 && w.shape()[0] > 0, Shape, "conv2d: expected at least one input and one output channel",
           shapes());
  for (int i = 0; i < 2; ++i) {
    const int64_t pad = i ? o.pad_w : o.pad_h, reach = (i ? o.dilation_w : o.dilation_h) * (w.shape()[2 + i] - 1) + 1;
    PE_CHECK(x.shape()[2 + i] + 2 * pad >= reach, Shape, "conv2d: the kernel (", reach,
             " wide with dilation) is larger than the padded input (", x.shape()[2 + i] + 2 * pad, ") in dimension ",
             2 + i, shapes());
  }
  PE_CHECK(!bias.defined() || (bias.dim() == 1 && bias.shape()[0] == w.shape()[0]), Shape,
           "conv2d: expected a bias of shape (", w.shape()[0], ",), got ", bias.defined() ? bias.shape() : Dims(),
           shapes());
}

std::atomic<bool> exact{false};

enum class Algorithm { planar, winograd, gemm };
enum class Pass { forward, backward_input, backward_weight };

// Whether Winograd's 36 multiplications per tile of (7 - R) x (7 - R) outputs are enough below R S per output to pay
// for its transforms. Images that fill their tiles badly (2x2, one row) are the exception; so are weight gradients from
// so few tiles that the transform of the result dominates. The limits are measured.
bool winograd_pays(const Conv2dShape& s, Pass pass) {
  if (s.R != s.S || (s.R != 3 && s.R != 5) || s.C < 16 || s.K < 16) return false;
  const int64_t side = 7 - s.R, height = pass == Pass::backward_input ? s.H : s.P,
                width = pass == Pass::backward_input ? s.W : s.Q;
  const int64_t tiles = ((height + side - 1) / side) * ((width + side - 1) / side);
  return 1.3 * 36 * static_cast<double>(tiles) <= static_cast<double>(s.R * s.S * height * width) &&
         (pass != Pass::backward_weight || s.N * tiles >= 8);
}

// By shape, dtype and the precision asked for, so that equal calls give equal results. The planar kernels, for channels
// too few to fill a vector, run along the width, on N C H W memory; the others take N H W C.
Algorithm choose(const Conv2dShape& s, DType t, Pass pass) {
  if (s.groups > 1 || s.stride_h > 1 || s.stride_w > 1 || s.dilation_h > 1 || s.dilation_w > 1) return Algorithm::gemm;
  if (s.pad_h < s.R && s.pad_w < s.S && s.C <= 8 && s.K <= 32) return Algorithm::planar;
  if (t == DType::Float32 && !exact.load(std::memory_order_relaxed) && winograd_pays(s, pass))
    return Algorithm::winograd;
  return Algorithm::gemm;
}

template <class Kernel>
Kernel kernel_of(Algorithm a, Kernel planar, Kernel winograd, Kernel gemm) {
  return a == Algorithm::planar ? planar : a == Algorithm::winograd ? winograd : gemm;
}

Tensor layout(const Tensor& x, Algorithm a) { return a == Algorithm::planar ? contiguous(x) : channels_last(x); }

Tensor empty_layout(int64_t N, int64_t C, int64_t H, int64_t W, Algorithm a, DType t) {
  const Dims shape = {N, C, H, W};
  return a == Algorithm::planar ? empty(shape, t) : empty_strided(shape, channels_last_strides(shape), t);
}

}  // namespace

void set_conv_exact(bool on) { exact.store(on, std::memory_order_relaxed); }
bool conv_exact() { return exact.load(std::memory_order_relaxed); }

Tensor conv2d_backward_input(const Tensor& dy0, const Tensor& weight, const Dims& x_shape,
                             const Conv2dOptions& options) {
  const Conv2dShape s = make_shape(x_shape, weight.shape(), options);
  const Algorithm algorithm = choose(s, dy0.dtype(), Pass::backward_input);
  const Tensor dy = layout(detach(dy0), algorithm), w = contiguous(detach(weight));
  const Tensor dx = empty_layout(s.N, s.C, s.H, s.W, algorithm, dy.dtype());
  const auto kernel = kernel_of(algorithm, kernels().conv2d_planar_backward_input,
                                kernels().conv2d_winograd_backward_input, kernels().conv2d_backward_input);
  if (dx.numel() > 0) kernel(s, dx.dtype(), dy.data(), w.data(), dx.data());
  if (recording(dy0, weight))
    record("conv2d_backward_input", dx, {dy0, weight},
           [dy = Saved(dy0), w = Saved(weight), options](const Backward& b) {
             Grads g(2);
             const Tensor& ddx = b.dy[0];
             if (b.needed[0]) g[0] = conv2d(ddx, w.get(b.node), Tensor(), options);
             if (b.needed[1]) g[1] = conv2d_backward_weight(ddx, dy.get(b.node), w.get(b.node).shape(), options);
             return g;
           });
  return dx;
}

Tensor conv2d_backward_weight(const Tensor& x0, const Tensor& dy0, const Dims& weight_shape,
                              const Conv2dOptions& options) {
  const Conv2dShape s = make_shape(x0.shape(), weight_shape, options);
  const Algorithm algorithm = choose(s, x0.dtype(), Pass::backward_weight);
  const Tensor x = layout(detach(x0), algorithm), dy = layout(detach(dy0), algorithm);
  const Tensor dw = empty(weight_shape, x.dtype());
  const auto kernel = kernel_of(algorithm, kernels().conv2d_planar_backward_weight,
                                kernels().conv2d_winograd_backward_weight, kernels().conv2d_backward_weight);
  if (x.numel() == 0)
    copy_into(dw, scalar_tensor(0, dw.dtype()));
  else
    kernel(s, dw.dtype(), x.data(), dy.data(), dw.data());
  if (recording(x0, dy0))
    record("conv2d_backward_weight", dw, {x0, dy0}, [x = Saved(x0), dy = Saved(dy0), options](const Backward& b) {
      Grads g(2);
      const Tensor& ddw = b.dy[0];
      if (b.needed[0]) g[0] = conv2d_backward_input(dy.get(b.node), ddw, x.get(b.node).shape(), options);
      if (b.needed[1]) g[1] = conv2d(x.get(b.node), ddw, Tensor(), options);
      return g;
    });
  return dw;
}

Tensor conv2d(const Tensor& input, const Tensor& weight0, const Tensor& bias0, const Conv2dOptions& options) {
  if (input.dim() == 3 && weight0.dim() == 4) return squeeze(conv2d(unsqueeze(input, 0), weight0, bias0, options), {0});
  check(input, weight0, bias0, options);
  const DType t = promote(input, weight0);
  PE_CHECK(is_floating(t), Type, "conv2d: expected floating point tensors, got ", dtype_name(input.dtype()), " and ",
           dtype_name(weight0.dtype()));
  const Tensor x0 = to(input, t), weight = to(weight0, t), bias = bias0.defined() ? to(bias0, t) : Tensor();
  const Conv2dShape s = make_shape(x0.shape(), weight.shape(), options);
  checked_numel({s.N, s.K, s.P, s.Q}, "conv2d");
  const Algorithm algorithm = choose(s, t, Pass::forward);
  // Recorded with the tensor that was given, computed and saved in the kernels' layout.
  const Tensor x = layout(x0, algorithm), w = contiguous(weight);
  const Tensor b = bias.defined() ? contiguous(detach(bias)) : Tensor();
  const Tensor y = empty_layout(s.N, s.K, s.P, s.Q, algorithm, t);
  const auto kernel = kernel_of(algorithm, kernels().conv2d_planar, kernels().conv2d_winograd, kernels().conv2d);
  if (y.numel() > 0) kernel(s, t, x.data(), w.data(), b.defined() ? b.data() : nullptr, y.data());
  if (recording(x, w, bias))
    record("conv2d", y, {x, w, bias},
           [x = Saved(requires_grad(w) ? x : Tensor()), w = Saved(requires_grad(x) ? w : Tensor()), x_shape = x.shape(),
            w_shape = w.shape(), options](const Backward& back) {
             Grads g(3);
             const Tensor& dy = back.dy[0];
             if (back.needed[0]) g[0] = conv2d_backward_input(dy, w.get(back.node), x_shape, options);
             if (back.needed[1]) g[1] = conv2d_backward_weight(x.get(back.node), dy, w_shape, options);
             if (back.needed[2]) g[2] = sum(dy, {0, 2, 3});
             return g;
           });
  return y;
}

}  // namespace pe::ops
