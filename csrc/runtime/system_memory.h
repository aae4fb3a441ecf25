// Memory straight from the operating system, for the caching allocator and the threads' scratch.
#pragma once
#include <cstddef>

namespace pe {

constexpr size_t kHugePage = size_t{1} << 21;
constexpr size_t kLargestRequest = size_t{1} << 46;  // half of an x86-64 address space: sums of a few never overflow

// 64-byte aligned; from kHugePage on, huge pages where the system has them. `who` begins the message of the
// Error(Memory) that is thrown when the machine or the cgroup has not that much left even after the allocator's cache
// was given back; the message tells `asked` bytes.
void* system_allocate(size_t bytes, const char* who, size_t asked);
void system_free(void* data, size_t bytes);

}  // namespace pe
