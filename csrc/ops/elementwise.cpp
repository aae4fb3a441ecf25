#include "ops/elementwise.h"

#include <algorithm>

namespace pe::ops {

Dims broadcast_shapes(const Dims& a, const Dims& b, const char* op) {
  if (a == b) return a;
  const Dims& longer = a.size() >= b.size() ? a : b;
  const Dims& shorter = a.size() >= b.size() ? b : a;
  Dims shape = longer;
  const int shift = longer.size() - shorter.size();
  for (int i = 0; i < shorter.size(); ++i) {
    const int64_t m = longer[i + shift], n = shorter[i];
    PE_CHECK(m == n || m == 1 || n == 1, Shape, op, ": shapes ", a, " and ", b, " do not broadcast (dimension ",
             i + shift, ": ", a.size() >= b.size() ? m : n, " and ", a.size() >= b.size() ? n : m, ")");
    shape[i + shift] = m == 1 ? n : m;
  }
  return shape;
}

Dims broadcast_strides(const Tensor& x, const Dims& shape) {
  Dims strides = Dims::filled(shape.size(), 0);
  const int shift = shape.size() - x.dim();
  for (int i = 0; i < x.dim(); ++i)
    if (x.shape()[i] != 1 || shape[i + shift] == 1) strides[i + shift] = x.strides()[i];
  return strides;
}

Tensor elementwise_output(const Dims& shape, DType dtype, std::initializer_list<const Tensor*> inputs) {
  for (const Tensor* x : inputs) {
    if (!(x->shape() == shape)) continue;
    if (x->is_contiguous()) break;
    if (x->is_dense()) return empty_strided(shape, x->strides(), dtype);
    const bool stretched = std::find(x->strides().begin(), x->strides().end(), 0) != x->strides().end();
    if (!stretched) return empty_strided(shape, strides_like(shape, x->strides()), dtype);
  }
  return empty(shape, dtype);
}

Loop make_loop(std::initializer_list<const Tensor*> operands) {
  Loop loop;
  loop.operands = int(operands.size());
  const Tensor& out = **operands.begin();
  loop.numel = out.numel();

  bool same = out.is_dense();
  for (const Tensor* t : operands) same = same && t->shape() == out.shape() && t->strides() == out.strides();
  if (same) {
    loop.ndim = 1;
    loop.size[0] = loop.numel;
    for (int k = 0; k < loop.operands; ++k) loop.stride[k][0] = 1;
    return loop;
  }

  Dims strides[kMaxOperands];
  int k = 0;
  for (const Tensor* t : operands) strides[k++] = broadcast_strides(*t, out.shape());

  // Dimensions by the output's strides, outermost first; then by the first input's where the output has none.
  int order[kMaxDims], n = 0;
  for (int d = 0; d < out.dim(); ++d)
    if (out.shape()[d] != 1) order[n++] = d;
  auto before = [&](int a, int b) {
    for (int j = 0; j < loop.operands; ++j)
      if (strides[j][a] != strides[j][b] && strides[j][a] != 0 && strides[j][b] != 0)
        return strides[j][a] > strides[j][b];
    return false;
  };
  for (int i = 1; i < n; ++i)
    for (int j = i; j > 0 && before(order[j], order[j - 1]); --j) std::swap(order[j], order[j - 1]);

  loop.ndim = 0;
  for (int i = 0; i < n; ++i) {
    const int d = order[i];
    bool merge = loop.ndim > 0;
    for (int j = 0; j < loop.operands && merge; ++j)
      merge = loop.stride[j][loop.ndim - 1] == strides[j][d] * out.shape()[d];
    if (merge) {
      loop.size[loop.ndim - 1] *= out.shape()[d];
    } else {
      loop.size[loop.ndim++] = out.shape()[d];
    }
    for (int j = 0; j < loop.operands; ++j) loop.stride[j][loop.ndim - 1] = strides[j][d];
  }
  if (loop.ndim == 0) {
    loop.ndim = 1;
    loop.size[0] = 1;
    for (int j = 0; j < loop.operands; ++j) loop.stride[j][0] = 1;
  }
  return loop;
}

}  // namespace pe::ops
