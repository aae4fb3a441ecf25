#include <algorithm>

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/elementwise.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

void check_index_dtype(const Tensor& index, const char* op) {
  PE_CHECK(index.dtype() == DType::Int64 || index.dtype() == DType::Int32 || index.dtype() == DType::UInt8, Type, op,
           ": expected an integer index, got ", dtype_name(index.dtype()));
}

// A dense int64 copy of an index with every value checked against [0, size), or [-size, size) and wrapped.
Tensor checked_index(const Tensor& index, int64_t size, bool wrap, int64_t dim, const char* op) {
  check_index_dtype(index, op);
  Tensor dense = contiguous(to(detach(index), DType::Int64));
  const int64_t* p = dense.data_as<int64_t>();
  bool negative = false;
  for (int64_t i = 0, n = dense.numel(); i < n; ++i) {
    PE_CHECK(p[i] < size && p[i] >= (wrap ? -size : 0), Index, op, ": index ", p[i], " is out of bounds for dimension ",
             dim, " with size ", size);
    negative |= p[i] < 0;
  }
  if (!negative) return dense;
  if (dense->storage == index->storage) dense = clone(dense);
  int64_t* q = dense.data_as<int64_t>();
  for (int64_t i = 0, n = dense.numel(); i < n; ++i) q[i] += q[i] < 0 ? size : 0;
  return dense;
}

// Advanced indexing worked out: where the indexed rows start, and the dimensions that are taken whole.
struct Plan {
  Tensor offsets;    // dense int64: element offset of each row
  Dims index_shape;  // the indices, broadcast together
  Dims rest_shape, rest_strides;
  int position;  // where the index dimensions stand in the result
  Dims result_shape() const {
    Dims shape;
    for (int i = 0; i < position; ++i) shape.push_back(rest_shape[i]);
    for (int64_t s : index_shape) shape.push_back(s);
    for (int i = position; i < rest_shape.size(); ++i) shape.push_back(rest_shape[i]);
    return shape;
  }
  // From (index, rest) order to the result's, and back.
  Dims to_result() const {
    Dims dims;
    const int n = index_shape.size();
    for (int i = 0; i < position; ++i) dims.push_back(n + i);
    for (int i = 0; i < n; ++i) dims.push_back(i);
    for (int i = position; i < rest_shape.size(); ++i) dims.push_back(n + i);
    return dims;
  }
  Dims from_result() const {
    const Dims forward = to_result();
    Dims dims = forward;
    for (int i = 0; i < forward.size(); ++i) dims[int(forward[i])] = i;
    return dims;
  }
};

Indices expand_masks(const Tensor& x, const Indices& indices) {
  Indices plain;
  for (const Tensor& index : indices) {
    if (!index.defined() || index.dtype() != DType::Bool) {
      plain.push_back(index);
      continue;
    }
    for (int i = 0; i < index.dim(); ++i)
      PE_CHECK(int(plain.size()) + i < x.dim() && index.shape()[i] == x.shape()[int(plain.size()) + i], Index,
               "index: the shape of the mask ", index.shape(), " does not match the indexed tensor ", x.shape(),
               " at dimension ", plain.size() + size_t(i));
    if (index.dim() == 0) fail(ErrorKind::Index, "index: a bool scalar cannot be used as an index");
    const Tensor positions = nonzero(index);
    for (const Tensor& column : unbind(positions, 1)) plain.push_back(column);
  }
  return plain;
}

Plan plan_index(const Tensor& x, const Indices& masked) {
  const Indices indices = expand_masks(x, masked);
  PE_CHECK(int(indices.size()) <= x.dim(), Index, "index: too many indices for a tensor of ", x.dim(), " dimensions");
  Plan plan;
  int first = -1, last = -1, used = 0;
  for (size_t i = 0; i < indices.size(); ++i) {
    if (!indices[i].defined()) continue;
    plan.index_shape = used++ ? broadcast_shapes(plan.index_shape, indices[i].shape(), "index") : indices[i].shape();
    if (first < 0) first = int(i);
    last = int(i);
  }
  PE_CHECK(used > 0, Index, "index: expected at least one index tensor");
  plan.position = last - first + 1 == used ? first : 0;  // indices apart from each other go to the front (NumPy's rule)
  plan.offsets = full(plan.index_shape, 0, DType::Int64);
  for (int d = 0; d < x.dim(); ++d) {
    if (size_t(d) < indices.size() && indices[size_t(d)].defined()) {
      const Tensor index = checked_index(indices[size_t(d)], x.shape()[d], true, d, "index");
      plan.offsets =
          add(plan.offsets, mul(expand(index, plan.index_shape), scalar_tensor(x.strides()[d], DType::Int64)));
    } else {
      plan.rest_shape.push_back(x.shape()[d]);
      plan.rest_strides.push_back(x.strides()[d]);
    }
  }
  plan.offsets = contiguous(plan.offsets);
  return plan;
}

