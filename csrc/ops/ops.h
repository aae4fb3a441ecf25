// The op index: every operation of the engine, one declaration and one line each. An op checks its arguments, allocates
// its output, calls kernels and, when a gradient is needed, records its backward: all on one page of the file named in
// the heading. An undefined Tensor stands for an optional argument that was not given. Names and conventions are
// PyTorch's.
#pragma once
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "kernels/op_codes.h"
#include "kernels/shapes.h"
#include "runtime/generator.h"
#include "tensor/scalar.h"
#include "tensor/tensor.h"

namespace pe::ops {

using Pair = std::tuple<Tensor, Tensor>;
using OptDType = std::optional<DType>;
using OptInt = std::optional<int64_t>;
using OptScalar = std::optional<Scalar>;

// --- create.cpp
Tensor full(const Dims& shape, Scalar value, DType dtype);
Tensor full_like(const Tensor& x, Scalar value);  // x's shape, dtype and layout
Tensor scalar_tensor(Scalar value, DType dtype);  // shape ()
Tensor wrapped_number(Scalar value);              // shape (), weak in type promotion
Tensor arange(Scalar start, Scalar end, Scalar step, DType dtype);
Tensor linspace(double start, double end, int64_t steps, DType dtype);
Tensor eye(int64_t n, int64_t m, DType dtype);

// --- random.cpp
Tensor rand(const Dims& shape, DType dtype, Generator& generator);                                // uniform on [0, 1)
Tensor randn(const Dims& shape, DType dtype, Generator& generator);                               // standard normal
Tensor randint(int64_t low, int64_t high, const Dims& shape, DType dtype, Generator& generator);  // [low, high)
Tensor randperm(int64_t n, DType dtype, Generator& generator);
Tensor bernoulli(const Tensor& p, Generator& generator);  // 1 with probability p
Tensor multinomial(const Tensor& weights, int64_t samples, bool replacement, Generator& generator);
void uniform_into(const Tensor& x, double low, double high, Generator& generator);  // in place
void normal_into(const Tensor& x, double mean, double std, Generator& generator);
void random_into(const Tensor& x, int64_t low, int64_t high, Generator& generator);

// --- copy.cpp
Tensor clone(const Tensor& x);                       // same layout if dense
Tensor contiguous(const Tensor& x);                  // x itself when it already is
Tensor channels_last(const Tensor& x);               // N H W C in memory; x itself when it already is
int64_t layout_conversions();                        // copies of dense tensors that these two have made so far
Tensor to(const Tensor& x, DType dtype);             // x itself when nothing changes
void copy_into(const Tensor& out, const Tensor& x);  // data only: broadcasts, converts, records nothing

// --- inplace.cpp
void check_inplace(const Tensor& x,
                   const char* op);  // raises for leaves that require grad, overlapping memory, read-only memory
void mark_written(const Tensor& x);  // after a write that is not recorded
void assign_inplace(const Tensor& x, const Tensor& y, const char* op);  // x's data and history become y's
void copy_(const Tensor& x, const Tensor& source);
void fill_(const Tensor& x, Scalar value);
void add_into(const Tensor& x, const Tensor& y);  // x += y without recording; same shape
void unary_(UnaryOp op, const Tensor& x, double p0 = 0, double p1 = 0);
void binary_(BinaryOp op, const Tensor& x, const Tensor& y);

// --- view.cpp: share x's memory (reshape, flatten and view copy where no view exists)
Tensor as_strided(const Tensor& x, const Dims& shape, const Dims& strides, int64_t offset);
Tensor reshape(const Tensor& x, const Dims& shape);  // one size may be -1
Tensor view(const Tensor& x, const Dims& shape);     // reshape; never refuses (a channels-last tensor is copied where
                                                     // PyTorch's layout would allow a view)
Tensor permute(const Tensor& x, const Dims& dims);
Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1);
Tensor expand(const Tensor& x, const Dims& shape);                                      // -1 keeps a size
Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t stop, int64_t step);  // bounds already normalized
Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length);
Tensor select(const Tensor& x, int64_t dim, int64_t index);
Tensor squeeze(const Tensor& x);
Tensor squeeze(const Tensor& x, const Dims& dims);
Tensor unsqueeze(const Tensor& x, int64_t dim);
Tensor flatten(const Tensor& x, int64_t start, int64_t end);
Tensor unflatten(const Tensor& x, int64_t dim, const Dims& sizes);
Tensor diagonal(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2);
Tensor movedim(const Tensor& x, const Dims& source, const Dims& destination);
Tensor detach(const Tensor& x);      // no graph link
Tensor view_as_is(const Tensor& x);  // a view of all of x
std::vector<Tensor> split(const Tensor& x, const Dims& sizes, int64_t dim);
std::vector<Tensor> split(const Tensor& x, int64_t size, int64_t dim);
std::vector<Tensor> chunk(const Tensor& x, int64_t chunks, int64_t dim);
std::vector<Tensor> unbind(const Tensor& x, int64_t dim);

