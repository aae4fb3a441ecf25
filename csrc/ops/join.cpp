#include <algorithm>

#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

Tensor cat(const std::vector<Tensor>& tensors, int64_t dim) {
  PE_CHECK(!tensors.empty(), Value, "cat: expected a non-empty list of tensors");
  std::vector<Tensor> parts;
  DType t = tensors[0].dtype();
  for (size_t i = 0; i < tensors.size(); ++i) {
    PE_CHECK(tensors[i].dim() > 0, Shape, "cat: zero-dimensional tensor (at position ", i, ") cannot be concatenated");
    t = promote(t, tensors[i].dtype());
  }
  for (const Tensor& x : tensors)
    if (!(x.dim() == 1 && x.numel() == 0 && tensors.size() > 1)) parts.push_back(to(x, t));  // PyTorch's legacy empties
  if (parts.empty()) return to(tensors[0], t);
  const int d = int(wrap_dim(dim, parts[0].dim(), "cat"));
  Dims shape = parts[0].shape();
  shape[d] = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    Dims other = parts[i].shape();
    PE_CHECK(other.size() == shape.size(), Shape, "cat: tensors must have the same number of dimensions, got ",
             shape.size(), " and ", other.size());
    const int64_t n = other[d];
    other[d] = shape[d];
    PE_CHECK(other == shape, Shape, "cat: sizes must match except in dimension ", d, ", got ", parts[0].shape(),
             " and ", parts[i].shape(), " at position ", i);
    shape[d] += n;
  }
  const Tensor y = parts[0].is_channels_last() && !parts[0].is_contiguous()
                       ? empty_strided(shape, channels_last_strides(shape), t)
                       : empty(shape, t);
  int64_t at = 0;
  std::vector<int64_t> lengths;
  for (const Tensor& x : parts) {
    Dims part = shape;
    part[d] = x.shape()[d];
    copy_into(alias(y, y->offset + at * y.strides()[d], part, y.strides()), x);
    at += part[d];
    lengths.push_back(part[d]);
  }
  if (recording_any(parts))
    record("cat", y, parts, [d, lengths](const Backward& b) {
      Grads g;
      int64_t from = 0;
      for (size_t i = 0; i < lengths.size(); ++i) {
        g.push_back(b.needed[i] ? slice(b.dy[0], d, from, from + lengths[i], 1) : Tensor());
        from += lengths[i];
      }
      return g;
    });
  return y;
}

Tensor stack(const std::vector<Tensor>& tensors, int64_t dim) {
  PE_CHECK(!tensors.empty(), Value, "stack: expected a non-empty list of tensors");
  const int64_t d = wrap_dim(dim, tensors[0].dim() + 1, "stack");
  std::vector<Tensor> parts;
  for (const Tensor& x : tensors) {
    PE_CHECK(x.shape() == tensors[0].shape(), Shape, "stack: expects each tensor to be of equal size, got ",
             tensors[0].shape(), " and ", x.shape());
    parts.push_back(unsqueeze(x, d));
  }
  return cat(parts, d);
}

namespace {

// The source position of each padded one; "constant" is handled apart.
constexpr int64_t kMostPadding = int64_t(1) << 58;  // sums of a few do not overflow

Tensor pad_index(int64_t n, int64_t before, int64_t after, const std::string& mode) {
  const Tensor index = empty({before + n + after}, DType::Int64);
  int64_t* p = index.data_as<int64_t>();
  for (int64_t i = -before; i < n + after; ++i) {
    int64_t j = i;
    if (mode == "replicate") j = std::clamp<int64_t>(i, 0, n - 1);
    if (mode == "reflect") j = i < 0 ? -i : i >= n ? 2 * (n - 1) - i : i;
    if (mode == "circular") j = (i + n) % n;
    p[i + before] = j;
  }
  return index;
}

Tensor pad_constant(const Tensor& x, const Dims& before, const Dims& after, double value) {
  Dims shape = x.shape();
  for (int i = 0; i < x.dim(); ++i) {
    shape[i] += before[i] + after[i];
    PE_CHECK(shape[i] >= 0, Shape, "pad: dimension ", i, " of ", x.shape(), " would get the negative size ", shape[i]);
  }
  const Tensor y = empty_strided(
      shape, x.is_channels_last() && !x.is_contiguous() ? channels_last_strides(shape) : contiguous_strides(shape),
      x.dtype());
  copy_into(y, scalar_tensor(Scalar(value), x.dtype()));
  Tensor from = detach(x), target = detach(y);
  for (int i = 0; i < x.dim(); ++i) {  // negative padding crops
    from = slice(from, i, std::max<int64_t>(0, -before[i]), x.shape()[i] - std::max<int64_t>(0, -after[i]), 1);
    target = slice(target, i, std::max<int64_t>(0, before[i]), shape[i] - std::max<int64_t>(0, after[i]), 1);
  }
  copy_into(target, from);
  if (recording(x))
    record("pad", y, {x}, [before, after](const Backward& b) {
      Dims minus_before = before, minus_after = after;
      for (int i = 0; i < before.size(); ++i) minus_before[i] = -before[i], minus_after[i] = -after[i];
      return Grads{pad_constant(b.dy[0], minus_before, minus_after, 0)};
    });
  return y;
}

}  // namespace

