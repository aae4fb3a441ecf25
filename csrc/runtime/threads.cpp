// The pool: sleeping workers, one job at a time. The caller opens a job, works on it like everyone else, closes it when
// no piece is left and waits only for the workers that are inside, so a worker that the system is slow to wake never
// holds anyone up.
#include "runtime/threads.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <cmath>
#include <cstdlib>
#include <exception>
#include <system_error>
#include <thread>
#include <type_traits>

#include "runtime/cgroup.h"
#include "runtime/floating_point_mode.h"
#include "runtime/futex_event.h"
#include "runtime/system_memory.h"
#include "tensor/check.h"

namespace pe {
namespace {

constexpr int kMaxThreads = 1024;
constexpr int kRanges = 64;
constexpr double kWorthThreads = 10e3;  // nanoseconds of work below which waking a worker costs more than it gives
constexpr double kWorthUnlock = 50e3;   // and below which handing over the host's lock does
constexpr std::chrono::microseconds kSpin{50};  // sleeping and waking take some 5 to 50 µs

// --- what belongs to each thread

constexpr int kLevels = 3;  // outside of pieces, in a piece, in a piece of a kernel called from a piece

struct ThreadState {
  int level;  // how many run_pieces this thread is inside of
  struct {
    void* data;
    size_t bytes;
  } scratch[kLevels][kScratchSlots];
};
constinit thread_local ThreadState thread_state{};

// A thread_local with a destructor costs a check at every access, so only growing touches this one.
struct ScratchOwner {
  void keep() {}
  ~ScratchOwner() {
    for (auto& level : thread_state.scratch) {
      for (auto& slot : level) {
        if (slot.data != nullptr) system_free(slot.data, slot.bytes);
        slot = {};
      }
    }
  }
};
thread_local ScratchOwner scratch_owner;

// --- the pool

// Each range of pieces has a counter on a cache line of its own. A thread begins with its own range, the same in job
// after job, so it meets data that its cache still holds; then it helps with the others'.
struct alignas(64) Range {
  std::atomic<int64_t> next{0};
  int64_t end = 0;
};

// The gate of the current job in one word, so that entering, closing and counting cannot disagree:
// job number (63-32), how many workers may be inside (31-16), closed (15), the caller sleeps (14), workers inside
// (13-0).
constexpr uint64_t kClosed = 1u << 15, kCallerSleeps = 1u << 14, kInside = kCallerSleeps - 1;
constexpr uint32_t job_number(uint64_t gate) { return static_cast<uint32_t>(gate >> 32); }
constexpr uint64_t admitted(uint64_t gate) { return gate >> 16 & 0xffff; }

// Has no destructor on purpose: the workers are detached, and some may still look at it while the process exits.
struct Pool {
  alignas(64) std::atomic<uint64_t> gate{kClosed};
  alignas(64) std::atomic<bool> busy{false};  // a caller owns the job below
  std::atomic<int> workers{0};
  std::atomic<bool> may_spin{false};
  FutexEvent work, done;

