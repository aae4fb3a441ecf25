#include <algorithm>
#include <cmath>

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/elementwise.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

struct Axes {
  bool reduced[kMaxDims] = {};
  int64_t count = 1;  // elements behind one output element
};

Axes axes_of(const Tensor& x, const Dims& dims, const char* op) {
  Axes axes;
  for (int64_t d : dims) {
    const int64_t w = wrap_dim(d, x.dim(), op);
    PE_CHECK(!axes.reduced[w], Shape, op, ": dimension ", d, " appears twice in ", dims);
    axes.reduced[w] = true;
  }
  for (int i = 0; i < x.dim(); ++i) {
    if (dims.empty()) axes.reduced[i] = true;
    if (axes.reduced[i]) axes.count *= x.shape()[i];
  }
  return axes;
}

Dims reduced_shape(const Tensor& x, const Axes& axes, bool keepdim) {
  Dims shape;
  for (int i = 0; i < x.dim(); ++i) {
    if (!axes.reduced[i])
      shape.push_back(x.shape()[i]);
    else if (keepdim)
      shape.push_back(1);
  }
  return shape;
}

// Appends a dimension to a list, merged with the one before where both strides allow.
void append(int& n, int64_t* size, int64_t* s0, int64_t* s1, int64_t length, int64_t t0, int64_t t1) {
  if (n > 0 && s0[n - 1] == t0 * length && (!s1 || s1[n - 1] == t1 * length)) {
    size[n - 1] *= length;
  } else {
    size[n++] = length;
  }
  s0[n - 1] = t0;
  if (s1) s1[n - 1] = t1;
}

// y has x's dimensions with size 1 where reduced. in_order keeps the reduced dimensions in logical order (arg_reduce).
ReduceShape reduce_shape(const Tensor& x, const Tensor& y, const Axes& axes, bool in_order) {
  int order[kMaxDims];
  for (int i = 0; i < x.dim(); ++i) order[i] = i;
  if (!in_order)
    std::stable_sort(order, order + x.dim(), [&](int a, int b) { return x.strides()[a] > x.strides()[b]; });
  ReduceShape s;
  s.out_ndim = s.red_ndim = 0;
  s.out_numel = s.red_numel = 1;
  for (int i = 0; i < x.dim(); ++i) {
    const int d = order[i];
    const int64_t n = x.shape()[d];
    (axes.reduced[d] ? s.red_numel : s.out_numel) *= n;
    if (n == 1) continue;
    if (axes.reduced[d])
      append(s.red_ndim, s.red_size, s.x_red_stride, nullptr, n, x.strides()[d], 0);
    else
      append(s.out_ndim, s.out_size, s.x_out_stride, s.y_stride, n, x.strides()[d], y.strides()[d]);
  }
  if (s.out_ndim == 0) {
    s.out_ndim = 1;
    s.out_size[0] = 1;
    s.x_out_stride[0] = s.y_stride[0] = 0;
  }
  if (s.red_ndim == 0) {
    s.red_ndim = 1;
    s.red_size[0] = 1;
    s.x_red_stride[0] = 0;
  }
  return s;
}

Tensor drop_reduced(const Tensor& y, const Tensor& x, const Axes& axes) {
  Dims shape, strides;
  for (int i = 0; i < x.dim(); ++i) {
    if (axes.reduced[i]) continue;
    shape.push_back(y.shape()[i]);
    strides.push_back(y.strides()[i]);
  }
  return alias(y, y->offset, shape, strides);
}

Tensor reduce(ReduceOp op, const Tensor& x, const Axes& axes, bool keepdim, DType out) {
  const Dims shape = reduced_shape(x, axes, true);
  const Tensor y = x.is_contiguous() ? empty(shape, out) : empty_strided(shape, strides_like(shape, x.strides()), out);
  kernels().reduce(op, x.dtype(), reduce_shape(x, y, axes, false), x.data(), y.data());
  return keepdim ? y : drop_reduced(y, x, axes);
}

// dy with the reduced dimensions put back as size 1.
Tensor restore(const Tensor& dy, const Dims& x_shape, const Axes& axes) {
  Dims shape = x_shape;
  for (int i = 0; i < shape.size(); ++i)
    if (axes.reduced[i]) shape[i] = 1;
  return reshape(dy, shape);
}