// --- unary.cpp: one function per row of kernels/unary.def
Tensor unary(UnaryOp op, const Tensor& x, double p0 = 0, double p1 = 0);
#define UNARY(name, ...) \
  inline Tensor name(const Tensor& x, double p0 = 0, double p1 = 0) { return unary(UnaryOp::name, x, p0, p1); }
#include "kernels/unary.def"
#undef UNARY
Tensor unary_test(UnaryTest test, const Tensor& x);  // bool
Tensor bitwise_not(const Tensor& x);
Tensor clamp(const Tensor& x, OptScalar low, OptScalar high);

// --- binary.cpp: one function per row of kernels/binary.def; shapes broadcast, dtypes promote
DType promote(const Tensor& a, const Tensor& b);
DType promote(DType a, DType b);
Tensor binary(BinaryOp op, const Tensor& a, const Tensor& b);
#define BINARY(name, ...) \
  inline Tensor name(const Tensor& a, const Tensor& b) { return binary(BinaryOp::name, a, b); }
#include "kernels/binary.def"
#undef BINARY
Tensor compare(CompareOp op, const Tensor& a, const Tensor& b);  // bool
Tensor where(const Tensor& condition, const Tensor& a, const Tensor& b);
Tensor masked_fill(const Tensor& x, const Tensor& mask, const Tensor& value);
Tensor lerp(const Tensor& a, const Tensor& b, const Tensor& weight);

// --- reduce.cpp; no dims: all of them
Tensor sum(const Tensor& x, const Dims& dims = {}, bool keepdim = false, OptDType dtype = {});
Tensor mean(const Tensor& x, const Dims& dims = {}, bool keepdim = false, OptDType dtype = {});
Tensor prod(const Tensor& x, const Dims& dims, bool keepdim);
Tensor amax(const Tensor& x, const Dims& dims, bool keepdim);  // ties share the gradient
Tensor amin(const Tensor& x, const Dims& dims, bool keepdim);
Pair max(const Tensor& x, int64_t dim, bool keepdim);  // values, indices; the gradient goes to the index
Pair min(const Tensor& x, int64_t dim, bool keepdim);
Tensor argmax(const Tensor& x, OptInt dim, bool keepdim);
Tensor argmin(const Tensor& x, OptInt dim, bool keepdim);
Tensor any(const Tensor& x, const Dims& dims, bool keepdim);
Tensor all(const Tensor& x, const Dims& dims, bool keepdim);
Tensor var(const Tensor& x, const Dims& dims, double correction, bool keepdim);
Tensor std(const Tensor& x, const Dims& dims, double correction, bool keepdim);
Tensor norm(const Tensor& x, double p, const Dims& dims, bool keepdim);
Tensor logsumexp(const Tensor& x, const Dims& dims, bool keepdim);
Tensor count_nonzero(const Tensor& x, const Dims& dims);
Tensor cumsum(const Tensor& x, int64_t dim, OptDType dtype);
Tensor cumprod(const Tensor& x, int64_t dim, OptDType dtype);
Tensor sum_to(const Tensor& x, const Dims& shape);  // the reverse of broadcasting

// --- matmul.cpp
Tensor matmul(const Tensor& a, const Tensor& b);
Tensor linear(const Tensor& x, const Tensor& weight, const Tensor& bias);  // x weight^T + bias
Tensor addmm(const Tensor& c, const Tensor& a, const Tensor& b, double beta, double alpha);
Tensor einsum(const std::string& equation, const std::vector<Tensor>& operands);

// --- join.cpp
Tensor cat(const std::vector<Tensor>& tensors, int64_t dim);
Tensor stack(const std::vector<Tensor>& tensors, int64_t dim);
Tensor pad(const Tensor& x, const Dims& padding, const std::string& mode,
           double value);  // PyTorch's order: last dimension first