  PieceFunction f = nullptr;
  const void* context = nullptr;
  int ranges = 0;
  std::atomic<bool> failed{false};
  std::exception_ptr* error = nullptr;
  Range range[kRanges];
};
constinit Pool pool;
static_assert(std::is_trivially_destructible_v<Pool>);

std::atomic<int> thread_count{0};  // 0: not chosen yet
std::atomic<void* (*)()> release_hook{nullptr};
std::atomic<void (*)(void*)> acquire_hook{nullptr};

// The child has none of the workers, and perhaps half a job of a thread that it does not have either.
[[maybe_unused]] const int fork_handler = pthread_atfork(nullptr, nullptr, [] {
  pool.gate = kClosed;
  pool.busy = false;
  pool.workers = 0;
  pool.work.reset();
  pool.done.reset();
});

void pause_briefly() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

// True once `ready` is; false after a while, and at once when there are more threads than cores, where a spinning
// thread would keep the core from the one it waits for.
template <class Ready>
bool spin_until(const Ready& ready) {
  if (ready()) return true;
  if (!pool.may_spin.load(std::memory_order_relaxed)) return false;
  const auto end = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 32; ++i) {
      pause_briefly();
      if (ready()) return true;
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

void work_on_job(int first_range) {
  try {
    for (int i = 0; i < pool.ranges; ++i) {
      Range& range = pool.range[(first_range + i) % pool.ranges];
      for (int64_t piece; (piece = range.next.fetch_add(1, std::memory_order_relaxed)) < range.end;)
        pool.f(pool.context, piece);
    }
  } catch (...) {
    if (!pool.failed.exchange(true)) *pool.error = std::current_exception();
    for (int i = 0; i < pool.ranges; ++i) pool.range[i].next.store(pool.range[i].end);
  }
}

bool enter_job(uint64_t& gate) {
  while (!(gate & kClosed) && (gate & kInside) < admitted(gate))
    if (pool.gate.compare_exchange_weak(gate, gate + 1)) return true;
  return false;
}

void leave_job() {
  const uint64_t before = pool.gate.fetch_sub(1);
  if ((before & kInside) == 1 && (before & kCallerSleeps)) pool.done.signal(1);
}

// set_num_threads may have asked for fewer: the surplus ends, whichever workers notice first.
bool is_surplus() {
  int workers = pool.workers.load();
  while (workers > thread_count.load() - 1)
    if (pool.workers.compare_exchange_weak(workers, workers - 1)) return true;
  return false;
}

void worker_main(int id) {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "pyengine");
#endif
  const KernelFloatingPointMode mode;
  thread_state.level = 1;
  uint32_t seen = 0;
  uint64_t gate = 0;
  const auto has_job = [&] {
    gate = pool.gate.load();
    return !(gate & kClosed) && job_number(gate) != seen;
  };
  for (;;) {
    while (!spin_until(has_job)) {
      const uint32_t ticket = pool.work.ticket();
      if (has_job()) break;
      if (is_surplus()) return;
      pool.work.wait(ticket);
    }
    seen = job_number(gate);
    // Between has_job and here the job may have closed and the next one opened: seen must name the one entered.
    if (enter_job(gate)) {
      seen = job_number(gate);
      work_on_job(id);
      leave_job();
    }
  }
}

// Called by the owner of the pool. Where the system refuses a thread, the work is done with those there are.
void start_workers(int wanted) {
  if (pool.workers.load() >= wanted) return;
  // Signals are the main thread's business, except those that a fault raises on the spot.
  sigset_t blocked, former;
  sigfillset(&blocked);
  for (int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS}) sigdelset(&blocked, fault);
  pthread_sigmask(SIG_SETMASK, &blocked, &former);
  while (pool.workers.load() < wanted) {
    const int id = ++pool.workers;
    try {
      std::thread(worker_main, id).detach();
    } catch (const std::system_error&) {
      --pool.workers;
      break;
    }
  }
  pthread_sigmask(SIG_SETMASK, &former, nullptr);
}

// The caller owns the pool.
void run_on_pool(int threads, int64_t pieces, PieceFunction f, const void* context) {
  start_workers(threads - 1);
  std::exception_ptr error;
  pool.f = f;
  pool.context = context;
  pool.error = &error;
  pool.failed.store(false, std::memory_order_relaxed);
  pool.ranges = static_cast<int>(std::min<int64_t>({threads, pieces, kRanges}));
  const int64_t share = pieces / pool.ranges, rest = pieces % pool.ranges;
  int64_t begin = 0;
  for (int i = 0; i < pool.ranges; ++i) {
    pool.range[i].next.store(begin, std::memory_order_relaxed);
    pool.range[i].end = begin += share + (i < rest ? 1 : 0);
  }
  const uint64_t helpers = static_cast<uint64_t>(std::min<int64_t>(threads, pieces) - 1);
  const uint64_t number = job_number(pool.gate.load(std::memory_order_relaxed)) + uint32_t{1};
  pool.gate.store(number << 32 | helpers << 16);
  pool.work.signal(static_cast<int>(helpers));

  work_on_job(0);
  uint64_t gate = pool.gate.fetch_or(kClosed);
  if ((gate & kInside) != 0 && !spin_until([] { return (pool.gate.load() & kInside) == 0; })) {
    const uint32_t ticket = pool.done.ticket();
    gate = pool.gate.fetch_or(kCallerSleeps);
    if ((gate & kInside) != 0) pool.done.wait(ticket);
  }
  pool.busy.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(error);
}

void run_inline(int64_t pieces, PieceFunction f, const void* context) {
  for (int64_t piece = 0; piece < pieces; ++piece) f(context, piece);
}

void run_outermost(int64_t pieces, PieceFunction f, const void* context) {
  const int threads = num_threads();
  if (pieces > 1 && threads > 1 && !pool.busy.exchange(true, std::memory_order_acquire))
    run_on_pool(threads, pieces, f, context);
  else
    run_inline(pieces, f, context);
}

class LevelScope {
 public:
  LevelScope() { ++thread_state.level; }
  ~LevelScope() { --thread_state.level; }
};

double usable_cores() {
  static const double cores = [] {
    double count = std::max(1u, std::thread::hardware_concurrency());
#if defined(__linux__)
    // The kernel refuses a set smaller than its own: grow until it fits.
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 4) {
      cpu_set_t* const set = CPU_ALLOC(cpus);
      if (set == nullptr) break;
      const bool known = sched_getaffinity(0, CPU_ALLOC_SIZE(cpus), set) == 0;
      if (known) count = std::max(1, CPU_COUNT_S(CPU_ALLOC_SIZE(cpus), set));
      CPU_FREE(set);
      if (known) break;
    }
#endif
    return std::min(count, cgroup_cores());
  }();
  return cores;
}

}  // namespace

