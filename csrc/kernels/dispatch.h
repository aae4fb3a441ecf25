// The table of kernels that this process uses, chosen once at import.
#pragma once
#include "kernels/op_codes.h"
#include "kernels/shapes.h"

namespace pe {

struct KernelTable {
  const char* isa;
#define KERNEL(name, params) void(*name) params;
#define KERNEL_ONCE(name, params) void(*name) params;
#include "kernels/kernels.def"
#undef KERNEL
#undef KERNEL_ONCE
};

// The CPU's table. select_isa("") picks the best that this machine runs; PYENGINE_CPU_ISA or a name forces one, and an
// unknown or unsupported name raises.
const KernelTable& kernels();
void select_isa(const char* name);

}  // namespace pe