Tensor flip(const Tensor& x, const Dims& dims);
Tensor roll(const Tensor& x, const Dims& shifts, const Dims& dims);
Tensor repeat(const Tensor& x, const Dims& repeats);
Tensor repeat_interleave(const Tensor& x, int64_t repeats, OptInt dim);

// --- index.cpp
using Indices = std::vector<Tensor>;  // one per indexed dimension; undefined: take all of it
Tensor index(const Tensor& x, const Indices& indices);
Tensor index_put(const Tensor& x, const Indices& indices, const Tensor& values, bool accumulate);
void index_put_(const Tensor& x, const Indices& indices, const Tensor& values, bool accumulate);
Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index);
Tensor gather(const Tensor& x, int64_t dim, const Tensor& index);
Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source);
Tensor masked_select(const Tensor& x, const Tensor& mask);
Tensor nonzero(const Tensor& x);
Tensor one_hot(const Tensor& x, int64_t classes);
Tensor tril(const Tensor& x, int64_t diagonal);
Tensor triu(const Tensor& x, int64_t diagonal);

// --- sort.cpp
Pair sort(const Tensor& x, int64_t dim, bool descending);
Pair topk(const Tensor& x, int64_t k, int64_t dim, bool largest);

// --- conv2d.cpp; x (N, C, H, W), weight (K, C/groups, R, S)
struct Conv2dOptions {
  int64_t stride_h = 1, stride_w = 1, pad_h = 0, pad_w = 0, dilation_h = 1, dilation_w = 1, groups = 1;
};
Tensor conv2d(const Tensor& x, const Tensor& weight, const Tensor& bias, const Conv2dOptions& options);
Tensor conv2d_backward_input(const Tensor& dy, const Tensor& weight, const Dims& x_shape, const Conv2dOptions& options);
Tensor conv2d_backward_weight(const Tensor& x, const Tensor& dy, const Dims& weight_shape,
                              const Conv2dOptions& options);
// Exact: float32 convolutions round like a sum of products, without the fast transforms (docs/numerics.md).
void set_conv_exact(bool on);
bool conv_exact();

// --- pool2d.cpp
struct Pool2dOptions {
  int64_t kernel_h, kernel_w, stride_h, stride_w, pad_h = 0, pad_w = 0, dilation_h = 1, dilation_w = 1;
  bool ceil_mode = false, count_include_pad = true;
  int64_t divisor = 0;  // 0: the window's size
};
Tensor max_pool2d(const Tensor& x, const Pool2dOptions& options);
Pair max_pool2d_with_indices(const Tensor& x, const Pool2dOptions& options);  // indices h * W + w
Tensor avg_pool2d(const Tensor& x, const Pool2dOptions& options);
Tensor adaptive_avg_pool2d(const Tensor& x, int64_t P, int64_t Q);
Pair adaptive_max_pool2d(const Tensor& x, int64_t P, int64_t Q);

// --- batch_norm.cpp
Tensor batch_norm(const Tensor& x, const Tensor& running_mean, const Tensor& running_var, const Tensor& weight,
                  const Tensor& bias, bool training, double momentum, double eps);

// --- layer_norm.cpp
Tensor layer_norm(const Tensor& x, const Dims& normalized_shape, const Tensor& weight, const Tensor& bias, double eps);

// --- softmax.cpp
Tensor softmax(const Tensor& x, int64_t dim);
Tensor log_softmax(const Tensor& x, int64_t dim);

// --- loss.cpp; reduction: none, mean, sum
Tensor cross_entropy(const Tensor& x, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                     const std::string& reduction, double label_smoothing);
Tensor nll_loss(const Tensor& x, const Tensor& target, const Tensor& weight, int64_t ignore_index,
                const std::string& reduction);

// --- dropout.cpp
Tensor dropout(const Tensor& x, double p, bool training, Generator& generator);

// --- optim.cpp: one call updates all parameters in place
void sgd_step(const std::vector<Tensor>& params, const std::vector<Tensor>& grads,
              std::vector<Tensor>& momentum_buffers, const SgdOptions& options);
void adam_step(const std::vector<Tensor>& params, const std::vector<Tensor>& grads, const std::vector<Tensor>& exp_avgs,
               const std::vector<Tensor>& exp_avg_sqs, const std::vector<Tensor>& max_exp_avg_sqs,
               const std::vector<double>& steps, const AdamOptions& options);

}  // namespace pe::ops
