#include "tensor/tensor.h"

#include <algorithm>
#include <mutex>
#include <utility>

#include "runtime/allocator.h"
#include "runtime/threads.h"

namespace pe {

namespace {
std::atomic<DType> current_default_dtype{DType::Float32};
}
DType default_dtype() { return current_default_dtype.load(std::memory_order_relaxed); }
void set_default_dtype(DType t) {
  PE_CHECK(is_floating(t), Type, "set_default_dtype: expected a floating point dtype, got ", dtype_name(t));
  current_default_dtype = t;
}

namespace {

// A stable insertion sort of at most kMaxDims axes.
template <class Before>
void sort_axes(int* order, int n, const Before& before) {
  for (int i = 1; i < n; ++i)
    for (int j = i; j > 0 && before(order[j], order[j - 1]); --j) std::swap(order[j], order[j - 1]);
}

}  // namespace

std::string to_string(const Dims& dims) {
  std::string text = "(";
  for (int i = 0; i < dims.size(); ++i) text += (i ? ", " : "") + std::to_string(dims[i]);
  return text + (dims.size() == 1 ? ",)" : ")");
}

std::string device_name(Device device) {
  return device.type == Device::CPU ? "cpu" : "cuda:" + std::to_string(device.index);
}

Device parse_device(const std::string& text) {
  if (text == "cpu" || text == "cpu:0") return {};
  PE_CHECK(text.rfind("cuda", 0) != 0, Runtime, "device '", text,
           "': this build of pyengine has no CUDA support; use device 'cpu'");
  fail(ErrorKind::Runtime, "device: expected 'cpu', got '", text, "'");
}

Ref<Storage> Storage::allocate(size_t bytes, Device device) {
  return Ref<Storage>(new Storage(pe::allocate(bytes), bytes, device, nullptr, nullptr));
}

Ref<Storage> Storage::borrow(void* data, size_t bytes, Device device, void (*release)(void*), void* context) {
  Ref<Storage> storage(new Storage(data, bytes, device, release, context));
  storage->shared_outside = true;
  return storage;
}

// Guards every storage's deferred_ and readers_. Whoever waits for it lets go of the host's lock first, since its
// holder may be waiting for that one. Recursive: computing one result may compute another.
namespace {
std::recursive_mutex deferred_mutex;

class DeferredLock {
 public:
  DeferredLock() {
    if (deferred_mutex.try_lock()) return;
    void* const token = release_host_lock();
    deferred_mutex.lock();
    acquire_host_lock(token);
  }
  ~DeferredLock() { deferred_mutex.unlock(); }
};
}  // namespace

Ref<Storage> Storage::defer(size_t bytes, Device device, std::unique_ptr<Deferred> computation) {
  Ref<Storage> storage(new Storage(nullptr, bytes, device, nullptr, nullptr));
  const DeferredLock lock;
  for (Storage* source : computation->sources()) source->readers_.push_back(storage.get());
  storage->deferred_ = computation.release();
  return storage;
}

void Storage::compute(Deferred* instead) {
  const DeferredLock lock;
  Deferred* const computation = deferred_.load() && instead ? instead : deferred_.load();
  if (!computation || data_) return;
  data_ = pe::allocate(bytes);  // data_ set: a nested look finds nothing to do
  try {
    computation->compute(data_);
  } catch (...) {
    deallocate(std::exchange(data_, nullptr), bytes);
    throw;
  }
  forget_deferred();
}

void Storage::forget_deferred() {
  Deferred* const computation = deferred_.exchange(nullptr);
  for (Storage* source : computation->sources()) std::erase(source->readers_, this);
  delete computation;
}

void Storage::compute_readers() {
  if (readers_.empty()) return;
  const DeferredLock lock;
  while (!readers_.empty()) readers_.back()->compute();
}

Storage::~Storage() {
  if (deferred_.load()) {
    const DeferredLock lock;
    forget_deferred();
  } else if (release_) {
    release_(context_);
  } else {
    deallocate(data_, bytes);
  }
}

TensorImpl::TensorImpl(Ref<Storage> storage, int64_t offset, const Dims& shape, const Dims& strides, DType dtype)
    : storage(std::move(storage)), offset(offset), shape(shape), strides(strides), numel(1), dtype(dtype) {
  contiguous = true;
  for (int i = shape.size() - 1; i >= 0; --i) {
    if (shape[i] != 1 && strides[i] != numel) contiguous = false;
    numel *= shape[i];
  }
  if (numel == 0) contiguous = true;
}

TensorImpl::~TensorImpl() {
  if (autograd) destroy(autograd);
}

void (*TensorImpl::python_releaser)(TensorImpl*) = nullptr;

void TensorImpl::release_python() { python_releaser(this); }

bool TensorImpl::take_python() {
  uint64_t count = refs_.load(std::memory_order_acquire);
  do {
    if (count <= 1) return false;
  } while (!refs_.compare_exchange_weak(count, count | kOwnsPython, std::memory_order_acq_rel));
  return true;
}

int64_t Tensor::size(int64_t d) const { return shape()[int(wrap_dim(d, dim(), "size"))]; }

bool Tensor::is_channels_last() const {
  if (dim() != 4) return false;
  const Dims expected = channels_last_strides(shape());
  for (int i = 0; i < 4; ++i)
    if (shape()[i] != 1 && strides()[i] != expected[i]) return false;  // nobody steps along a dimension of size 1
  return true;
}

bool Tensor::is_dense() const {
  if (is_contiguous()) return true;
  int order[kMaxDims];
  int n = 0;
  for (int i = 0; i < dim(); ++i)
    if (shape()[i] != 1) order[n++] = i;
  sort_axes(order, n, [&](int a, int b) { return strides()[a] < strides()[b]; });
  int64_t expected = 1;
  for (int i = 0; i < n; ++i) {
    if (strides()[order[i]] != expected) return false;
    expected *= shape()[order[i]];
  }
  return true;
}

// Strides are worked out before checked_numel has refused what overflows.
static int64_t wrapping_product(int64_t a, int64_t b) {
  return static_cast<int64_t>(static_cast<uint64_t>(a) * static_cast<uint64_t>(b));
}

Dims contiguous_strides(const Dims& shape) {
  Dims strides = shape;
  int64_t step = 1;
  for (int i = shape.size() - 1; i >= 0; --i) {
    strides[i] = step;
    step = wrapping_product(step, std::max<int64_t>(shape[i], 1));
  }
  return strides;
}

Dims channels_last_strides(const Dims& s) {
  const int64_t row = wrapping_product(s[1], s[3]);
  return {wrapping_product(row, s[2]), 1, row, s[1]};
}

Dims strides_like(const Dims& shape, const Dims& strides) {
  int order[kMaxDims];
  for (int i = 0; i < shape.size(); ++i) order[i] = i;
  // Innermost first; a stable sort over the reversed list keeps the usual order among equal strides.
  std::reverse(order, order + shape.size());
  sort_axes(order, shape.size(), [&](int a, int b) { return strides[a] < strides[b]; });
  Dims dense = shape;
  int64_t step = 1;
  for (int i = 0; i < shape.size(); ++i) {
    dense[order[i]] = step;
    step = wrapping_product(step, std::max<int64_t>(shape[order[i]], 1));
  }
  return dense;
}

int64_t checked_numel(const Dims& shape, const char* op) {
  int64_t n = 1;
  bool overflow = false;
  for (int64_t s : shape) {
    PE_CHECK(s >= 0, Shape, op, ": sizes must not be negative, got ", shape);
    if (s != 0) overflow |= __builtin_mul_overflow(n, s, &n);  // a zero elsewhere must not hide an overflow of strides
  }
  PE_CHECK(!overflow && n <= INT64_MAX / 16, Shape, op, ": shape ", shape, " has more elements than can be addressed");
  for (int64_t s : shape)
    if (s == 0) return 0;
  return n;
}

Tensor empty_strided(const Dims& shape, const Dims& strides, DType dtype, Device device) {
  const int64_t n = checked_numel(shape, "empty");
  return Tensor(Ref<TensorImpl>(
      new TensorImpl(Storage::allocate(size_t(n) * item_size(dtype), device), 0, shape, strides, dtype)));
}

Tensor empty(const Dims& shape, DType dtype, Device device) {
  return empty_strided(shape, contiguous_strides(shape), dtype, device);
}

Tensor empty_like(const Tensor& x, DType dtype) {
  if (x.is_contiguous()) return empty_strided(x.shape(), contiguous_strides(x.shape()), dtype, x.device());
  return empty_strided(x.shape(), x.is_dense() ? x.strides() : strides_like(x.shape(), x.strides()), dtype, x.device());
}
Tensor empty_like(const Tensor& x) { return empty_like(x, x.dtype()); }

Tensor alias(const Tensor& x, int64_t offset, const Dims& shape, const Dims& strides) {
  return Tensor(Ref<TensorImpl>(new TensorImpl(x->storage, offset, shape, strides, x.dtype())));
}
Tensor alias(const Tensor& x) { return alias(x, x->offset, x.shape(), x.strides()); }

int64_t wrap_dim(int64_t d, int ndim, const char* op) {
  const int64_t n = std::max(ndim, 1);  // a scalar accepts 0 and -1
  PE_CHECK(d >= -n && d < n, Index, op, ": dimension out of range (expected ", -n, " to ", n - 1, ", got ", d, ")");
  return d < 0 ? d + n : d;
}

std::string describe(const Tensor& x) { return to_string(x.shape()) + " " + dtype_name(x.dtype()); }

}  // namespace pe
