// The enums behind the formula tables; one row in a .def file adds one member here.
#pragma once

namespace pe {

enum class UnaryOp : int {
#define UNARY(name, ...) name,
#include "kernels/unary.def"
#undef UNARY
};

enum class BinaryOp : int {
#define BINARY(name, ...) name,
#include "kernels/binary.def"
#undef BINARY
};

enum class CompareOp : int { eq, ne, lt, le, gt, ge };
enum class UnaryTest : int { isnan, isinf, isfinite, logical_not };
enum class ReduceOp : int { sum, prod, max, min, sumsq, any, all };  // sumsq: sum of squares
enum class CumulativeOp : int { sum, prod };

}  // namespace pe
