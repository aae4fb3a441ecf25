// Sleeping and waking without a lock. A plain mutex and condition variable would make the waker wait for a sleeper that
// was interrupted while holding the mutex, which on a busy machine takes milliseconds.
#pragma once
#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace pe {

// A waiter takes a ticket, looks once more whether there is a reason to sleep, and sleeps until a signal that came
// after the ticket. Signals without sleepers cost no system call.
class FutexEvent {
 public:
  uint32_t ticket() const { return signals_.load(); }

  void wait(uint32_t ticket) {
    sleepers_.fetch_add(1);
    while (signals_.load() == ticket) {
#if defined(__linux__)
      syscall(SYS_futex, &signals_, FUTEX_WAIT_PRIVATE, ticket, nullptr, nullptr, 0);
#else
      signals_.wait(ticket);
#endif
    }
    sleepers_.fetch_sub(1);
  }

  void signal(int count) {
    signals_.fetch_add(1);
    if (sleepers_.load() == 0) return;
#if defined(__linux__)
    syscall(SYS_futex, &signals_, FUTEX_WAKE_PRIVATE, count, nullptr, nullptr, 0);
#else
    (void)count;
    signals_.notify_all();
#endif
  }

  void reset() {  // in a forked child, where no thread sleeps
    signals_.store(0);
    sleepers_.store(0);
  }

 private:
  static_assert(sizeof(std::atomic<uint32_t>) == sizeof(uint32_t), "the kernel compares the plain number");
  std::atomic<uint32_t> signals_{0}, sleepers_{0};
};

}  // namespace pe
