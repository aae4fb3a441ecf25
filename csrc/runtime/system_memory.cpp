#include "runtime/system_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <string>

#include "runtime/allocator.h"
#include "runtime/cgroup.h"
#include "tensor/check.h"

namespace pe {
namespace {

constexpr size_t kPage = 4096;
constexpr size_t kCheckEvery = size_t{64} << 20;  // reading /proc takes some 50 µs: only once per so many new bytes

std::atomic<size_t> unchecked_bytes{0};

std::string with_unit(double bytes) {
  const char* const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  int unit = 0;
  for (; bytes >= 1024 && unit < 6; ++unit) bytes /= 1024;
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
  return text;
}

[[noreturn, gnu::cold]] void fail_memory(const char* who, size_t bytes, const std::string& reason) {
  fail(ErrorKind::Memory, who, ": ", with_unit(static_cast<double>(bytes)), " (", bytes, " bytes) asked for, ", reason);
}

// A little is left to everyone else: the kernel's figure is an estimate, and being wrong means being killed.
bool fits(size_t bytes, int64_t available) { return bytes <= static_cast<size_t>(available - available / 64); }

// Without this check Linux hands out addresses it has no memory for, and kills the process when they are written.
void check_available(size_t bytes, const char* who, size_t asked) {
  if (unchecked_bytes.fetch_add(bytes, std::memory_order_relaxed) + bytes < kCheckEvery) return;
  unchecked_bytes.store(0, std::memory_order_relaxed);
  if (fits(bytes, available_memory())) return;
  empty_cache();
  const int64_t available = available_memory();
  if (!fits(bytes, available)) fail_memory(who, asked, with_unit(static_cast<double>(available)) + " left");
}

size_t whole_pages(size_t bytes) { return (bytes + kPage - 1) / kPage * kPage; }

// Null when the system refuses.
void* try_allocate(size_t bytes) {
  if (bytes < kHugePage) {
    void* data = nullptr;
    return posix_memalign(&data, 64, std::max<size_t>(bytes, 1)) == 0 ? data : nullptr;
  }
  // A huge page must start at a multiple of its size: map more, and unmap what sticks out at both ends.
  const size_t length = whole_pages(bytes), mapped = length + kHugePage;
  void* const map = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (map == MAP_FAILED) return nullptr;
  char* const start = static_cast<char*>(map);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(start) % kHugePage) % kHugePage;
  const size_t after = mapped - before - length;
  if (before > 0) munmap(start, before);
  if (after > 0) munmap(start + before + length, after);
#ifdef MADV_HUGEPAGE
  madvise(start + before, length, MADV_HUGEPAGE);  // only advice: a system without huge pages goes on with small ones
#endif
  return start + before;
}

}  // namespace

void* system_allocate(size_t bytes, const char* who, size_t asked) {
  if (bytes > kLargestRequest) fail_memory(who, asked, "more than any machine has");
  check_available(bytes, who, asked);
  void* data = try_allocate(bytes);
  if (data == nullptr) {
    empty_cache();
    data = try_allocate(bytes);
  }
  if (data == nullptr) fail_memory(who, asked, "and the system refused (ulimit -v?)");
  return data;
}

void system_free(void* data, size_t bytes) {
  if (bytes < kHugePage)
    std::free(data);
  else
    munmap(data, whole_pages(bytes));
}

int64_t available_memory() {
  int64_t available = std::numeric_limits<int64_t>::max();
  std::ifstream file("/proc/meminfo");
  std::string line;
  while (std::getline(file, line)) {
    long long kib;
    if (std::sscanf(line.c_str(), "MemAvailable: %lld kB", &kib) == 1) {
      available = static_cast<int64_t>(kib) * 1024;
      break;
    }
  }
  return std::min(available, cgroup_memory_left());
}

}  // namespace pe
