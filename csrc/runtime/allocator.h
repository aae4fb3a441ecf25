// The caching allocator for tensor memory on the CPU: 64-byte aligned, freed blocks are kept for reuse.
#pragma once
#include <cstddef>
#include <cstdint>

namespace pe {

// Throws Error(Memory) that names the size when the machine or the process's cgroup has not that much left; cached
// blocks are given back first.
void* allocate(size_t bytes);  // never null, also for 0
void deallocate(void* data, size_t bytes);

struct MemoryStats {
  int64_t live_bytes;    // in tensors now
  int64_t peak_bytes;    // most live bytes since the start or reset_peak
  int64_t cached_bytes;  // freed by tensors, kept for reuse
};
MemoryStats memory_stats();
void reset_peak_memory();
void empty_cache();
int64_t available_memory();  // what the machine and the cgroup have left, in bytes

}  // namespace pe
