// The processor's floating-point mode inside kernels, the same on every thread whatever the caller has set.
#pragma once
#include <cstdint>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace pe {

// Denormals are flushed to zero (they cost some 100 cycles each), rounding is to nearest, nothing traps. The former
// mode comes back in the destructor. Reading the register is cheap and writing is not, so it is written only when it
// differs.
class KernelFloatingPointMode {
 public:
  KernelFloatingPointMode() : saved_(read()), changed_((saved_ & kControlBits) != kWanted) {
    if (changed_) write(kWanted);
  }
  ~KernelFloatingPointMode() {
    if (changed_) write(saved_);
  }
  KernelFloatingPointMode(const KernelFloatingPointMode&) = delete;
  KernelFloatingPointMode& operator=(const KernelFloatingPointMode&) = delete;

 private:
#if defined(__SSE2__)
  // MXCSR: FTZ (15), rounding (14-13), exception masks (12-7), DAZ (6); bits 5-0 are sticky flags.
  static constexpr uint64_t kControlBits = 0xffc0, kWanted = 0x8000 | 0x1f80 | 0x0040;
  static uint64_t read() { return _mm_getcsr(); }
  static void write(uint64_t mode) { _mm_setcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
  // FPCR: FZ (24); rounding (23-22) and traps (15-8) zero.
  static constexpr uint64_t kControlBits = 0x01c09f00, kWanted = uint64_t{1} << 24;
  static uint64_t read() {
    uint64_t mode;
    __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
    return mode;
  }
  static void write(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
  static constexpr uint64_t kControlBits = 0, kWanted = 0;
  static uint64_t read() { return 0; }
  static void write(uint64_t) {}
#endif

  uint64_t saved_;
  bool changed_;
};

}  // namespace pe
