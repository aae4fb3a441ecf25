#include "bind/define.h"
#include "bind/gil.h"
#include "kernels/dispatch.h"
#include "ops/ops.h"
#include "runtime/allocator.h"
#include "runtime/cpu_features.h"
#include "runtime/generator.h"
#include "runtime/threads.h"

namespace py = pybind11;
using py::arg;

namespace pe::bind {

Generator& generator_of(const py::object& generator) {
  return generator.is_none() ? default_generator() : generator.cast<Generator&>();
}

namespace {

// 16 bytes, seed and offset: a tensor, so that a checkpoint can hold it.
Tensor state_tensor(const Generator& g) {
  const Generator::State s = g.state();
  const Tensor y = empty({16}, DType::UInt8);
  std::memcpy(y.data(), &s, 16);
  return y;
}

void set_state(Generator& g, const Tensor& state) {
  PE_CHECK(state.dtype() == DType::UInt8 && state.numel() == 16 && state.is_contiguous(), Value,
           "set_state: expected the uint8 tensor of 16 elements that get_state() gives, got ", describe(state));
  Generator::State s;
  std::memcpy(&s, state.data(), 16);
  g.set_state(s);
}

uint64_t seed_of(const py::int_& seed) { return PyLong_AsUnsignedLongLongMask(seed.ptr()); }

}  // namespace

void bind_runtime(py::module_& m) {
  set_host_lock_hooks([]() -> void* { return PyGILState_Check() ? PyEval_SaveThread() : nullptr; },
                      [](void* state) {
                        if (state) restore_thread(static_cast<PyThreadState*>(state));
                      });

  m.def("get_num_threads", &num_threads, "How many threads the kernels use.");
  m.def(
      "set_num_threads",
      [](int n) {
        PE_CHECK(n >= 1, Value, "set_num_threads: expected a positive number, got ", n);
        set_num_threads(n);
      },
      arg("num"), "Sets how many threads the kernels use; results do not depend on it.");
  m.def(
      "cpu_isa", [] { return kernels().isa; },
      "The instruction set whose kernels run; PYENGINE_CPU_ISA chooses another at import.");
  m.def("cpu_name", &cpu_name, "The processor's name.");
  m.def(
      "cpu_isas",
      [] {
        std::vector<std::string> names;
#ifdef PE_HAVE_AVX512
        if (cpu_has_avx512()) names.push_back("avx512");
#endif
#ifdef PE_HAVE_AVX2
        if (cpu_has_avx2()) names.push_back("avx2");
#endif
#ifdef PE_HAVE_NEON
        if (cpu_has_neon()) names.push_back("neon");
#endif
        names.push_back("scalar");
        return names;
      },
      "The instruction sets that this build has and this processor runs.");
  m.def(
      "memory_stats",
      [] {
        const MemoryStats s = memory_stats();
        py::dict d;
        d["live_bytes"] = s.live_bytes;
        d["peak_bytes"] = s.peak_bytes;
        d["cached_bytes"] = s.cached_bytes;
        d["available_bytes"] = available_memory();
        return d;
      },
      "Bytes in tensors now (live), at most so far (peak), kept for reuse (cached), and left on the machine or in its "
      "cgroup (available).");
  m.def("layout_conversions", &ops::layout_conversions,
        "How many tensors have been copied so far only because an operation needs their dimensions in another order in "
        "memory.");
  m.def("reset_peak_memory", &reset_peak_memory, "Sets the peak to what is live now.");
  m.def("empty_cache", &empty_cache, "Gives cached memory back to the system.");

  py::class_<Generator>(m, "Generator",
                        "A seeded stream of random numbers (Philox4x32-10); the same for any number of threads.")
      .def(py::init([](const py::object& device) {
             check_device(device);
             return new Generator();
           }),
           arg("device") = py::none())
      .def(
          "manual_seed",
          [](py::object self, const py::int_& seed) {
            self.cast<Generator&>().set_state({seed_of(seed), 0});
            return self;
          },
          arg("seed"), "Restarts the stream with a seed.")
      .def(
          "initial_seed", [](const Generator& g) { return g.state().seed; }, "The seed.")
      .def(
          "seed",
          [](Generator& g) {
            const uint64_t seed = py::module_::import("secrets").attr("randbits")(63).cast<uint64_t>();
            g.set_state({seed, 0});
            return seed;
          },
          "Restarts the stream with a seed from the operating system, and returns it.")
      .def("get_state", &state_tensor, "The stream's position: a uint8 tensor of 16 elements.")
      .def("set_state", &set_state, arg("new_state"), "Goes on from a position.")
      .def_property_readonly("device", [](const Generator&) { return Device(); });
  m.attr("default_generator") = py::cast(&default_generator(), py::return_value_policy::reference);
  m.def(
      "manual_seed",
      [](const py::int_& seed) {
        default_generator().set_state({seed_of(seed), 0});
        return py::cast(&default_generator(), py::return_value_policy::reference);
      },
      arg("seed"), "Seeds the default generator, and returns it.");
  m.def("initial_seed", [] { return default_generator().state().seed; }, "The default generator's seed.");
  m.def("get_rng_state", [] { return state_tensor(default_generator()); }, "The default generator's position.");
  m.def(
      "set_rng_state", [](const Tensor& s) { set_state(default_generator(), s); }, arg("new_state"),
      "Sets the default generator's position.");
}

}  // namespace pe::bind
