// sort and topk. Every element becomes an unsigned key whose order is the wanted one (NaN above everything, -0 equal to
// 0, all bits flipped when descending), and is sorted together with its position: equal keys stay in their order, also
// when descending, and no comparison ever meets a NaN. Values are then fetched through the sorted positions.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <utility>

#include "cpu/once/element.h"
#include "cpu/once/walk.h"
#include "runtime/threads.h"

namespace pe::once {

void topk(DType t, int64_t rows, int64_t cols, int64_t k, bool largest, const void* x, void* values, int64_t* indices);

namespace {

template <class T>
auto ascending_key(T x) {
  if constexpr (std::is_same_v<T, Bool>) {
    return static_cast<uint32_t>(x.value != 0);
  } else if constexpr (std::is_same_v<T, uint8_t>) {
    return static_cast<uint32_t>(x);
  } else {
    using Key = std::conditional_t<sizeof(T) == 4, uint32_t, uint64_t>;
    constexpr Key kSign = Key{1} << (8 * sizeof(Key) - 1);
    Key bits = std::bit_cast<Key>(x);
    if constexpr (std::is_integral_v<T>) return static_cast<Key>(bits ^ kSign);
    constexpr Key kInfinity =
        std::bit_cast<Key>(std::numeric_limits<std::conditional_t<sizeof(T) == 4, float, double>>::infinity());
    if ((bits & ~kSign) > kInfinity) return std::numeric_limits<Key>::max();  // NaN
    if (bits == kSign) bits = 0;                                              // -0
    return static_cast<Key>(bits & kSign ? ~bits : bits | kSign);
  }
}

// Sorted by key, then by position. With 32-bit keys both fit one word, which compares in one instruction.
struct Entry32 {
  using Key = uint32_t;
  uint64_t word;
  Entry32() = default;
  Entry32(Key key, int64_t position) : word(uint64_t{key} << 32 | static_cast<uint64_t>(position)) {}
  int64_t position() const { return static_cast<uint32_t>(word); }
  unsigned digit(int d) const { return static_cast<uint8_t>(word >> (32 + 8 * d)); }
  bool operator<(const Entry32& other) const { return word < other.word; }
};

struct Entry64 {
  using Key = uint64_t;
  uint64_t key;
  int64_t at;
  Entry64() = default;
  Entry64(Key key, int64_t position) : key(key), at(position) {}
  int64_t position() const { return at; }
  unsigned digit(int d) const { return static_cast<uint8_t>(key >> (8 * d)); }
  bool operator<(const Entry64& other) const { return key < other.key || (key == other.key && at < other.at); }
};

template <class T>
using KeyOf = decltype(ascending_key(T()));

template <class T, class Entry>
void make_entries(int64_t n, bool flip, const T* x, Entry* entries) {
  const auto mask = static_cast<typename Entry::Key>(flip ? ~typename Entry::Key{0} : 0);
  for (int64_t i = 0; i < n; ++i) entries[i] = Entry(ascending_key(x[i]) ^ mask, i);
}

template <class T, class Entry>
void write_sorted(int64_t n, const Entry* entries, const T* x, T* values, int64_t* indices) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t position = entries[i].position();
    values[i] = x[position];
    indices[i] = position;
  }
}

// Least significant digit first, a byte at a time: a stable counting sort per byte. The entries come in order of
// position, so equal keys keep it. Bytes that all keys share are skipped. The result is in `a` or in `b`.
template <class Entry>
Entry* radix_sort(int64_t n, Entry* a, Entry* b) {
  constexpr int kDigits = sizeof(typename Entry::Key);
  int64_t count[kDigits][256] = {};
  for (int64_t i = 0; i < n; ++i)
    for (int d = 0; d < kDigits; ++d) ++count[d][a[i].digit(d)];
  for (int d = 0; d < kDigits; ++d) {
    if (count[d][a[0].digit(d)] == n) continue;
    int64_t start = 0;
    for (int64_t& c : count[d]) start += std::exchange(c, start);
    for (int64_t i = 0; i < n; ++i) b[count[d][a[i].digit(d)]++] = a[i];
    std::swap(a, b);
  }
  return a;
}

constexpr int64_t kRadixFrom = 512;  // below, counting 256 buckets per byte costs more than comparing

// The first k of the sorted row.
template <class T, class Entry>
void sort_row(int64_t cols, int64_t k, bool flip, const T* x, T* values, int64_t* indices) {
  Entry* entries = static_cast<Entry*>(thread_scratch(0, static_cast<size_t>(cols) * sizeof(Entry)));
  make_entries(cols, flip, x, entries);
  if (k < cols / 16)
    std::partial_sort(entries, entries + k, entries + cols);  // a heap of k, which most elements do not enter
  else if (cols < kRadixFrom)
    std::sort(entries, entries + cols);
  else
    entries =
        radix_sort(cols, entries, static_cast<Entry*>(thread_scratch(1, static_cast<size_t>(cols) * sizeof(Entry))));
  write_sorted(k, entries, x, values, indices);
}

template <class T, class Entry>
void sort_rows(int64_t rows, int64_t cols, int64_t k, bool flip, const T* x, T* values, int64_t* indices) {
  const Cut cut{rows, std::max<int64_t>(1, 4096 / cols)};
  const double nanoseconds = (k < cols / 16 ? 2.0 : 15.0) * static_cast<double>(rows) * static_cast<double>(cols);
  parallel_for(cut.pieces(), nanoseconds, [&](int64_t piece) {
    for (int64_t r = cut.begin(piece); r < cut.end(piece); ++r)
      sort_row<T, Entry>(cols, k, flip, x + r * cols, values + r * k, indices + r * k);
  });
}

}  // namespace

void sort(DType t, int64_t rows, int64_t cols, bool descending, const void* x, void* values, int64_t* indices) {
  topk(t, rows, cols, cols, descending, x, values, indices);
}

void topk(DType t, int64_t rows, int64_t cols, int64_t k, bool largest, const void* x, void* values, int64_t* indices) {
  if (rows == 0 || k == 0) return;
  with_element_type(t, [&](auto tag) {
    using T = typename decltype(tag)::type;
    const T* const from = static_cast<const T*>(x);
    T* const to = static_cast<T*>(values);
    // A word has room for 2^32 positions; longer rows take the wide entry whatever their key.
    if constexpr (sizeof(KeyOf<T>) == 4) {
      if (cols <= int64_t{1} << 32) return sort_rows<T, Entry32>(rows, cols, k, largest, from, to, indices);
    }
    sort_rows<T, Entry64>(rows, cols, k, largest, from, to, indices);
  });
}

}  // namespace pe::once
