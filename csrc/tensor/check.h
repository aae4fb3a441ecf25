// Every error of the engine is made here; bind/errors.cpp maps each kind to a Python exception.
#pragma once
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>

namespace pe {

enum class ErrorKind {
  Shape,           // pyengine.ShapeError: both a ValueError and a RuntimeError
  Value,           // ValueError
  Type,            // TypeError
  Index,           // IndexError
  Memory,          // MemoryError
  Runtime,         // RuntimeError
  Overflow,        // OverflowError
  NotImplemented,  // NotImplementedError
};

class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind(kind) {}
  ErrorKind kind;
};

template <class... Parts>
std::string join(const Parts&... parts) {
  std::ostringstream text;
  (text << ... << parts);
  return text.str();
}

// fail(ErrorKind::Shape, "conv2d: expected ", a, ", got ", b)
template <class... Parts>
[[noreturn, gnu::noinline, gnu::cold]] void fail(ErrorKind kind, const Parts&... parts) {
  throw Error(kind, join(parts...));
}

// The message is built only when the condition fails.
#define PE_CHECK(condition, kind, ...)                                                     \
  do {                                                                                     \
    if (__builtin_expect(!(condition), 0)) ::pe::fail(::pe::ErrorKind::kind, __VA_ARGS__); \
  } while (0)

}  // namespace pe
