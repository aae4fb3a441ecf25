#include "bind/module.h"

#include <cstdlib>

#include "bind/tensor_type.h"
#include "kernels/dispatch.h"
#include "runtime/threads.h"
#include "tensor/check.h"

namespace py = pybind11;

PYBIND11_MODULE(_C, m) {
  using namespace pe::bind;
  m.doc() = "pyengine's engine: tensors, the graph and every operation, in C++.";
  m.attr("__version__") = PYENGINE_VERSION;
  bind_errors(m);
  const char* isa = std::getenv("PYENGINE_CPU_ISA");
  try {
    pe::select_isa(isa ? isa : "");
    pe::num_threads();  // so that a bad PYENGINE_NUM_THREADS is told here
  } catch (const pe::Error& e) {
    throw py::import_error(e.what());
  }
  bind_types(m);
  make_tensor_type(m);
  bind_runtime(m);
  bind_create(m);
  bind_elementwise(m);
  bind_reduce(m);
  bind_shape(m);
  bind_nn(m);
  bind_tensor(m);
  bind_numpy(m);
  bind_autograd(m);
}