void run_pieces(int64_t pieces, double nanoseconds, PieceFunction f, const void* context) {
  if (pieces <= 0) return;
  const bool outermost = thread_state.level == 0;
  const LevelScope level;
  const KernelFloatingPointMode mode;
  if (!outermost || nanoseconds < kWorthThreads) {
    run_inline(pieces, f, context);
  } else if (nanoseconds < kWorthUnlock || acquire_hook.load(std::memory_order_relaxed) == nullptr) {
    run_outermost(pieces, f, context);
  } else {
    // The lock is not taken back in a destructor: at its exit Python may end a thread right there by unwinding it.
    void* const token = release_hook.load()();
    std::exception_ptr error;
    try {
      run_outermost(pieces, f, context);
    } catch (...) {
      error = std::current_exception();
    }
    acquire_hook.load()(token);
    if (error) std::rethrow_exception(error);
  }
}

void* thread_scratch(int slot, size_t bytes) {
  const int level = thread_state.level;
  PE_CHECK(level < kLevels && slot >= 0 && slot < kScratchSlots, Runtime, "thread_scratch: no slot ", slot,
           " at nesting level ", level);
  auto& s = thread_state.scratch[level][slot];
#if defined(__SANITIZE_ADDRESS__)
  const bool fits = s.bytes == bytes;  // so that the sanitizer sees a step too far
#else
  const bool fits = s.bytes >= bytes;
#endif
  if (s.data != nullptr && fits) return s.data;
  scratch_owner.keep();
  if (s.data != nullptr) system_free(s.data, s.bytes);
  s = {};
#if !defined(__SANITIZE_ADDRESS__)
  const size_t step = bytes < kHugePage / 2 ? 4096 : kHugePage;
  if (bytes <= kLargestRequest) bytes = (std::max<size_t>(bytes, 1) + step - 1) / step * step;
#endif
  s.data = system_allocate(bytes, "scratch", bytes);
  s.bytes = bytes;
  return s.data;
}

int num_threads() {
  const int n = thread_count.load(std::memory_order_relaxed);
  if (__builtin_expect(n > 0, 1)) return n;
  set_num_threads(default_num_threads());
  return thread_count.load();
}

void set_num_threads(int n) {
  PE_CHECK(n >= 1 && n <= kMaxThreads, Value, "set_num_threads: expected 1 to ", kMaxThreads, ", got ", n);
  pool.may_spin.store(n <= usable_cores());
  thread_count.store(n);
  pool.work.signal(INT_MAX);
}

int default_num_threads() {
  const char* const text = std::getenv("PYENGINE_NUM_THREADS");
  if (text != nullptr && *text != '\0') {
    char* end;
    const long n = std::strtol(text, &end, 10);
    PE_CHECK(*end == '\0' && n >= 1 && n <= kMaxThreads, Value, "PYENGINE_NUM_THREADS: expected 1 to ", kMaxThreads,
             ", got '", text, "'");
    return static_cast<int>(n);
  }
  return std::clamp(static_cast<int>(std::ceil(usable_cores())), 1, kMaxThreads);
}

void* release_host_lock() {
  const auto hook = release_hook.load();
  return hook ? hook() : nullptr;
}

void acquire_host_lock(void* token) {
  if (token) acquire_hook.load()(token);
}

void set_host_lock_hooks(void* (*release)(), void (*acquire)(void*)) {
  release_hook.store(release);
  acquire_hook.store(acquire);
}

}  // namespace pe