Tensor pad(const Tensor& x, const Dims& padding, const std::string& mode, double value) {
  PE_CHECK(padding.size() % 2 == 0, Value, "pad: expected pairs of sizes, got ", padding);
  PE_CHECK(padding.size() <= 2 * x.dim(), Shape, "pad: ", padding, " pads more dimensions than shape ", x.shape(),
           " has");
  for (const int64_t p : padding)
    PE_CHECK(p > -kMostPadding && p < kMostPadding, Shape, "pad: ", padding, " is more than a tensor can have");
  Dims before = Dims::filled(x.dim(), 0), after = before;
  for (int i = 0; i < padding.size() / 2; ++i) {
    before[x.dim() - 1 - i] = padding[2 * i];
    after[x.dim() - 1 - i] = padding[2 * i + 1];
  }
  if (mode == "constant") return pad_constant(x, before, after, value);
  PE_CHECK(mode == "reflect" || mode == "replicate" || mode == "circular", Value,
           "pad: expected mode 'constant', 'reflect', 'replicate' or 'circular', got '", mode, "'");
  Tensor y = x;
  for (int i = 0; i < x.dim(); ++i) {
    if (before[i] == 0 && after[i] == 0) continue;
    const int64_t n = x.shape()[i], most = mode == "reflect" ? n - 1 : mode == "circular" ? n : INT64_MAX;
    PE_CHECK(before[i] >= 0 && after[i] >= 0 && n > 0 && before[i] <= most && after[i] <= most, Shape, "pad: ", mode,
             " padding ", padding, " does not fit shape ", x.shape(), " in dimension ", i);
    y = index_select(y, i, pad_index(n, before[i], after[i], mode));
  }
  return y;
}

Tensor flip(const Tensor& x, const Dims& dims) {
  Tensor y = x;
  for (int64_t dim : dims) {
    const int d = int(wrap_dim(dim, x.dim(), "flip"));
    const int64_t n = x.shape()[d];
    y = index_select(y, d, n == 0 ? empty({0}, DType::Int64) : arange(n - 1, int64_t(-1), int64_t(-1), DType::Int64));
  }
  return y.same(x) ? clone(x) : y;
}

Tensor roll(const Tensor& x, const Dims& shifts, const Dims& dims) {
  if (dims.empty()) {
    PE_CHECK(shifts.size() == 1, Value, "roll: expected one shift when no dims are given, got ", shifts);
    return reshape(roll(reshape(x, {-1}), shifts, {0}), x.shape());
  }
  PE_CHECK(shifts.size() == dims.size(), Value, "roll: got ", shifts.size(), " shifts for ", dims.size(), " dims");
  Tensor y = x;
  for (int i = 0; i < dims.size(); ++i) {
    const int64_t n = x.size(dims[i]);
    if (n == 0) continue;
    const int64_t k = ((shifts[i] % n) + n) % n;
    if (k) y = cat({narrow(y, dims[i], n - k, k), narrow(y, dims[i], 0, n - k)}, dims[i]);
  }
  return y.same(x) ? clone(x) : y;
}

Tensor repeat(const Tensor& x, const Dims& repeats) {
  PE_CHECK(repeats.size() >= x.dim(), Shape, "repeat: ", repeats, " has fewer entries than shape ", x.shape(),
           " has dimensions");
  const int shift = repeats.size() - x.dim();
  Dims split_shape, expanded, result;
  for (int i = 0; i < repeats.size(); ++i) {
    const int64_t n = i < shift ? 1 : x.shape()[i - shift];
    PE_CHECK(repeats[i] >= 0, Value, "repeat: counts must not be negative, got ", repeats);
    int64_t size;
    PE_CHECK(!__builtin_mul_overflow(repeats[i], n, &size), Shape, "repeat: ", repeats, " makes shape ", x.shape(),
             " too large");
    result.push_back(size);
    if (i >= shift && n == 1) {  // no need for a dimension of its own
      split_shape.push_back(1);
      expanded.push_back(repeats[i]);
    } else if (i < shift) {
      split_shape.push_back(1);
      expanded.push_back(repeats[i]);
    } else {
      if (repeats[i] != 1) split_shape.push_back(1), expanded.push_back(repeats[i]);
      split_shape.push_back(n);
      expanded.push_back(n);
    }
  }
  const Tensor y = reshape(expand(reshape(x, split_shape), expanded), result);
  return y->storage == x->storage ? clone(y) : y;
}

Tensor repeat_interleave(const Tensor& x, int64_t repeats, OptInt dim) {
  PE_CHECK(repeats >= 0, Value, "repeat_interleave: repeats must not be negative, got ", repeats);
  const Tensor v = dim ? x : reshape(x, {-1});
  const int64_t d = wrap_dim(dim.value_or(0), v.dim(), "repeat_interleave");
  const Tensor positions = arange(int64_t(0), v.size(d), int64_t(1), DType::Int64);
  const Tensor index = reshape(expand(unsqueeze(positions, 1), {v.size(d), repeats}), {-1});
  return index_select(v, d, index);
}

}  // namespace pe::ops