DType sum_dtype(const Tensor& x, OptDType dtype) {
  return dtype ? *dtype : is_floating(x.dtype()) ? x.dtype() : DType::Int64;
}

}  // namespace

Tensor sum(const Tensor& input, const Dims& dims, bool keepdim, OptDType dtype) {
  const Tensor x = to(input, sum_dtype(input, dtype));
  const Axes axes = axes_of(x, dims, "sum");
  const Tensor y = reduce(ReduceOp::sum, x, axes, keepdim, x.dtype());
  if (recording(x))
    record("sum", y, {x}, [axes, shape = x.shape()](const Backward& b) {
      return Grads{expand(restore(b.dy[0], shape, axes), shape)};
    });
  return y;
}

Tensor mean(const Tensor& input, const Dims& dims, bool keepdim, OptDType dtype) {
  const DType t = dtype.value_or(input.dtype());
  PE_CHECK(is_floating(t), Type, "mean: expected a floating point dtype, got ", dtype_name(t), "; pass dtype=");
  const Tensor x = to(input, t);
  const int64_t n = axes_of(x, dims, "mean").count;
  return div(sum(x, dims, keepdim), scalar_tensor(double(n), t));
}

Tensor prod(const Tensor& input, const Dims& dims, bool keepdim) {
  const Tensor x = to(input, sum_dtype(input, {}));
  const Axes axes = axes_of(x, dims, "prod");
  const Tensor y = reduce(ReduceOp::prod, x, axes, keepdim, x.dtype());
  if (recording(x))
    record("prod", y, {x}, [axes, x = Saved(x), dims](const Backward& b) {
      // d/dx_i is the product of the others: the quotient where no factor is 0; with one zero only its own entry; with
      // more none.
      const Tensor& v = x.get(b.node);
      const Tensor zero = scalar_tensor(0, v.dtype()), one = scalar_tensor(1, v.dtype());
      const Tensor is_zero = compare(CompareOp::eq, v, zero);
      const Tensor filled = where(is_zero, one, v);
      const Tensor zeros = sum(is_zero, dims, true);
      const Tensor others = prod(filled, dims, true);
      const Tensor full_quotient = div(others, filled);
      const Tensor none = compare(CompareOp::eq, zeros, scalar_tensor(0, zeros.dtype()));
      const Tensor single = bitwise_and(compare(CompareOp::eq, zeros, scalar_tensor(1, zeros.dtype())), is_zero);
      const Tensor slope = where(none, full_quotient, where(single, others, zero));
      return Grads{mul(restore(b.dy[0], v.shape(), axes), slope)};
    });
  return y;
}

namespace {

Tensor extreme(ReduceOp op, const char* name, const Tensor& x, const Dims& dims, bool keepdim) {
  const Axes axes = axes_of(x, dims, name);
  PE_CHECK(axes.count > 0, Shape, name, ": expected a reduced dimension with at least one element, got shape ",
           x.shape());
  const Tensor y = reduce(op, x, axes, keepdim, x.dtype());
  if (recording(x))
    record(name, y, {x}, [axes, dims, x = Saved(x), y = SavedOutput(y)](const Backward& b) {
      const Tensor& v = x.get(b.node);
      const Tensor winner = compare(CompareOp::eq, v, restore(y.get(b.node), v.shape(), axes));
      const Tensor share = div(to(winner, v.dtype()), sum(to(winner, v.dtype()), dims, true));
      return Grads{mul(restore(b.dy[0], v.shape(), axes), share)};
    });
  return y;
}

Tensor arg_reduce(bool largest, const char* name, const Tensor& x, const Dims& dims, bool keepdim) {
  const Axes axes = axes_of(x, dims, name);
  PE_CHECK(axes.count > 0, Index, name, ": expected a reduced dimension with at least one element, got shape ",
           x.shape());
  const Tensor y = empty(reduced_shape(x, axes, true), DType::Int64);
  kernels().arg_reduce(largest, x.dtype(), reduce_shape(x, y, axes, true), x.data(), y.data_as<int64_t>());
  return keepdim ? y : drop_reduced(y, x, axes);
}

Pair extreme_with_index(bool largest, const char* name, const Tensor& x, int64_t dim, bool keepdim) {
  const int64_t d = wrap_dim(dim, x.dim(), name);
  if (x.dim() == 0) return {clone(x), full({}, 0, DType::Int64)};
  const Tensor index = arg_reduce(largest, name, x, {d}, true);
  const Tensor values = gather(x, d, index);  // carries the gradient
  if (keepdim) return {values, index};
  return {squeeze(values, {d}), squeeze(index, {d})};
}

}  // namespace

