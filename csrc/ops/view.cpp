// Ops that look at the same memory through another shape, strides and offset.
#include <algorithm>

#include "autograd/node.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

// A view of x, which remembers its base so that in-place writes find it.
Tensor make_view(const Tensor& x, int64_t offset, const Dims& shape, const Dims& strides) {
  Tensor y = alias(x, offset, shape, strides);
  y->view_base = x->view_base ? x->view_base : Ref<TensorImpl>(x.impl());
  y->no_grad_view = !grad_enabled() || x->no_grad_view;
  y->view_version = x->storage->version.load(std::memory_order_relaxed);
  return y;
}

template <class F>
Tensor view_of(const char* name, const Tensor& x, int64_t offset, const Dims& shape, const Dims& strides, F backward) {
  Tensor y = make_view(x, offset, shape, strides);
  if (recording(x)) record(name, y, {x}, std::move(backward));
  return y;
}

// -1 among the sizes is worked out from the others.
Dims infer_size(Dims shape, int64_t numel, const char* op) {
  int unknown = -1;
  int64_t known = 1;
  const Dims asked = shape;
  for (int i = 0; i < shape.size(); ++i) {
    if (shape[i] == -1) {
      PE_CHECK(unknown < 0, Shape, op, ": only one dimension can be inferred, got ", asked);
      unknown = i;
    } else {
      PE_CHECK(shape[i] >= 0, Shape, op, ": invalid size ", shape[i], " in ", asked);
      PE_CHECK(!__builtin_mul_overflow(known, shape[i], &known), Shape, op, ": shape ", asked, " is too large");
    }
  }
  if (unknown >= 0) {
    PE_CHECK(known != 0, Shape, op, ": cannot infer the -1 in ", asked, " because another size is 0");
    PE_CHECK(numel % known == 0, Shape, op, ": shape ", asked, " is invalid for input of size ", numel);
    shape[unknown] = numel / known;
    known *= shape[unknown];
  }
  PE_CHECK(known == numel, Shape, op, ": shape ", asked, " is invalid for input of size ", numel);
  checked_numel(shape, op);  // beside a 0 the other sizes may be anything, and their product must still fit
  return shape;
}

// The strides with which x's memory shows `shape`, if there are any.
bool view_strides(const Tensor& x, const Dims& shape, Dims& strides) {
  strides = contiguous_strides(shape);
  if (x.is_contiguous()) return true;
  // Runs of x's dimensions that are contiguous among themselves are matched with runs of the new ones.
  int d = shape.size() - 1;
  int64_t run = 1, filled = 1, step = x.dim() ? x.strides()[x.dim() - 1] : 1;
  for (int i = x.dim() - 1; i >= 0; --i) {
    run *= x.shape()[i];
    const bool ends = i == 0 || (x.shape()[i - 1] != 1 && x.strides()[i - 1] != run * step);
    if (!ends) continue;
    while (d >= 0 && (filled < run || shape[d] == 1)) {
      strides[d] = filled * step;
      filled *= shape[d];
      --d;
    }
    if (filled != run) return false;
    if (i > 0) {
      step = x.strides()[i - 1];
      run = filled = 1;
    }
  }
  return d == -1;
}

Tensor zeros_like_shape(const Dims& shape, DType t) { return full(shape, 0, t); }

}  // namespace

Tensor detach(const Tensor& x) { return alias(x); }

Tensor view_as_is(const Tensor& x) {
  return view_of("view", x, x->offset, x.shape(), x.strides(), [](const Backward& b) { return Grads{b.dy[0]}; });
}

Tensor as_strided(const Tensor& x, const Dims& shape, const Dims& strides, int64_t offset) {
  PE_CHECK(shape.size() == strides.size(), Shape, "as_strided: got ", shape.size(), " sizes and ", strides.size(),
           " strides");
  int64_t last = offset;
  const int64_t n = checked_numel(shape, "as_strided");
  bool overflow = offset < 0;
  for (int i = 0; i < shape.size() && n > 0; ++i) {
    PE_CHECK(strides[i] >= 0, Value, "as_strided: negative strides are not supported, got ", strides);
    int64_t reach;
    overflow |= __builtin_mul_overflow(shape[i] - 1, strides[i], &reach) || __builtin_add_overflow(last, reach, &last);
  }
  PE_CHECK(!overflow && (n == 0 || last < int64_t(x->storage->bytes / item_size(x.dtype()))), Shape,
           "as_strided: shape ", shape, ", strides ", strides, ", offset ", offset, " reach outside the storage of ",
           x->storage->bytes, " bytes");
  auto backward = [x_shape = x.shape(), x_strides = x.strides(), x_offset = x->offset, shape, strides, offset,
                   dense = x.is_dense()](const Backward& b) {
    b.refuse_create_graph();
    PE_CHECK(dense, NotImplemented, "as_strided: the gradient of a view of a tensor that has gaps in memory");
    const Tensor dx = empty_strided(x_shape, x_strides, b.dy[0].dtype());
    copy_into(dx, scalar_tensor(0, dx.dtype()));
    // Element by element through gathered positions: windows may overlap.
    const Tensor positions =
        contiguous(alias(arange(0, dx.numel(), 1, DType::Int64), offset - x_offset, shape, strides));
    const Tensor flat = alias(dx, 0, {dx.numel()}, {1});
    index_put_(flat, {reshape(positions, {-1})}, reshape(b.dy[0], {-1}), true);
    return Grads{dx};
  };
  return view_of("as_strided", x, offset, shape, strides, std::move(backward));
}