// The loop over the dimensions taken whole: a dense row on one side, x's memory on the other.
Loop rest_loop(const Plan& plan, const Tensor& x) {
  const Tensor row = alias(x, 0, plan.rest_shape, contiguous_strides(plan.rest_shape));
  const Tensor in_x = alias(x, 0, plan.rest_shape, plan.rest_strides);
  return make_loop({&row, &in_x});
}

void put(const Tensor& x, const Plan& plan, const Tensor& values, bool accumulate) {
  const Tensor rows =
      contiguous(permute(expand(to(detach(values), x.dtype()), plan.result_shape()), plan.from_result()));
  const Loop loop = rest_loop(plan, x);
  // In the kernel the written tensor comes first.
  Loop swapped = loop;
  for (int i = 0; i < loop.ndim; ++i) std::swap(swapped.stride[0][i], swapped.stride[1][i]);
  kernels().index_put(x.dtype(), accumulate, plan.offsets.numel(), plan.offsets.data_as<int64_t>(), swapped,
                      rows.data(), x.data());
}

// Index tensors kept for the backward pass, where a change since then must be noticed.
std::vector<Saved> saved(const Indices& indices) { return {indices.begin(), indices.end()}; }
Indices restored(const std::vector<Saved>& indices, const Node& node) {
  Indices result;
  for (const Saved& index : indices) result.push_back(index.get(node));
  return result;
}

}  // namespace

Tensor index(const Tensor& x, const Indices& indices) {
  const Plan plan = plan_index(x, indices);
  Dims row_shape = plan.index_shape;
  for (int64_t s : plan.rest_shape) row_shape.push_back(s);
  const Tensor rows = empty(row_shape, x.dtype());
  if (rows.numel() > 0)
    kernels().index_take(item_size(x.dtype()), plan.offsets.numel(), plan.offsets.data_as<int64_t>(),
                         rest_loop(plan, x), x.data(), rows.data());
  const Tensor view = permute(detach(rows), plan.to_result());
  const Tensor y = alias(view, 0, view.shape(), view.strides());
  if (recording(x))
    record("index", y, {x}, [kept = saved(indices), shape = x.shape()](const Backward& b) {
      return Grads{index_put(full(shape, 0, b.dy[0].dtype()), restored(kept, b.node), b.dy[0], true)};
    });
  return y;
}

Tensor index_put(const Tensor& x, const Indices& indices, const Tensor& values, bool accumulate) {
  const Tensor y = clone(detach(x));
  const Plan plan = plan_index(y, indices);
  put(y, plan, values, accumulate);
  if (recording(x, values))
    record("index_put", y, {x, values}, [kept = saved(indices), accumulate, shape = values.shape()](const Backward& b) {
      const Indices indices = restored(kept, b.node);
      Grads g(2);
      if (b.needed[0])
        g[0] = accumulate ? b.dy[0] : index_put(b.dy[0], indices, scalar_tensor(0, b.dy[0].dtype()), false);
      if (b.needed[1]) g[1] = sum_to(index(b.dy[0], indices), shape);
      return g;
    });
  return y;
}

void index_put_(const Tensor& x, const Indices& indices, const Tensor& values, bool accumulate) {
  check_inplace(x, "index_put_");
  const Tensor owner = x->view_base ? Tensor(x->view_base) : x;
  if (recording(x, owner, values)) return assign_inplace(x, index_put(x, indices, values, accumulate), "index_put_");
  put(x, plan_index(x, indices), values, accumulate);
  mark_written(x);
}

Tensor index_select(const Tensor& x, int64_t dim, const Tensor& index) {
  PE_CHECK(index.dim() <= 1, Shape, "index_select: expected an index of one dimension, got shape ", index.shape());
  PE_CHECK(x.dim() > 0, Shape, "index_select: expected a tensor with dimensions");
  const int64_t d = wrap_dim(dim, x.dim(), "index_select");
  Indices indices(size_t(d) + 1);
  indices[size_t(d)] = index.dim() == 0 ? reshape(index, {1}) : index;
  checked_index(index, x.shape()[int(d)], false, d, "index_select");
  return ops::index(x, indices);
}

