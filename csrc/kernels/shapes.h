// The plain structs that describe a kernel's work. Shared by every device; no standard library, no methods with loops.
// Strides are counted in elements. Convolution letters, used everywhere:
//   N images, C input channels, H W input height and width, K output channels, R S kernel height and width,
//   P Q output height and width.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace pe {

constexpr int kMaxDims = 12;
constexpr int kMaxOperands = 4;

// One elementwise iteration space over up to four operands; operand 0 is the output. Dimensions run from outermost to
// innermost, sizes of 1 are dropped and neighbours merged where every operand's memory allows (so a dense loop has
// ndim == 1 and stride 1); a broadcast operand has stride 0. A scalar has ndim == 1, size 1. numel may be 0.
struct Loop {
  int ndim;
  int operands;
  int64_t numel;
  int64_t size[kMaxDims];
  int64_t stride[kMaxOperands][kMaxDims];
};

// y[out] = reduce over red of x[out, red]. Both dimension lists are merged as in Loop (outermost first); an empty list
// has ndim 1, size 1. The order of summation may depend on these sizes and strides only, never on the number of
// threads.
struct ReduceShape {
  int out_ndim, red_ndim;
  int64_t out_numel, red_numel;
  int64_t out_size[kMaxDims], x_out_stride[kMaxDims], y_stride[kMaxDims];
  int64_t red_size[kMaxDims], x_red_stride[kMaxDims];
};

// C[b] (m×n) = op(A[b]) (m×k) · op(B[b]) (k×n) (+ C if accumulate) (+ bias per column). Row-major with leading
// dimensions: A is m×k with row stride lda, or, when trans_a, stored as k×m with row stride lda. Likewise B. k may be
// 0.
struct GemmShape {
  int64_t m, n, k;
  int64_t lda, ldb, ldc;
  int64_t batch, batch_a, batch_b, batch_c;  // number of products and the distances between their operands
  bool trans_a, trans_b, accumulate;
};

struct Conv2dShape {
  int64_t N, C, H, W, K, R, S, P, Q;
  int64_t stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w, groups;
};

struct Pool2dShape {
  int64_t N, C, H, W, P, Q;
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int64_t divisor;         // average pooling: > 0 overrides the divisor
  bool count_include_pad;  // average pooling: padding counts in the divisor (never what ceil_mode adds beyond it)
  bool channels_last;      // memory of x and y: N H W C, else N C H W
  int argmax_bytes;  // 1: argmax is uint8, the position r * kernel_w + s in the window; 4: int32, h * W + w in the
                     // plane
};

struct BatchNormShape {
  int64_t N, C, L;     // L positions per image and channel
  bool channels_last;  // memory: N L C, else N C L
};

struct CrossEntropyShape {
  int64_t rows, classes;
  double label_smoothing;
  int64_t ignore_index;
  bool soft_targets;  // target is rows×classes probabilities of x's dtype, else int64 class indices per row
};

// One parameter tensor in a fused optimizer step: n elements, dense, all in the same order. Unused slots are null.
struct OptimTensor {
  int64_t n;
  void* param;
  const void* grad;
  void* state0;  // momentum buffer; exp_avg
  void* state1;  // exp_avg_sq
  void* state2;  // max_exp_avg_sq
  double step;   // 1 at the first update
};

struct SgdOptions {
  double lr, momentum, dampening, weight_decay;
  bool nesterov, maximize;
};  // step == 1 means that the momentum buffer is set to the gradient (PyTorch)

struct AdamOptions {
  double lr, beta1, beta2, eps, weight_decay;
  bool decoupled;  // AdamW
  bool amsgrad, maximize;
};

}  // namespace pe