Tensor reshape(const Tensor& x, const Dims& shape) {
  const Dims full = infer_size(shape, x.numel(), "reshape");
  Dims strides;
  if (!view_strides(x, full, strides)) {
    const Tensor dense = contiguous(x);
    return reshape(dense, full);
  }
  return view_of("reshape", x, x->offset, full, strides,
                 [before = x.shape()](const Backward& b) { return Grads{reshape(b.dy[0], before)}; });
}

Tensor view(const Tensor& x, const Dims& shape) { return reshape(x, shape); }

Tensor permute(const Tensor& x, const Dims& dims) {
  PE_CHECK(dims.size() == x.dim(), Shape, "permute: got ", dims.size(), " dimensions for a tensor of shape ",
           x.shape());
  Dims shape, strides, inverse = dims;
  bool seen[kMaxDims] = {};
  for (int i = 0; i < dims.size(); ++i) {
    const int d = int(wrap_dim(dims[i], x.dim(), "permute"));
    PE_CHECK(!seen[d], Shape, "permute: repeated dimension in ", dims);
    seen[d] = true;
    shape.push_back(x.shape()[d]);
    strides.push_back(x.strides()[d]);
    inverse[d] = i;
  }
  return view_of("permute", x, x->offset, shape, strides,
                 [inverse](const Backward& b) { return Grads{permute(b.dy[0], inverse)}; });
}

Tensor transpose(const Tensor& x, int64_t dim0, int64_t dim1) {
  const int a = int(wrap_dim(dim0, x.dim(), "transpose")), b = int(wrap_dim(dim1, x.dim(), "transpose"));
  Dims dims;
  for (int i = 0; i < x.dim(); ++i) dims.push_back(i == a ? b : i == b ? a : i);
  return permute(x, dims);
}

Tensor movedim(const Tensor& x, const Dims& source, const Dims& destination) {
  PE_CHECK(source.size() == destination.size(), Shape, "movedim: got source ", source, " and destination ",
           destination);
  Dims order = Dims::filled(x.dim(), -1);
  bool used[kMaxDims] = {};
  for (int i = 0; i < source.size(); ++i) {
    const int s = int(wrap_dim(source[i], x.dim(), "movedim")), d = int(wrap_dim(destination[i], x.dim(), "movedim"));
    PE_CHECK(!used[s] && order[d] < 0, Shape, "movedim: repeated dimension in ", source, " or ", destination);
    order[d] = s;
    used[s] = true;
  }
  int next = 0;
  for (int d = 0; d < x.dim(); ++d) {
    if (order[d] >= 0) continue;
    while (used[next]) ++next;
    order[d] = next++;
  }
  return permute(x, order);
}

Tensor expand(const Tensor& x, const Dims& shape) {
  Dims full = shape;
  const int shift = shape.size() - x.dim();
  PE_CHECK(shift >= 0, Shape, "expand: ", shape.size(), " sizes are too few for a tensor of shape ", x.shape());
  Dims strides = Dims::filled(shape.size(), 0);
  for (int i = 0; i < shape.size(); ++i) {
    const int64_t n = i >= shift ? x.shape()[i - shift] : 1;
    PE_CHECK(i >= shift || shape[i] >= 0, Shape, "expand: -1 is not allowed for a new dimension, got ", shape);
    if (full[i] == -1) full[i] = n;
    PE_CHECK(full[i] == n || n == 1, Shape, "expand: cannot expand shape ", x.shape(), " to ", shape);
    if (i >= shift && full[i] == n) strides[i] = x.strides()[i - shift];
  }
  checked_numel(full, "expand");
  if (full == x.shape()) return x;
  return view_of("expand", x, x->offset, full, strides,
                 [before = x.shape()](const Backward& b) { return Grads{sum_to(b.dy[0], before)}; });
}

