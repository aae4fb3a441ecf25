// Freed blocks wait in one list per size class, linked through their own first bytes. deallocate is told the size, so a
// block needs no header, and a request takes the first block of its class: two dozen instructions under one lock.
#include "runtime/allocator.h"

#include <pthread.h>
#if __has_include(<malloc.h>)
#include <malloc.h>
#endif

#include <algorithm>
#include <mutex>

#include "runtime/system_memory.h"

namespace pe {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kCache = false;  // the sanitizer must see every use after free
#else
constexpr bool kCache = true;
#endif

// Classes: multiples of 64 up to 512, from there eight per doubling, so a block is at most 12.5 % larger than needed.
constexpr int kLinearClasses = 8, kStepsLog2 = 3;
constexpr int kClasses = kLinearClasses + (46 - 9) * (1 << kStepsLog2);

int size_class(size_t bytes) {
  if (bytes <= 512) return bytes == 0 ? 0 : static_cast<int>((bytes - 1) / 64);
  const int log2 = 63 - __builtin_clzll(bytes - 1);  // 2^log2 < bytes <= 2^(log2+1), log2 >= 9
  return kLinearClasses + (log2 - 9) * (1 << kStepsLog2) + static_cast<int>((bytes - 1) >> (log2 - kStepsLog2)) -
         (1 << kStepsLog2);
}

size_t class_bytes(int c) {
  if (c < kLinearClasses) return static_cast<size_t>(c + 1) * 64;
  const int log2 = 9 + (c - kLinearClasses) / (1 << kStepsLog2), step = (c - kLinearClasses) % (1 << kStepsLog2);
  return (size_t{1} << log2) + (static_cast<size_t>(step + 1) << (log2 - kStepsLog2));
}

struct FreeBlock {
  FreeBlock* next;
};

// Never destroyed, so tensors may be freed as late as they like.
struct Cache {
  std::mutex mutex;
  FreeBlock* free[kClasses] = {};
  uint64_t last_use[kClasses] = {};  // `misses` when the class last gave or took a block
  uint64_t misses = 0;
  int64_t live = 0, peak = 0, cached = 0;
  int64_t most_held = 0;  // the largest `live` since the cache was last emptied; resetting the peak leaves it
};
constinit Cache cache;

// A fork while another thread holds the lock would leave the child with a locked lock and half a list.
[[maybe_unused]] const int fork_handlers =
    pthread_atfork([] { cache.mutex.lock(); }, [] { cache.mutex.unlock(); }, [] { cache.mutex.unlock(); });

void count_live(int64_t bytes) {
  cache.live += bytes;
  cache.peak = std::max(cache.peak, cache.live);
  cache.most_held = std::max(cache.most_held, cache.live);
}

// Blocks taken out of the cache under the lock, given back to the system after it.
struct Chain {
  FreeBlock* first = nullptr;
  size_t bytes = 0;  // of each block

  void release() {
    while (first != nullptr) {
      FreeBlock* const next = first->next;
      system_free(first, bytes);
      first = next;
    }
  }
};

Chain take_class(int c) {
  Chain chain{cache.free[c], class_bytes(c)};
  cache.free[c] = nullptr;
  for (FreeBlock* b = chain.first; b != nullptr; b = b->next) cache.cached -= static_cast<int64_t>(chain.bytes);
  return chain;
}

// Work with ever new shapes would fill the cache with sizes that never come back. Before new memory is taken, what is
// held may be half more than the most that was ever live at once; beyond it the longest unused classes go.
void trim_for(size_t new_bytes) {
  for (;;) {
    Chain chain;
    {
      std::lock_guard lock(cache.mutex);
      const int64_t live = cache.live + static_cast<int64_t>(new_bytes);
      const int64_t most = std::max(cache.most_held, live);
      if (cache.cached == 0 || live + cache.cached <= most + most / 2 + (int64_t{64} << 20)) return;
      int oldest = -1;
      for (int c = 0; c < kClasses; ++c)
        if (cache.free[c] != nullptr && (oldest < 0 || cache.last_use[c] < cache.last_use[oldest])) oldest = c;
      chain = take_class(oldest);
    }
    chain.release();
  }
}

}  // namespace

void* allocate(size_t bytes) {
  if (!kCache || bytes > kLargestRequest) {  // too much: system_allocate tells the size
    void* const data = system_allocate(bytes, "allocate", bytes);
    std::lock_guard lock(cache.mutex);
    count_live(static_cast<int64_t>(bytes));
    return data;
  }
  const int c = size_class(bytes);
  {
    std::lock_guard lock(cache.mutex);
    if (FreeBlock* const block = cache.free[c]) {
      cache.free[c] = block->next;
      cache.last_use[c] = cache.misses;
      cache.cached -= static_cast<int64_t>(class_bytes(c));
      count_live(static_cast<int64_t>(bytes));
      return block;
    }
    cache.last_use[c] = ++cache.misses;
  }
  trim_for(class_bytes(c));
  void* const data = system_allocate(class_bytes(c), "allocate", bytes);
  std::lock_guard lock(cache.mutex);
  count_live(static_cast<int64_t>(bytes));
  return data;
}

void deallocate(void* data, size_t bytes) {
  if (data == nullptr) return;
  if (!kCache) {
    system_free(data, bytes);
    std::lock_guard lock(cache.mutex);
    cache.live -= static_cast<int64_t>(bytes);
    return;
  }
  const int c = size_class(bytes);
  FreeBlock* const block = static_cast<FreeBlock*>(data);
  std::lock_guard lock(cache.mutex);
  block->next = cache.free[c];
  cache.free[c] = block;
  cache.last_use[c] = cache.misses;
  cache.cached += static_cast<int64_t>(class_bytes(c));
  cache.live -= static_cast<int64_t>(bytes);
}

MemoryStats memory_stats() {
  std::lock_guard lock(cache.mutex);
  return {cache.live, cache.peak, cache.cached};
}

void reset_peak_memory() {
  std::lock_guard lock(cache.mutex);
  cache.peak = cache.live;
}

void empty_cache() {
  for (int c = 0; c < kClasses; ++c) {
    Chain chain;
    {
      std::lock_guard lock(cache.mutex);
      chain = take_class(c);
      cache.most_held = cache.live;
    }
    chain.release();
  }
#ifdef __GLIBC__
  malloc_trim(0);  // small blocks came from malloc, which keeps what it gets
#endif
}

}  // namespace pe
