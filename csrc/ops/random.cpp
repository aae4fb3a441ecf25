#include <algorithm>
#include <numeric>

#include "kernels/dispatch.h"
#include "ops/ops.h"

namespace pe::ops {

namespace {

// Counters that n elements of this dtype take: four 32-bit or two 64-bit draws each.
uint64_t counters(int64_t n, DType t) { return item_size(t) == 8 ? uint64_t(n + 1) / 2 : uint64_t(n + 3) / 4; }

// Fills a dense scratch and copies it where x is not dense in its logical order: element i's number depends on i alone.
template <class Fill>
void fill_random(const Tensor& x, const Fill& fill) {
  if (x.is_contiguous()) return fill(x);
  const Tensor dense = empty(x.shape(), x.dtype());
  fill(dense);
  copy_into(x, dense);
}

void check_floating(const Tensor& x, const char* op) {
  PE_CHECK(is_floating(x.dtype()), Type, op, ": expected a floating point tensor, got ", dtype_name(x.dtype()));
}

}  // namespace

void uniform_into(const Tensor& x, double low, double high, Generator& generator) {
  check_floating(x, "uniform_");
  PE_CHECK(low <= high, Value, "uniform_: expected from <= to, got ", low, " and ", high);
  const Generator::State s = generator.reserve(counters(x.numel(), x.dtype()));
  fill_random(x, [&](const Tensor& y) {
    kernels().random_uniform(y.dtype(), y.numel(), low, high, s.seed, s.offset, y.data());
  });
}

void normal_into(const Tensor& x, double mean, double std, Generator& generator) {
  check_floating(x, "normal_");
  PE_CHECK(std >= 0, Value, "normal_: expected std >= 0, got ", std);
  const Generator::State s = generator.reserve(counters(x.numel(), x.dtype()));
  fill_random(x, [&](const Tensor& y) {
    kernels().random_normal(y.dtype(), y.numel(), mean, std, s.seed, s.offset, y.data());
  });
}

void random_into(const Tensor& x, int64_t low, int64_t high, Generator& generator) {
  PE_CHECK(low < high, Value, "randint: expected low < high, got ", low, " and ", high);
  const Tensor y = x.dtype() == DType::Int64 && x.is_contiguous() ? x : empty(x.shape(), DType::Int64);
  const Generator::State s = generator.reserve(counters(y.numel(), DType::Int64));
  kernels().random_integer(DType::Int64, y.numel(), low, high, s.seed, s.offset, y.data());
  if (!y.same(x)) copy_into(x, y);
}

Tensor rand(const Dims& shape, DType dtype, Generator& generator) {
  const Tensor y = empty(shape, dtype);
  uniform_into(y, 0, 1, generator);
  return y;
}

Tensor randn(const Dims& shape, DType dtype, Generator& generator) {
  const Tensor y = empty(shape, dtype);
  normal_into(y, 0, 1, generator);
  return y;
}

Tensor randint(int64_t low, int64_t high, const Dims& shape, DType dtype, Generator& generator) {
  const Tensor y = empty(shape, dtype);
  random_into(y, low, high, generator);
  return y;
}

Tensor randperm(int64_t n, DType dtype, Generator& generator) {
  PE_CHECK(n >= 0, Value, "randperm: n must not be negative, got ", n);
  const Tensor keys = empty({std::max<int64_t>(n, 1)}, DType::Int64);
  random_into(keys, INT64_MIN, INT64_MAX, generator);
  const Tensor order = empty({n}, DType::Int64);
  int64_t* p = order.data_as<int64_t>();
  std::iota(p, p + n, int64_t(0));
  // Sorting by random 64-bit keys; equal keys (chance n² / 2⁶⁵) keep their order.
  const int64_t* k = keys.data_as<int64_t>();
  std::sort(p, p + n, [k](int64_t a, int64_t b) { return k[a] != k[b] ? k[a] < k[b] : a < b; });
  return to(order, dtype);
}

Tensor bernoulli(const Tensor& p, Generator& generator) {
  check_floating(p, "bernoulli");
  return to(compare(CompareOp::lt, rand(p.shape(), p.dtype(), generator), detach(p)), p.dtype());
}

Tensor multinomial(const Tensor& weights, int64_t samples, bool replacement, Generator& generator) {
  PE_CHECK(weights.dim() == 1 || weights.dim() == 2, Shape, "multinomial: expected 1 or 2 dimensions, got shape ",
           weights.shape());
  const Tensor w = contiguous(to(detach(weights), DType::Float64));
  const int64_t classes = w.shape().back(), rows = w.dim() == 2 ? w.shape()[0] : 1;
  PE_CHECK(samples > 0 && (replacement || samples <= classes), Value, "multinomial: cannot draw ", samples,
           " samples from ", classes, " classes", replacement ? "" : " without replacement");
  const Tensor u = rand({rows, samples}, DType::Float64, generator);
  const Tensor y = empty({rows, samples}, DType::Int64);
  std::vector<double> left(static_cast<size_t>(classes));
  for (int64_t r = 0; r < rows; ++r) {
    std::copy_n(w.data_as<double>() + r * classes, classes, left.begin());
    for (double v : left)
      PE_CHECK(v >= 0 && v < 1e300, Value, "multinomial: weights must be finite and not negative, got ", v);
    for (int64_t i = 0; i < samples; ++i) {
      const double total = std::accumulate(left.begin(), left.end(), 0.0);
      PE_CHECK(total > 0, Value, "multinomial: too few weights above zero for ", samples, " samples");
      double rest = u.data_as<double>()[r * samples + i] * total;
      int64_t c = -1;
      for (int64_t j = 0; j < classes; ++j) {
        if (left[size_t(j)] <= 0) continue;
        c = j;  // rounding can leave a rest behind the last class
        rest -= left[size_t(j)];
        if (rest < 0) break;
      }
      y.data_as<int64_t>()[r * samples + i] = c;
      if (!replacement) left[size_t(c)] = 0;
    }
  }
  return weights.dim() == 2 ? y : reshape(y, {samples});
}

}  // namespace pe::ops
