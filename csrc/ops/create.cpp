#include <cmath>

#include "kernels/dispatch.h"
#include "ops/elementwise.h"
#include "ops/ops.h"

namespace pe::ops {

Tensor scalar_tensor(Scalar value, DType dtype) {
  Tensor y = empty({}, dtype);
  switch (dtype) {
    case DType::Bool: *y.data_as<bool>() = value.d != 0; break;
    case DType::UInt8: *y.data_as<uint8_t>() = uint8_t(value.to_int()); break;
    case DType::Int32: *y.data_as<int32_t>() = int32_t(value.to_int()); break;
    case DType::Int64: *y.data_as<int64_t>() = value.to_int(); break;
    case DType::Float32: *y.data_as<float>() = float(value.d); break;
    case DType::Float64: *y.data_as<double>() = value.d; break;
  }
  return y;
}

Tensor wrapped_number(Scalar value) {
  // Float64 keeps all of the number's bits until the other operand decides the dtype.
  Tensor y = scalar_tensor(value, value.kind == Scalar::Float ? DType::Float64 : value.default_dtype());
  y->wrapped_number = true;
  return y;
}

Tensor full(const Dims& shape, Scalar value, DType dtype) {
  const Tensor y = empty(shape, dtype);
  copy_into(y, scalar_tensor(value, dtype));
  return y;
}

Tensor full_like(const Tensor& x, Scalar value) {
  const Tensor y = empty_like(x);
  copy_into(y, scalar_tensor(value, x.dtype()));
  return y;
}

Tensor arange(Scalar start, Scalar end, Scalar step, DType dtype) {
  PE_CHECK(std::isfinite(start.d) && std::isfinite(end.d), Value, "arange: bounds must be finite, got ", start.d,
           " and ", end.d);
  PE_CHECK(step.d != 0, Value, "arange: step must not be zero");
  PE_CHECK((end.d - start.d) * step.d >= 0, Value, "arange: bounds ", start.d, " and ", end.d,
           " do not fit the sign of step ", step.d);
  const double n = std::ceil((end.d - start.d) / step.d);
  PE_CHECK(n < 1e15, Shape, "arange: too many elements (", n, ")");
  const Tensor y = empty({int64_t(n)}, dtype);
  kernels().arange(dtype, y.numel(), start.d, step.d, y.data());
  return y;
}

Tensor linspace(double start, double end, int64_t steps, DType dtype) {
  PE_CHECK(steps >= 0, Value, "linspace: steps must not be negative, got ", steps);
  const Tensor y = empty({steps}, DType::Float64);
  double* v = y.data_as<double>();
  const double step = steps > 1 ? (end - start) / double(steps - 1) : 0;
  // From both ends, so that the last value is exactly `end`.
  for (int64_t i = 0; i < steps; ++i)
    v[i] = i < (steps + 1) / 2 ? start + step * double(i) : end - step * double(steps - 1 - i);
  return to(y, dtype);
}

Tensor eye(int64_t n, int64_t m, DType dtype) {
  PE_CHECK(n >= 0 && m >= 0, Value, "eye: sizes must not be negative, got ", n, " and ", m);
  const Tensor y = full({n, m}, 0, dtype);
  copy_into(diagonal(y, 0, 0, 1), scalar_tensor(1, dtype));
  return y;
}

}  // namespace pe::ops
