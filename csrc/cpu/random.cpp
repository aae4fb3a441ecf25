// Random numbers from Philox4x32-10 (runtime/philox.h): element i depends on seed, offset and i alone, so any cut of
// the work and any instruction set gives the same numbers. One counter yields four words v0 v1 v2 v3.
//   uniform   float32: counter offset + i / 4, word i % 4, its upper 24 bits times 2^-24
//             float64: counter offset + i / 2, words 2 (i % 2) (low) and 2 (i % 2) + 1 (high), upper 53 bits times
//             2^-53
//   integer   every dtype: counter offset + i / 2, a 64-bit word as for float64; the upper half of its product with the
//   range,
//             so a value's probability is off by less than 2^-64 (relatively: range / 2^64)
//   normal    counters as for uniform of the same dtype; Box and Muller's transform of the pairs of elements 2 k, 2 k +
//   1:
//             sqrt(-2 log u) times cos and sin of 2 pi w. Rounding may differ between instruction sets.
//   dropout   both dtypes: kept where the float32 uniform of element i is not below p
#include "cpu/simd_math.h"
#include "kernels/shapes.h"
#include "runtime/philox.h"
#include "runtime/threads.h"

namespace pe::PE_ISA {
namespace {

constexpr int64_t kPieceElements = 16384;
constexpr int kCounters = 64;  // drawn at a time
constexpr int kWords = 4 * kCounters;

// Words in element order. GCC vectorizes the loop over the counters.
void draw(uint64_t seed, uint64_t counter, uint32_t (&words)[kWords]) {
  for (int j = 0; j < kCounters; ++j) {
    const Philox4 p = philox(seed, counter + static_cast<uint64_t>(j));
    for (int lane = 0; lane < 4; ++lane) words[4 * j + lane] = p.v[lane];
  }
}

// fill(words, i, n) makes the elements i .. i + n, n <= kWords / words_per_element, from one batch of words.
template <int kWordsPerElement, class Fill>
void for_each_batch(int64_t n, uint64_t seed, uint64_t offset, double ns_per_element, const Fill& fill) {
  constexpr int64_t kBatch = kWords / kWordsPerElement;
  static_assert(kPieceElements % kBatch == 0);
  parallel_for((n + kPieceElements - 1) / kPieceElements, double(n) * ns_per_element, [&](int64_t piece) {
    const int64_t end = n < (piece + 1) * kPieceElements ? n : (piece + 1) * kPieceElements;
    uint32_t words[kWords];
    for (int64_t i = piece * kPieceElements; i < end; i += kBatch) {
      draw(seed, offset + static_cast<uint64_t>(i * kWordsPerElement / 4), words);
      fill(words, i, static_cast<int>(end - i < kBatch ? end - i : kBatch));
    }
  });
}

PE_INLINE uint64_t word64(const uint32_t* words, int i) { return uint64_t(words[2 * i + 1]) << 32 | words[2 * i]; }

// In [0, 1).
template <class T>
PE_INLINE T unit(const uint32_t* words, int i) {
  if constexpr (sizeof(T) == 4)
    return static_cast<T>(static_cast<int32_t>(words[i] >> 8)) * 0x1p-24f;
  else
    return static_cast<T>(static_cast<int64_t>(word64(words, i) >> 11)) * 0x1p-53;
}

// In (0, 1]: its logarithm is finite. float32 takes all 32 bits, which reach further into the tail (6.7 instead
// of 5.8).
template <class T>
PE_INLINE T unit_above_zero(const uint32_t* words, int i) {
  if constexpr (sizeof(T) == 4)
    return static_cast<T>((static_cast<double>(words[i]) + 0.5) * 0x1p-32);
  else
    return static_cast<T>(static_cast<int64_t>((word64(words, i) >> 11) + 1)) * 0x1p-53;
}

template <class T>
constexpr int kWordsOf = sizeof(T) / 4;

template <class T>
void uniform(int64_t n, double low, double high, uint64_t seed, uint64_t offset, T* y) {
  const T first = static_cast<T>(low), last = static_cast<T>(high), range = last - first;
  // Rounding up must not reach `high`; low == high is allowed and gives low.
  const T below = range > 0 ? static_cast<T>(sizeof(T) == 4 ? __builtin_nextafterf(float(last), float(first))
                                                            : __builtin_nextafter(double(last), double(first)))
                            : first;
  for_each_batch<kWordsOf<T>>(n, seed, offset, 1.0, [=](const uint32_t* words, int64_t i, int count) {
    for (int j = 0; j < count; ++j) {
      const T v = unit<T>(words, j) * range + first;
      y[i + j] = v < below ? v : below;
    }
  });
}

template <class T>
void normal(int64_t n, double mean, double std, uint64_t seed, uint64_t offset, T* y) {
  for_each_batch<kWordsOf<T>>(n, seed, offset, 4.0, [=](const uint32_t* words, int64_t i, int count) {
    constexpr int kPairs = kWords / kWordsOf<T> / 2;
    constexpr int w = Vec<T>::width;
    T u[kPairs], angle[kPairs], z[2 * kPairs];
    for (int k = 0; k < kPairs; ++k) {
      u[k] = unit_above_zero<T>(words, 2 * k);
      angle[k] = unit<T>(words, 2 * k + 1) - T(0.5);
    }
    for (int k = 0; k < kPairs; k += w) {
      const Vec<T> radius = sqrt(log(Vec<T>::load(u + k)) * -2.0);
      const Vec<T> radians = Vec<T>::load(angle + k) * 6.283185307179586477;
      (radius * cos(radians)).store(u + k);
      (radius * sin(radians)).store(angle + k);
    }
    for (int k = 0; k < kPairs; ++k) {
      z[2 * k] = u[k];
      z[2 * k + 1] = angle[k];
    }
    for (int j = 0; j < count; ++j) y[i + j] = z[j] * T(std) + T(mean);
  });
}

template <class T>
void integer(int64_t n, int64_t low, int64_t high, uint64_t seed, uint64_t offset, T* y) {
  const uint64_t range = static_cast<uint64_t>(high) - static_cast<uint64_t>(low);
  for_each_batch<2>(n, seed, offset, 2.0, [=](const uint32_t* words, int64_t i, int count) {
    for (int j = 0; j < count; ++j) {
      const auto above_low = static_cast<uint64_t>(static_cast<unsigned __int128>(word64(words, j)) * range >> 64);
      y[i + j] = static_cast<T>(static_cast<int64_t>(static_cast<uint64_t>(low) + above_low));
    }
  });
}

template <int kBytes>
struct Unsigned {
  using Type = uint32_t;
};
template <>
struct Unsigned<8> {
  using Type = uint64_t;
};

template <class T>
void drop(int64_t n, double p, uint64_t seed, uint64_t offset, const T* x, T* y) {
  using Bits = typename Unsigned<sizeof(T)>::Type;
  const auto threshold = static_cast<int32_t>(__builtin_ceil(p * 0x1p24));  // uniform >= p, in whole steps of 2^-24
  const T scale = p < 1 ? static_cast<T>(1 / (1 - p)) : T(0);
  for_each_batch<1>(n, seed, offset, 1.0, [=](const uint32_t* words, int64_t i, int count) {
    // A mask and not a branch: a processor cannot guess these.
    for (int j = 0; j < count; ++j) {
      const T scaled = x[i + j] * scale;
      const Bits keep = -static_cast<Bits>(static_cast<int32_t>(words[j] >> 8) >= threshold);
      y[i + j] = __builtin_bit_cast(T, __builtin_bit_cast(Bits, scaled) & keep);
    }
  });
}

}  // namespace

void random_uniform(DType t, int64_t n, double low, double high, uint64_t seed, uint64_t offset, void* y) {
  if (t == DType::Float32)
    uniform(n, low, high, seed, offset, static_cast<float*>(y));
  else
    uniform(n, low, high, seed, offset, static_cast<double*>(y));
}

void random_normal(DType t, int64_t n, double mean, double std, uint64_t seed, uint64_t offset, void* y) {
  if (t == DType::Float32)
    normal(n, mean, std, seed, offset, static_cast<float*>(y));
  else
    normal(n, mean, std, seed, offset, static_cast<double*>(y));
}

void random_integer(DType t, int64_t n, int64_t low, int64_t high, uint64_t seed, uint64_t offset, void* y) {
  switch (t) {
    case DType::Bool:
    case DType::UInt8: return integer(n, low, high, seed, offset, static_cast<uint8_t*>(y));
    case DType::Int32: return integer(n, low, high, seed, offset, static_cast<int32_t*>(y));
    case DType::Int64: return integer(n, low, high, seed, offset, static_cast<int64_t*>(y));
    case DType::Float32: return integer(n, low, high, seed, offset, static_cast<float*>(y));
    case DType::Float64: return integer(n, low, high, seed, offset, static_cast<double*>(y));
  }
}

void dropout(DType t, int64_t n, double p, uint64_t seed, uint64_t offset, const void* x, void* y) {
  if (t == DType::Float32)
    drop(n, p, seed, offset, static_cast<const float*>(x), static_cast<float*>(y));
  else
    drop(n, p, seed, offset, static_cast<const double*>(x), static_cast<double*>(y));
}

}  // namespace pe::PE_ISA
