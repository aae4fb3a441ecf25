// A Python number: weak in type promotion.
#pragma once
#include <cstdint>

#include "tensor/dtype.h"

namespace pe {

struct Scalar {
  enum Kind { Bool, Int, Float } kind;
  int64_t i = 0;
  double d = 0;

  Scalar(bool v) : kind(Bool), i(v), d(v) {}
  Scalar(int v) : kind(Int), i(v), d(v) {}
  Scalar(int64_t v) : kind(Int), i(v), d(double(v)) {}
  Scalar(double v) : kind(Float), d(v) {}

  double to_double() const { return d; }
  int64_t to_int() const { return kind == Float ? int64_t(d) : i; }
  DType default_dtype() const { return kind == Bool ? DType::Bool : kind == Int ? DType::Int64 : pe::default_dtype(); }
};

}  // namespace pe