Tensor amax(const Tensor& x, const Dims& dims, bool keepdim) {
  return extreme(ReduceOp::max, "amax", x, dims, keepdim);
}
Tensor amin(const Tensor& x, const Dims& dims, bool keepdim) {
  return extreme(ReduceOp::min, "amin", x, dims, keepdim);
}
Pair max(const Tensor& x, int64_t dim, bool keepdim) { return extreme_with_index(true, "max", x, dim, keepdim); }
Pair min(const Tensor& x, int64_t dim, bool keepdim) { return extreme_with_index(false, "min", x, dim, keepdim); }

Tensor argmax(const Tensor& x, OptInt dim, bool keepdim) {
  return arg_reduce(true, "argmax", x, dim ? Dims{*dim} : Dims{}, keepdim);
}
Tensor argmin(const Tensor& x, OptInt dim, bool keepdim) {
  return arg_reduce(false, "argmin", x, dim ? Dims{*dim} : Dims{}, keepdim);
}

Tensor any(const Tensor& x, const Dims& dims, bool keepdim) {
  return reduce(ReduceOp::any, x, axes_of(x, dims, "any"), keepdim, DType::Bool);
}
Tensor all(const Tensor& x, const Dims& dims, bool keepdim) {
  return reduce(ReduceOp::all, x, axes_of(x, dims, "all"), keepdim, DType::Bool);
}

Tensor var(const Tensor& x, const Dims& dims, double correction, bool keepdim) {
  PE_CHECK(is_floating(x.dtype()), Type, "var: expected a floating point tensor, got ", dtype_name(x.dtype()));
  const double n = double(axes_of(x, dims, "var").count);
  const Tensor centred = sub(x, mean(x, dims, true));
  return div(sum(square(centred), dims, keepdim), scalar_tensor(std::max(0.0, n - correction), x.dtype()));
}

Tensor std(const Tensor& x, const Dims& dims, double correction, bool keepdim) {
  const Tensor v = var(x, dims, correction, keepdim);
  if (!recording(v)) return sqrt(v);
  // The gradient where all elements are equal is 0, as in PyTorch; that of the square root would be NaN.
  const Tensor zero = scalar_tensor(0, v.dtype()), flat = compare(CompareOp::eq, v, zero);
  return where(flat, zero, sqrt(where(flat, scalar_tensor(1, v.dtype()), v)));
}

Tensor norm(const Tensor& x, double p, const Dims& dims, bool keepdim) {
  PE_CHECK(is_floating(x.dtype()), Type, "norm: expected a floating point tensor, got ", dtype_name(x.dtype()));
  if (p == 2) {
    // One pass; the gradient at 0 is 0.
    const Axes axes = axes_of(x, dims, "norm");
    const Tensor y = sqrt(reduce(ReduceOp::sumsq, detach(x), axes, keepdim, x.dtype()));
    if (recording(x))
      record("norm", y, {x}, [axes, x = Saved(x), y = SavedOutput(y)](const Backward& b) {
        const Tensor& v = x.get(b.node);
        const Tensor length = restore(y.get(b.node), v.shape(), axes), zero = scalar_tensor(0, v.dtype());
        const Tensor slope = mul(v, div(restore(b.dy[0], v.shape(), axes), length));
        return Grads{where(compare(CompareOp::eq, length, zero), zero, slope)};
      });
    return y;
  }
  if (p == 1) return sum(abs(x), dims, keepdim);
  if (p == INFINITY) return amax(abs(x), dims, keepdim);
  if (p == -INFINITY) return amin(abs(x), dims, keepdim);
  if (p == 0) return sum(to(compare(CompareOp::ne, x, scalar_tensor(0, x.dtype())), x.dtype()), dims, keepdim);
  return pow(sum(pow(abs(x), scalar_tensor(p, x.dtype())), dims, keepdim), scalar_tensor(1 / p, x.dtype()));
}