namespace {

// x (or y) as the loop sees it: the index's sizes, and no movement along the gathered dimension.
Tensor along(const Tensor& x, int64_t dim, const Dims& shape) {
  Dims strides = x.strides();
  if (x.dim() > 0) strides[int(dim)] = 0;
  return alias(x, x->offset, shape, strides);
}

void check_gather_shape(const Tensor& x, int64_t dim, const Tensor& index, const char* op) {
  PE_CHECK(index.dim() == x.dim(), Shape, op, ": index has ", index.dim(), " dimensions, the tensor ", x.dim());
  for (int i = 0; i < x.dim(); ++i)
    PE_CHECK(i == dim || index.shape()[i] <= x.shape()[i], Shape, op, ": index of shape ", index.shape(),
             " is larger than ", x.shape(), " in dimension ", i);
}

Tensor scatter_into(const Tensor& x, int64_t d, const Tensor& index, const Tensor& source, bool add) {
  const char* op = add ? "scatter_add" : "scatter";
  check_gather_shape(x, d, index, op);
  for (int i = 0; i < index.dim(); ++i)
    PE_CHECK(source.dim() == index.dim() && index.shape()[i] <= source.shape()[i], Shape, op, ": index of shape ",
             index.shape(), " does not fit the source ", source.shape());
  const Tensor dense = checked_index(index, x.dim() ? x.shape()[int(d)] : 1, false, d, op);
  const Tensor y = clone(detach(x));
  if (index.numel() == 0) return y;
  const Tensor from = alias(source, source->offset, index.shape(), source.strides());
  const Tensor target = along(y, d, index.shape());
  Loop loop;
  loop.operands = 3, loop.ndim = std::max(index.dim(), 1), loop.numel = index.numel();
  for (int i = 0; i < loop.ndim; ++i) {  // in logical order: the last write wins
    const bool scalar = index.dim() == 0;
    loop.size[i] = scalar ? 1 : index.shape()[i];
    loop.stride[0][i] = scalar ? 0 : target.strides()[i];
    loop.stride[1][i] = scalar ? 0 : dense.strides()[i];
    loop.stride[2][i] = scalar ? 0 : from.strides()[i];
  }
  kernels().scatter(y.dtype(), add, loop, x.dim() ? y.strides()[int(d)] : 0, dense.data_as<int64_t>(), from.data(),
                    y.data());
  return y;
}

// What scatter read from its source gets the gradient of where it went; the source may be larger than the index.
Tensor source_gradient(const Tensor& dy, int64_t d, const Tensor& index, const Dims& shape) {
  const Tensor g = gather(dy, d, index);
  if (g.shape() == shape) return g;
  Dims padding;
  for (int i = shape.size() - 1; i >= 0; --i) padding.push_back(0), padding.push_back(shape[i] - index.shape()[i]);
  return pad(g, padding, "constant", 0);
}

}  // namespace

Tensor gather(const Tensor& x, int64_t dim, const Tensor& index) {
  const int64_t d = wrap_dim(dim, x.dim(), "gather");
  check_gather_shape(x, d, index, "gather");
  const Tensor dense = checked_index(index, x.dim() ? x.shape()[int(d)] : 1, false, d, "gather");
  const Tensor y = empty(index.shape(), x.dtype());
  if (y.numel() > 0) {
    const Tensor from = along(x, d, index.shape());
    kernels().gather(item_size(x.dtype()), make_loop({&y, &dense, &from}), x.dim() ? x.strides()[int(d)] : 0,
                     dense.data_as<int64_t>(), x.data(), y.data());
  }
  if (recording(x))
    record("gather", y, {x}, [d, index = Saved(dense), shape = x.shape()](const Backward& b) {
      return Grads{scatter_add(full(shape, 0, b.dy[0].dtype()), d, index.get(b.node), b.dy[0])};
    });
  return y;
}

