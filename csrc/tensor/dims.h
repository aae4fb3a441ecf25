// A short list of sizes, strides or axes: fixed capacity, no heap.
#pragma once
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kernels/shapes.h"
#include "tensor/check.h"

namespace pe {

class Dims {
 public:
  Dims() = default;
  Dims(std::initializer_list<int64_t> values) {
    for (int64_t v : values) push_back(v);
  }
  static Dims filled(int n, int64_t value) {
    Dims d;
    for (int i = 0; i < n; ++i) d.push_back(value);
    return d;
  }

  int size() const { return n_; }
  bool empty() const { return n_ == 0; }
  int64_t& operator[](int i) { return v_[i]; }
  int64_t operator[](int i) const { return v_[i]; }
  int64_t back() const { return v_[n_ - 1]; }
  const int64_t* begin() const { return v_; }
  const int64_t* end() const { return v_ + n_; }
  const int64_t* data() const { return v_; }

  void push_back(int64_t v) {
    PE_CHECK(n_ < kMaxDims, Shape, "a tensor has at most ", kMaxDims, " dimensions");
    v_[n_++] = v;
  }
  void insert(int at, int64_t v) {
    push_back(v);
    for (int i = n_ - 1; i > at; --i) v_[i] = v_[i - 1];
    v_[at] = v;
  }
  void erase(int at) {
    for (int i = at; i + 1 < n_; ++i) v_[i] = v_[i + 1];
    --n_;
  }

  bool operator==(const Dims& o) const {
    if (n_ != o.n_) return false;
    for (int i = 0; i < n_; ++i)
      if (v_[i] != o.v_[i]) return false;
    return true;
  }

 private:
  int n_ = 0;
  int64_t v_[kMaxDims];
};

std::string to_string(const Dims& dims);  // "(2, 3)", "(2,)", "()"
inline std::ostream& operator<<(std::ostream& out, const Dims& dims) { return out << to_string(dims); }

}  // namespace pe
