// The thread pool as kernels see it. Safe to include from sources compiled for several instruction sets: every function
// here is static or defined in threads.cpp.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pe {

using PieceFunction = void (*)(const void* context, int64_t piece);

// Calls f(context, 0 .. pieces-1), each exactly once, on up to num_threads() threads, and returns when all are done.
// The caller cuts the work by shape alone, so results never depend on the number of threads. `nanoseconds` is a rough
// estimate of the whole work: a few microseconds run on the caller's thread; from about 50 µs on the host's lock
// (Python's GIL) is released meanwhile. A nested call, and a call while another thread uses the pool, run on the
// caller's thread. Denormals are flushed in every piece, on every thread, and the caller's floating-point mode is
// restored. A piece's exception is rethrown here.
void run_pieces(int64_t pieces, double nanoseconds, PieceFunction f, const void* context);

template <class F>
static inline void parallel_for(int64_t pieces, double nanoseconds, const F& f) {
  run_pieces(
      pieces, nanoseconds, [](const void* context, int64_t piece) { (*static_cast<const F*>(context))(piece); }, &f);
}

// Memory that belongs to the calling thread, 64-byte aligned, reused by the next request for the same slot; its content
// is whatever was left there. Pieces have other slots than the code around them, and so has a kernel that is called
// from a piece (one level deep); a kernel that calls another one outside of pieces shares its slots. Throws
// MemoryError.
constexpr int kScratchSlots = 4;
void* thread_scratch(int slot, size_t bytes);

int num_threads();
void set_num_threads(int n);  // 1 or more; may exceed the machine's cores
int default_num_threads();    // cores that this process may use: affinity and cgroup quota; PYENGINE_NUM_THREADS
                              // overrides

// Called around long work; bind/ sets them to release and take the GIL.
void* release_host_lock();  // a token for acquire_host_lock
void acquire_host_lock(void* token);
void set_host_lock_hooks(void* (*release)(), void (*acquire)(void*));

}  // namespace pe
