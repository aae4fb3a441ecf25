// What this processor can run.
#pragma once

namespace pe {
bool cpu_has_avx2();    // AVX2 and FMA, and the system saves their registers
bool cpu_has_avx512();  // AVX-512 F, BW, DQ, VL likewise
bool cpu_has_neon();
const char* cpu_name();
}  // namespace pe
