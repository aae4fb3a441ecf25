#include "autograd/node.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

// Runs a kernel over rows of `length` along dimension d, giving `kept` positions each; values are gathered, which
// carries their gradient.
template <class Kernel>
Pair along_rows(const Tensor& x, int64_t d, int64_t kept, const Kernel& kernel) {
  if (x.dim() == 0) return {clone(x), full({}, 0, DType::Int64)};
  const Tensor rows = contiguous(movedim(detach(x), {d}, {-1}));
  Dims shape = rows.shape();
  const int64_t length = shape.back();
  shape[shape.size() - 1] = kept;
  const Tensor values = empty(shape, x.dtype()), indices = empty(shape, DType::Int64);
  if (indices.numel() > 0)
    kernel(rows.numel() / length, length, rows.data(), values.data(), indices.data_as<int64_t>());
  const Tensor order = contiguous(movedim(indices, {-1}, {d}));
  if (recording(x)) return {gather(x, d, order), order};
  return {contiguous(movedim(values, {-1}, {d})), order};
}

}  // namespace

Pair sort(const Tensor& x, int64_t dim, bool descending) {
  const int64_t d = wrap_dim(dim, x.dim(), "sort");
  return along_rows(x, d, x.dim() ? x.shape()[int(d)] : 1,
                    [&](int64_t rows, int64_t cols, const void* in, void* values, int64_t* indices) {
                      kernels().sort(x.dtype(), rows, cols, descending, in, values, indices);
                    });
}

Pair topk(const Tensor& x, int64_t k, int64_t dim, bool largest) {
  const int64_t d = wrap_dim(dim, x.dim(), "topk"), n = x.dim() ? x.shape()[int(d)] : 1;
  PE_CHECK(k >= 0 && k <= n, Index, "topk: k is ", k, ", but dimension ", d, " has size ", n);
  return along_rows(x, d, k, [&](int64_t rows, int64_t cols, const void* in, void* values, int64_t* indices) {
    kernels().topk(x.dtype(), rows, cols, k, largest, in, values, indices);
  });
}

}  // namespace pe::ops
