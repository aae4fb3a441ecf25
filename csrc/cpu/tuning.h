// Block sizes per instruction set, and nothing else.
#pragma once
#include <cstdint>

namespace pe::PE_ISA {

// The matrix product's register tile: kMicroRows rows times kMicroVectors vectors of accumulators. It leaves registers
// for one row of B and one broadcast element of A.
#if defined(PE_ISA_AVX512)
constexpr int kMicroRows = 14;  // 28 of 32 registers
constexpr int kTileStride = 16;
#elif defined(PE_ISA_AVX2)
constexpr int kMicroRows = 6;  // 12 of 16
constexpr int kTileStride = 8;
#elif defined(PE_ISA_NEON)
constexpr int kMicroRows = 8;  // 16 of 32
constexpr int kTileStride = 8;
#else
constexpr int kMicroRows = 4;  // 8 of 16
constexpr int kTileStride = 4;
#endif
constexpr int kMicroVectors = 2;
// kTileStride: elements between the steps of k in a packed tile of a transposed A; kMicroRows, rounded up.

constexpr int64_t kBlockBytesK = 2048;  // of a row of A, and rows of a panel of B, in one pass over k
constexpr int64_t kBlockRows = 112;     // rows of A that stay in the L2 cache
constexpr int64_t kGradientRows = 224;  // the same in a weight gradient, whose B is costly to pack
constexpr int64_t kRowPadBytes = 64;    // rows that are 2 KB apart share a few sets of the L1 cache
constexpr int64_t kAliasBytes = 2048;
constexpr int64_t kSharedBBytes = 16 << 20;   // the part of B that is packed at a time
constexpr int64_t kPartialBytes = 256 << 10;  // sums that a piece of a weight gradient keeps in the L2 cache

}  // namespace pe::PE_ISA