Tensor slice(const Tensor& x, int64_t dim, int64_t start, int64_t stop, int64_t step) {
  const int d = int(wrap_dim(dim, x.dim(), "slice"));
  PE_CHECK(step > 0, Value, "slice: step must be greater than zero, got ", step);
  Dims shape = x.shape(), strides = x.strides();
  shape[d] = stop > start ? (stop - start - 1) / step + 1 : 0;
  if (shape[d] > 1) strides[d] *= step;  // else the step may be too large for a product
  return view_of("slice", x, x->offset + (shape[d] > 0 ? start * x.strides()[d] : 0), shape, strides,
                 [before = x.shape(), d, start, stop, step](const Backward& b) {
                   if (b.create_graph()) {
                     const Tensor index = arange(start, std::max(stop, start), step, DType::Int64);
                     Indices indices(size_t(d) + 1);
                     indices[size_t(d)] = index;
                     return Grads{index_put(zeros_like_shape(before, b.dy[0].dtype()), indices, b.dy[0], false)};
                   }
                   const Tensor dx = zeros_like_shape(before, b.dy[0].dtype());
                   copy_into(slice(dx, d, start, stop, step), b.dy[0]);
                   return Grads{dx};
                 });
}

Tensor narrow(const Tensor& x, int64_t dim, int64_t start, int64_t length) {
  const int d = int(wrap_dim(dim, x.dim(), "narrow"));
  const int64_t n = x.shape()[d], first = start < 0 ? start + n : start;
  PE_CHECK(first >= 0 && length >= 0 && first <= n && length <= n - first, Index, "narrow: start ", start,
           " and length ", length, " exceed dimension ", d, " of size ", n);
  return slice(x, d, first, first + length, 1);
}

Tensor select(const Tensor& x, int64_t dim, int64_t index) {
  PE_CHECK(x.dim() > 0, Index, "select: a tensor of shape () cannot be indexed");
  const int d = int(wrap_dim(dim, x.dim(), "select"));
  const int64_t n = x.shape()[d];
  PE_CHECK(index >= -n && index < n, Index, "select: index ", index, " is out of bounds for dimension ", d,
           " with size ", n);
  const int64_t i = index < 0 ? index + n : index;
  Dims shape = x.shape(), strides = x.strides();
  shape.erase(d);
  strides.erase(d);
  return view_of(
      "select", x, x->offset + i * x.strides()[d], shape, strides, [before = x.shape(), d, i](const Backward& b) {
        if (b.create_graph()) {
          Indices indices(size_t(d) + 1);
          indices[size_t(d)] = full({1}, i, DType::Int64);
          return Grads{index_put(zeros_like_shape(before, b.dy[0].dtype()), indices, unsqueeze(b.dy[0], d), false)};
        }
        const Tensor dx = zeros_like_shape(before, b.dy[0].dtype());
        copy_into(select(dx, d, i), b.dy[0]);
        return Grads{dx};
      });
}

Tensor squeeze(const Tensor& x, const Dims& dims) {
  bool drop[kMaxDims] = {};
  for (int64_t d : dims) drop[wrap_dim(d, x.dim(), "squeeze")] = true;
  Dims shape, strides;
  for (int i = 0; i < x.dim(); ++i) {
    if (drop[i] && x.shape()[i] == 1) continue;
    shape.push_back(x.shape()[i]);
    strides.push_back(x.strides()[i]);
  }
  return view_of("squeeze", x, x->offset, shape, strides,
                 [before = x.shape()](const Backward& b) { return Grads{reshape(b.dy[0], before)}; });
}

Tensor squeeze(const Tensor& x) {
  Dims all;
  for (int i = 0; i < x.dim(); ++i) all.push_back(i);
  return squeeze(x, all);
}

Tensor unsqueeze(const Tensor& x, int64_t dim) {
  const int d = int(wrap_dim(dim, x.dim() + 1, "unsqueeze"));
  Dims shape = x.shape(), strides = x.strides();
  const int64_t step = d < x.dim() ? shape[d] * strides[d] : 1;
  shape.insert(d, 1);
  strides.insert(d, step);
  return view_of("unsqueeze", x, x->offset, shape, strides,
                 [d](const Backward& b) { return Grads{squeeze(b.dy[0], {d})}; });
}

Tensor flatten(const Tensor& x, int64_t start, int64_t end) {
  if (x.dim() == 0) return reshape(x, {1});
  const int a = int(wrap_dim(start, x.dim(), "flatten")), z = int(wrap_dim(end, x.dim(), "flatten"));
  PE_CHECK(a <= z, Shape, "flatten: start_dim ", start, " comes after end_dim ", end);
  Dims shape;
  int64_t run = 1;
  for (int i = 0; i < x.dim(); ++i) {
    if (i < a || i > z) {
      shape.push_back(x.shape()[i]);
      continue;
    }
    run *= x.shape()[i];
    if (i == z) shape.push_back(run);
  }
  return shape == x.shape() ? x : reshape(x, shape);
}

