// DLPack's C structures (https://dmlc.github.io/dlpack/latest/c_api.html), versions 0.8 (unversioned) and 1.x.
#pragma once
#include <pybind11/pybind11.h>

#include <cstdint>

#include "tensor/tensor.h"

namespace pe::bind {

struct DLDevice {
  int32_t device_type;  // 1: CPU, 2: CUDA
  int32_t device_id;
};
struct DLDataType {
  uint8_t code;  // 0: int, 1: uint, 2: float, 6: bool
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: contiguous
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor*);
};
struct DLPackVersion {
  uint32_t major, minor;
};
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned*);
  uint64_t flags;  // bit 0: read-only, bit 1: copied
  DLTensor dl_tensor;
};

bool requires_grad_flag(const Tensor& x);
void export_storage(const Tensor& x);  // from now on others may write to x's memory
void bind_dlpack(pybind11::module_& m);

}  // namespace pe::bind
