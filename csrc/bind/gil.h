// Taking and giving back Python's lock. While the interpreter ends, Python (before 3.14) ends a daemon thread that asks
// for the lock by unwinding its stack, which no destructor on the way survives (std::terminate). Such a thread sleeps
// here until the process is gone.
#pragma once
#include <pybind11/pybind11.h>

#if defined(__GLIBCXX__)
#include <cxxabi.h>
#include <unistd.h>
#endif

namespace pe::bind {

// What f() returns; f may wait for the lock.
template <class F>
auto or_sleep_at_exit(const F& f) {
#if defined(__GLIBCXX__)
  try {
    return f();
  } catch (const abi::__forced_unwind&) {
    for (;;) pause();
  }
#else
  return f();
#endif
}

class WithGil {
 public:
  WithGil() : state_(or_sleep_at_exit([] { return PyGILState_Ensure(); })) {}
  ~WithGil() { PyGILState_Release(state_); }
  WithGil(const WithGil&) = delete;
  WithGil& operator=(const WithGil&) = delete;

 private:
  PyGILState_STATE state_;
};

inline void restore_thread(PyThreadState* thread) {
  or_sleep_at_exit([thread] { PyEval_RestoreThread(thread); });
}

class WithoutGil {
 public:
  WithoutGil() : thread_(PyEval_SaveThread()) {}
  ~WithoutGil() { restore_thread(thread_); }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* thread_;
};

// Calls a Python function from a thread that took the lock with WithGil.
template <class... Arguments>
pybind11::object call_python(PyObject* function, const Arguments&... arguments) {
  PyObject* const list[] = {arguments.ptr()...};
  PyObject* result =
      or_sleep_at_exit([&] { return PyObject_Vectorcall(function, list, sizeof...(arguments), nullptr); });
  if (!result) throw pybind11::error_already_set();
  return pybind11::reinterpret_steal<pybind11::object>(result);
}

}  // namespace pe::bind