Tensor unflatten(const Tensor& x, int64_t dim, const Dims& sizes) {
  const int d = int(wrap_dim(dim, x.dim(), "unflatten"));
  const Dims inner = infer_size(sizes, x.shape()[d], "unflatten");
  Dims shape;
  for (int i = 0; i < x.dim(); ++i) {
    if (i != d)
      shape.push_back(x.shape()[i]);
    else
      for (int64_t s : inner) shape.push_back(s);
  }
  return reshape(x, shape);
}

Tensor diagonal(const Tensor& x, int64_t offset, int64_t dim1, int64_t dim2) {
  const int a = int(wrap_dim(dim1, x.dim(), "diagonal")), b = int(wrap_dim(dim2, x.dim(), "diagonal"));
  PE_CHECK(x.dim() >= 2 && a != b, Shape, "diagonal: expected two different dimensions of a matrix, got ", dim1,
           " and ", dim2, " for shape ", x.shape());
  const int64_t rows = x.shape()[a], cols = x.shape()[b];
  const int64_t length =
      std::max<int64_t>(0, offset >= 0 ? std::min(rows, cols - offset) : std::min(rows + offset, cols));
  const int64_t first = length == 0 ? 0 : offset >= 0 ? offset * x.strides()[b] : -offset * x.strides()[a];
  Dims shape, strides;
  for (int i = 0; i < x.dim(); ++i) {
    if (i == a || i == b) continue;
    shape.push_back(x.shape()[i]);
    strides.push_back(x.strides()[i]);
  }
  shape.push_back(length);
  strides.push_back(x.strides()[a] + x.strides()[b]);
  return view_of(
      "diagonal", x, x->offset + first, shape, strides, [before = x.shape(), offset, a, b](const Backward& back) {
        // With the two dimensions last, the diagonal's positions are a pair of index lists.
        const int64_t length = back.dy[0].size(-1);
        Dims order, shape;
        for (int i = 0; i < before.size(); ++i)
          if (i != a && i != b) order.push_back(i);
        Indices indices(size_t(order.size()));
        for (const bool column : {false, true}) {
          const int64_t start = column ? std::max<int64_t>(offset, 0) : std::max<int64_t>(-offset, 0);
          indices.push_back(arange(start, start + length, int64_t(1), DType::Int64));
          order.push_back(column ? b : a);
        }
        Dims inverse = order;
        for (int i = 0; i < order.size(); ++i) {
          shape.push_back(before[int(order[i])]);
          inverse[int(order[i])] = i;
        }
        return Grads{
            permute(index_put(zeros_like_shape(shape, back.dy[0].dtype()), indices, back.dy[0], false), inverse)};
      });
}

std::vector<Tensor> split(const Tensor& x, const Dims& sizes, int64_t dim) {
  const int d = int(wrap_dim(dim, x.dim(), "split"));
  int64_t at = 0;
  for (int64_t s : sizes) at += s;
  PE_CHECK(at == x.shape()[d], Shape, "split: sizes ", sizes, " add up to ", at, ", but dimension ", d, " has size ",
           x.shape()[d]);
  std::vector<Tensor> parts;
  at = 0;
  for (int64_t s : sizes) {
    PE_CHECK(s >= 0, Shape, "split: sizes must not be negative, got ", sizes);
    parts.push_back(slice(x, d, at, at + s, 1));
    at += s;
  }
  return parts;
}

std::vector<Tensor> split(const Tensor& x, int64_t size, int64_t dim) {
  const int d = int(wrap_dim(dim, x.dim(), "split"));
  PE_CHECK(size > 0, Value, "split: split_size must be positive, got ", size);
  std::vector<Tensor> parts;
  const int64_t n = x.shape()[d];
  for (int64_t at = 0; at < n || parts.empty(); at += size) parts.push_back(slice(x, d, at, std::min(n, at + size), 1));
  return parts;
}

std::vector<Tensor> chunk(const Tensor& x, int64_t chunks, int64_t dim) {
  PE_CHECK(chunks > 0, Value, "chunk: expected at least one chunk, got ", chunks);
  const int64_t n = x.size(dim);
  return split(x, std::max<int64_t>(1, (n + chunks - 1) / chunks), dim);
}

std::vector<Tensor> unbind(const Tensor& x, int64_t dim) {
  std::vector<Tensor> parts;
  for (int64_t i = 0, n = x.size(dim); i < n; ++i) parts.push_back(select(x, dim, i));
  return parts;
}

}  // namespace pe::ops
