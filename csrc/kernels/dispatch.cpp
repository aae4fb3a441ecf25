#include "kernels/dispatch.h"

#include <cstdlib>
#include <cstring>
#include <string>

#include "runtime/cpu_features.h"
#include "tensor/check.h"

namespace pe {

// Every kernel's declaration, once per instruction set.
#define KERNEL(name, params) void name params;
#define KERNEL_ONCE(name, params)
#define PE_DECLARE(isa) namespace isa {
PE_DECLARE(scalar)
#include "kernels/kernels.def"
}
#ifdef PE_HAVE_AVX2
PE_DECLARE(avx2)
#include "kernels/kernels.def"
}
#endif
#ifdef PE_HAVE_AVX512
PE_DECLARE(avx512)
#include "kernels/kernels.def"
}
#endif
#ifdef PE_HAVE_NEON
PE_DECLARE(neon)
#include "kernels/kernels.def"
}
#endif
#undef KERNEL
#undef KERNEL_ONCE

#define KERNEL(name, params)
#define KERNEL_ONCE(name, params) void name params;
namespace once {
#include "kernels/kernels.def"
}
#undef KERNEL
#undef KERNEL_ONCE

namespace {

#define KERNEL_ONCE(name, params) once::name,
#define KERNEL(name, params) scalar::name,
const KernelTable kScalar = {
    "scalar",
#include "kernels/kernels.def"
};
#undef KERNEL
#ifdef PE_HAVE_AVX2
#define KERNEL(name, params) avx2::name,
const KernelTable kAvx2 = {
    "avx2",
#include "kernels/kernels.def"
};
#undef KERNEL
#endif
#ifdef PE_HAVE_AVX512
#define KERNEL(name, params) avx512::name,
const KernelTable kAvx512 = {
    "avx512",
#include "kernels/kernels.def"
};
#undef KERNEL
#endif
#ifdef PE_HAVE_NEON
#define KERNEL(name, params) neon::name,
const KernelTable kNeon = {
    "neon",
#include "kernels/kernels.def"
};
#undef KERNEL
#endif

struct Variant {
  const KernelTable* table;
  bool supported;
};

const KernelTable* chosen = nullptr;

}  // namespace

const KernelTable& kernels() { return *chosen; }

void select_isa(const char* name) {
  const Variant variants[] = {
#ifdef PE_HAVE_AVX512
      {&kAvx512, cpu_has_avx512()},
#endif
#ifdef PE_HAVE_AVX2
      {&kAvx2, cpu_has_avx2()},
#endif
#ifdef PE_HAVE_NEON
      {&kNeon, cpu_has_neon()},
#endif
      {&kScalar, true},
  };
  std::string known;
  for (const Variant& v : variants) {
    if (*name == '\0' && v.supported) {
      chosen = v.table;
      return;
    }
    if (std::strcmp(name, v.table->isa) == 0) {
      PE_CHECK(v.supported, Value, "PYENGINE_CPU_ISA: this processor (", cpu_name(), ") cannot run '", name, "'");
      chosen = v.table;
      return;
    }
    known += (known.empty() ? "" : ", ") + std::string(v.table->isa);
  }
  fail(ErrorKind::Value, "PYENGINE_CPU_ISA: unknown instruction set '", name, "'; this build has ", known);
}

}  // namespace pe
