// A seeded stream of random numbers: a Philox key and the next unused counter.
#pragma once
#include <cstdint>
#include <mutex>

namespace pe {

class Generator {
 public:
  static constexpr uint64_t kDefaultSeed = 0;
  explicit Generator(uint64_t seed = kDefaultSeed) : seed_(seed) {}

  struct State {
    uint64_t seed, offset;
  };
  State state() const {
    const std::lock_guard lock(mutex_);
    return {seed_, offset_};
  }
  void set_state(State s) {
    const std::lock_guard lock(mutex_);
    seed_ = s.seed, offset_ = s.offset;
  }
  // Takes `counters` Philox counters (four 32-bit numbers each) from the stream.
  State reserve(uint64_t counters) {
    const std::lock_guard lock(mutex_);
    const State s{seed_, offset_};
    offset_ += counters;
    return s;
  }

 private:
  mutable std::mutex mutex_;
  uint64_t seed_, offset_ = 0;
};

inline Generator& default_generator() {
  static Generator generator;
  return generator;
}

}  // namespace pe