Tensor scatter(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  const int64_t d = wrap_dim(dim, x.dim(), "scatter");
  PE_CHECK(source.dtype() == x.dtype(), Type, "scatter: expected a source of dtype ", dtype_name(x.dtype()), ", got ",
           dtype_name(source.dtype()));
  const Tensor y = scatter_into(x, d, index, detach(source), false);
  if (recording(x, source))
    record("scatter", y, {x, source}, [d, index = clone(detach(index)), shape = source.shape()](const Backward& b) {
      Grads g(2);
      if (b.needed[0]) g[0] = scatter(b.dy[0], d, index, full(index.shape(), 0, b.dy[0].dtype()));
      if (b.needed[1]) g[1] = source_gradient(b.dy[0], d, index, shape);
      return g;
    });
  return y;
}

Tensor scatter_add(const Tensor& x, int64_t dim, const Tensor& index, const Tensor& source) {
  const int64_t d = wrap_dim(dim, x.dim(), "scatter_add");
  PE_CHECK(source.dtype() == x.dtype(), Type, "scatter_add: expected a source of dtype ", dtype_name(x.dtype()),
           ", got ", dtype_name(source.dtype()));
  const Tensor y = scatter_into(x, d, index, detach(source), true);
  if (recording(x, source))
    record("scatter_add", y, {x, source}, [d, index = clone(detach(index)), shape = source.shape()](const Backward& b) {
      Grads g(2);
      if (b.needed[0]) g[0] = b.dy[0];
      if (b.needed[1]) g[1] = source_gradient(b.dy[0], d, index, shape);
      return g;
    });
  return y;
}

Tensor masked_select(const Tensor& x, const Tensor& mask) {
  PE_CHECK(mask.dtype() == DType::Bool, Type, "masked_select: expected a bool mask, got ", dtype_name(mask.dtype()));
  const Dims shape = broadcast_shapes(x.shape(), mask.shape(), "masked_select");
  if (shape.empty()) return masked_select(reshape(x, {1}), reshape(mask, {1}));
  return index(expand(x, shape), {contiguous(expand(mask, shape))});
}

Tensor nonzero(const Tensor& x0) {
  const Tensor x = contiguous(detach(x0));
  int64_t count = 0;
  kernels().nonzero(x.dtype(), x.numel(), x.data(), nullptr, &count);
  const Tensor flat = empty({count}, DType::Int64), y = empty({count, x.dim()}, DType::Int64);
  kernels().nonzero(x.dtype(), x.numel(), x.data(), flat.data_as<int64_t>(), &count);
  for (int64_t i = 0; i < count; ++i) {
    int64_t rest = flat.data_as<int64_t>()[i];
    for (int d = x.dim() - 1; d >= 0; --d) {
      y.data_as<int64_t>()[i * x.dim() + d] = rest % x.shape()[d];
      rest /= x.shape()[d];
    }
  }
  return y;
}

Tensor one_hot(const Tensor& x, int64_t classes) {
  PE_CHECK(x.dtype() == DType::Int64, Type, "one_hot: expected an int64 tensor, got ", dtype_name(x.dtype()));
  if (classes < 0) {
    PE_CHECK(x.numel() > 0, Value, "one_hot: cannot infer the number of classes from an empty tensor");
    classes = *amax(x, {}, false).data_as<int64_t>() + 1;
  }
  const Tensor index = unsqueeze(checked_index(x, classes, false, -1, "one_hot"), -1);
  Dims shape = x.shape();
  shape.push_back(classes);
  return scatter(full(shape, 0, DType::Int64), -1, index, full(index.shape(), 1, DType::Int64));
}

namespace {

Tensor triangle(const Tensor& x, int64_t diagonal, bool lower) {
  PE_CHECK(x.dim() >= 2, Shape, lower ? "tril" : "triu", ": expected at least 2 dimensions, got shape ", x.shape());
  const int64_t n = x.size(-2), m = x.size(-1);
  const Tensor rows = unsqueeze(arange(int64_t(0), n, int64_t(1), DType::Int64), 1),
               cols = arange(int64_t(0), m, int64_t(1), DType::Int64);
  const Tensor edge = add(rows, scalar_tensor(diagonal, DType::Int64));
  return where(compare(lower ? CompareOp::le : CompareOp::ge, cols, edge), x, scalar_tensor(0, x.dtype()));
}

}  // namespace

Tensor tril(const Tensor& x, int64_t diagonal) { return triangle(x, diagonal, true); }
Tensor triu(const Tensor& x, int64_t diagonal) { return triangle(x, diagonal, false); }

}  // namespace pe::ops