Tensor logsumexp(const Tensor& input, const Dims& dims, bool keepdim) {
  const Tensor x = is_floating(input.dtype()) ? input : to(input, default_dtype());
  const Tensor top = detach(amax(detach(x), dims, true));
  const Tensor zero = scalar_tensor(0, x.dtype());
  const Tensor shift = where(unary_test(UnaryTest::isinf, top), zero, top);
  const Tensor y = add(log(sum(exp(sub(x, shift)), dims, true)), shift);
  const Axes axes = axes_of(x, dims, "logsumexp");
  return keepdim ? y : reshape(y, reduced_shape(x, axes, false));
}

Tensor count_nonzero(const Tensor& x, const Dims& dims) {
  return sum(compare(CompareOp::ne, x, scalar_tensor(0, x.dtype())), dims, false);
}

namespace {

Tensor cumulative(CumulativeOp op, const Tensor& x, int d) {
  const Tensor dense = contiguous(x), y = empty(x.shape(), x.dtype());
  int64_t outer = 1, inner = 1;
  for (int i = 0; i < d; ++i) outer *= x.shape()[i];
  for (int i = d + 1; i < x.dim(); ++i) inner *= x.shape()[i];
  kernels().cumulative(op, x.dtype(), outer, x.dim() ? x.shape()[d] : 1, inner, dense.data(), y.data());
  return y;
}

}  // namespace

Tensor cumsum(const Tensor& input, int64_t dim, OptDType dtype) {
  const Tensor x = to(input, sum_dtype(input, dtype));
  const int d = int(wrap_dim(dim, x.dim(), "cumsum"));
  const Tensor y = cumulative(CumulativeOp::sum, detach(x), d);
  if (recording(x))
    record("cumsum", y, {x}, [d](const Backward& b) {
      if (b.dy[0].dim() == 0) return Grads{b.dy[0]};
      return Grads{flip(cumsum(flip(b.dy[0], {d}), d, {}), {d})};
    });
  return y;
}

Tensor cumprod(const Tensor& input, int64_t dim, OptDType dtype) {
  const Tensor x = to(input, sum_dtype(input, dtype));
  const int d = int(wrap_dim(dim, x.dim(), "cumprod"));
  const Tensor y = cumulative(CumulativeOp::prod, detach(x), d);
  if (recording(x))
    record("cumprod", y, {x}, [d, x = Saved(x)](const Backward& b) {
      // dx_i = sum over j >= i of dy_j * prod of x_k, k <= j, k != i: exact also where factors are 0, one i at a time.
      const Tensor& v = x.get(b.node);
      if (v.dim() == 0) return Grads{b.dy[0]};
      std::vector<Tensor> columns;
      for (int64_t i = 0; i < v.shape()[d]; ++i) {
        const Tensor tail = slice(v, d, i, v.shape()[d], 1), dy = slice(b.dy[0], d, i, v.shape()[d], 1);
        const Tensor one = full_like(slice(tail, d, 0, 1, 1), 1);
        Tensor others = cumprod(cat({one, slice(tail, d, 1, tail.shape()[d], 1)}, d), d, {});
        if (i > 0) others = mul(others, prod(slice(v, d, 0, i, 1), {d}, true));
        columns.push_back(sum(mul(dy, others), {d}, true));
      }
      return Grads{columns.empty() ? v : cat(columns, d)};
    });
  return y;
}

Tensor sum_to(const Tensor& x, const Dims& shape) {
  if (x.shape() == shape) return x;
  Dims dims;
  const int shift = x.dim() - shape.size();
  for (int i = 0; i < x.dim(); ++i)
    if (i < shift || (shape[i - shift] == 1 && x.shape()[i] != 1)) dims.push_back(i);
  return reshape(dims.empty() ? x : sum(x, dims, true), shape);
}

}  // namespace pe::ops
