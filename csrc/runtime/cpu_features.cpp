#include "runtime/cpu_features.h"

#include <cstring>
#include <string>

#if defined(__x86_64__) || defined(__i386__)
#include <cpuid.h>
#define PE_X86
#endif

namespace pe {

// The compiler's test also asks XGETBV whether the operating system saves the wide registers.
bool cpu_has_avx2() {
#ifdef PE_X86
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool cpu_has_avx512() {
#ifdef PE_X86
  __builtin_cpu_init();
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("fma");
#else
  return false;
#endif
}

bool cpu_has_neon() {
#ifdef __aarch64__
  return true;  // part of the base instruction set
#else
  return false;
#endif
}

const char* cpu_name() {
  static const std::string name = [] {
    std::string text;
#ifdef PE_X86
    unsigned r[4] = {};
    if (__get_cpuid_max(0x80000000u, nullptr) >= 0x80000004u) {
      for (unsigned leaf = 0x80000002u; leaf <= 0x80000004u; ++leaf) {
        __get_cpuid(leaf, &r[0], &r[1], &r[2], &r[3]);
        char part[sizeof r];
        std::memcpy(part, r, sizeof r);
        text.append(part, strnlen(part, sizeof part));
      }
    }
    const size_t first = text.find_first_not_of(' ');
    text = first == std::string::npos ? "x86-64" : text.substr(first, text.find_last_not_of(' ') - first + 1);
#elif defined(__aarch64__)
    text = "aarch64";
#else
    text = "unknown";
#endif
    return text;
  }();
  return name.c_str();
}

}  // namespace pe
