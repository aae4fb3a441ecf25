// Tensor: a handle to a TensorImpl, which views a Storage. Copying a handle copies no data.
#pragma once
#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "tensor/check.h"
#include "tensor/device.h"
#include "tensor/dims.h"
#include "tensor/dtype.h"
#include "tensor/ref.h"

namespace pe {

class Storage;

// A result that is computed when it is first read. An op that reads it next may take over the computation instead
// (ops/batch_norm.h: a relu behind a normalization makes one pass of both).
class Deferred {
 public:
  virtual ~Deferred() = default;
  virtual void compute(void* data) = 0;
  virtual std::vector<Storage*> sources() const = 0;  // what it reads; a write to one of them computes it before
};

// A block of memory, from the caching allocator or borrowed (NumPy, DLPack), and the count of writes to it.
class Storage {
 public:
  static Ref<Storage> allocate(size_t bytes, Device device);
  static Ref<Storage> defer(size_t bytes, Device device, std::unique_ptr<Deferred> computation);
  static Ref<Storage> borrow(void* data, size_t bytes, Device device, void (*release)(void*), void* context);

  void ref() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void unref() {
    if (refs_.fetch_sub(1, std::memory_order_acq_rel) == 1) delete this;
  }
  bool unique() const { return refs_.load(std::memory_order_acquire) == 1; }

  void* data() {
    if (__builtin_expect(deferred_.load(std::memory_order_acquire) != nullptr, 0)) compute();
    return data_;
  }
  // Computes a deferred result in another way than its own; f(data).
  template <class F>
  void compute_by(const F& f) {
    struct Other final : Deferred {
      explicit Other(const F& f) : f(f) {}
      void compute(void* data) override { f(data); }
      std::vector<Storage*> sources() const override { return {}; }
      const F& f;
    } other(f);
    compute(&other);
  }
  Deferred* deferred() const { return deferred_.load(std::memory_order_acquire); }  // null once computed
  void compute_readers();  // computes every deferred result that reads this storage: it is about to be written to

  const size_t bytes;
  const Device device;
  bool read_only = false;            // borrowed from a read-only array
  bool shared_outside = false;       // borrowed or exported: others may write without telling
  std::atomic<uint32_t> version{0};  // in-place writes so far, over all views

 private:
  Storage(void* data, size_t bytes, Device device, void (*release)(void*), void* context)
      : bytes(bytes), device(device), data_(data), release_(release), context_(context) {}
  ~Storage();
  void compute(Deferred* instead = nullptr);
  void forget_deferred();
  std::atomic<int64_t> refs_{0};
  std::atomic<Deferred*> deferred_{nullptr};  // owned
  std::vector<Storage*> readers_;             // deferred results that read this storage
  void* data_;
  void (*release_)(void*);  // null: the allocator's memory
  void* context_;
};

struct AutogradMeta;  // autograd/node.h
void destroy(AutogradMeta* meta);
class Tensor;

class TensorImpl {
 public:
  TensorImpl(Ref<Storage> storage, int64_t offset, const Dims& shape, const Dims& strides, DType dtype);
  ~TensorImpl();

  // The count's top bit says that this object owns its Python object (see bind/tensor_type.cpp).
  static constexpr uint64_t kOwnsPython = uint64_t(1) << 63;
  void ref() { refs_.fetch_add(1, std::memory_order_relaxed); }
  void unref() {
    const uint64_t before = refs_.fetch_sub(1, std::memory_order_acq_rel);
    if (before == 1) delete this;
    if (before == (kOwnsPython | 2)) release_python();
  }
  uint64_t use_count() const { return refs_.load(std::memory_order_acquire) & ~kOwnsPython; }
  bool owns_python() const { return refs_.load(std::memory_order_acquire) & kOwnsPython; }
  bool take_python();  // sets the bit unless the Python object holds the last reference
  void return_python() { refs_.fetch_and(~kOwnsPython, std::memory_order_acq_rel); }
  static void (*python_releaser)(TensorImpl*);  // set by bind/

  Ref<Storage> storage;
  int64_t offset;  // in elements
  Dims shape, strides;
  int64_t numel;
  DType dtype;
  bool contiguous;
  bool wrapped_number = false;  // made from a Python scalar: weak in type promotion
  bool no_grad_view = false;    // a view made while recording was off
  uint32_t view_version = 0;    // storage's version when this view's graph link was made
  AutogradMeta* autograd = nullptr;
  void* python = nullptr;  // the one PyObject of this tensor, borrowed, or owned when kOwnsPython is set
  Ref<TensorImpl> view_base;

 private:
  void release_python();
  std::atomic<uint64_t> refs_{0};
};

class Tensor {
 public:
  Tensor() = default;
  explicit Tensor(Ref<TensorImpl> impl) : impl_(std::move(impl)) {}

  bool defined() const { return bool(impl_); }
  TensorImpl* operator->() const { return impl_.get(); }
  TensorImpl* impl() const { return impl_.get(); }
  bool same(const Tensor& o) const { return impl_ == o.impl_; }

  const Dims& shape() const { return impl_->shape; }
  const Dims& strides() const { return impl_->strides; }
  int64_t size(int64_t d) const;  // negative counts from the end; raises IndexError
  int dim() const { return impl_->shape.size(); }
  int64_t numel() const { return impl_->numel; }
  DType dtype() const { return impl_->dtype; }
  Device device() const { return impl_->storage->device; }
  bool is_contiguous() const { return impl_->contiguous; }
  bool is_channels_last() const;  // 4 dimensions, N H W C in memory
  bool is_dense() const;          // some order of the dimensions is contiguous: no gaps, no overlap

  void* data() const {
    return static_cast<char*>(impl_->storage->data()) + impl_->offset * int64_t(item_size(impl_->dtype));
  }
  template <class T>
  T* data_as() const {
    return static_cast<T*>(data());
  }

 private:
  Ref<TensorImpl> impl_;
};

Dims contiguous_strides(const Dims& shape);
Dims channels_last_strides(const Dims& shape);              // 4 dimensions
Dims strides_like(const Dims& shape, const Dims& strides);  // dense, with the dimensions in the order of `strides`
int64_t checked_numel(const Dims& shape, const char* op);   // raises for negative sizes and overflow

Tensor empty(const Dims& shape, DType dtype, Device device = {});
Tensor empty_strided(const Dims& shape, const Dims& strides, DType dtype, Device device = {});  // dense strides
Tensor empty_like(const Tensor& x);  // same shape, dense, x's order of dimensions
Tensor empty_like(const Tensor& x, DType dtype);
// Another look at x's storage, without a graph link.
Tensor alias(const Tensor& x, int64_t offset, const Dims& shape, const Dims& strides);
Tensor alias(const Tensor& x);

int64_t wrap_dim(int64_t d, int ndim, const char* op);  // -1 is the last; raises IndexError
std::string describe(const Tensor& x);                  // "(2, 3) float32"

}  // namespace pe
