// conv2d for channels-last images, and its two gradients: matrix products whose packers read the image (im2col), so
// that no column matrix is ever stored. See Chellapilla, Puri, Simard: "High Performance Convolutional Neural Networks
// for Document Processing" (2006).
//   forward          y[pixel, k]    = sum over (r, s, c) of  x[pixel + (r, s), c]  * w[k, c, r, s]
//   backward_input   dx[pixel, c]   = sum over (r, s, k) of dy[pixel - (r, s), k]  * w[k, c, r, s]
//   backward_weight  dw[k, (r, s, c)] = sum over pixels of  dy[pixel, k] * x[pixel + (r, s), c]
#include "cpu/depthwise.h"
#include "cpu/gemm_kernel.h"
#include "cpu/im2col.h"
#include "kernels/shapes.h"

namespace pe::PE_ISA {

void conv2d(const Conv2dShape& s, DType t, const void* x, const void* w, const void* bias, void* y);
void conv2d_backward_input(const Conv2dShape& s, DType t, const void* dy, const void* w, void* dx);
void conv2d_backward_weight(const Conv2dShape& s, DType t, const void* x, const void* dy, void* dw);

namespace {

constexpr int64_t kWantedPieces = 16;

template <class T>
PE_INLINE void scatter_rows(const Target<T>& to, const Im2col<T>& grid, Range m, int64_t n, const T* from, int64_t ld,
                            T* y) {
  Position at = grid.position(m.begin);
  for (int64_t i = 0; i < m.size(); ++i, grid.advance(at)) copy_run(y + to.row(at) * to.C, from + i * ld, n);
}

// For every group: columns of the image times the group's packed weights (k_group x n_group, panels of one group after
// the other).
template <class T>
void convolve(const Im2col<T>& image, int64_t groups, const T* packed, int64_t n_group, const Target<T>& to) {
  const int64_t k = image.depth(), rows = image.rows(), panels = ceil_div(n_group, kPanel<T>);
  if (rows == 0) return;
  const int64_t m_blocks = ceil_div(rows, kBlockRows);
  const int64_t parts = clamped(kWantedPieces / (groups * m_blocks), 1, panels);
  const double work = static_cast<double>(rows) * n_group * groups * larger(k, 1);
  const bool dense = to.step_h == 1 && to.step_w == 1;
  parallel_for(groups * m_blocks * parts, nanoseconds<T>(work), [&](int64_t piece) {
    const int64_t part = piece % parts, group = piece / parts % groups, block = piece / (parts * groups);
    const Range m = share(rows, m_blocks, block), p = share(panels, parts, part);
    Im2col<T> columns = image;
    columns.x += group * image.channels;
    const PackedB<T> weights = {packed + group * panels * k * kPanel<T>, k};
    const T* const bias = to.bias ? to.bias + group * n_group : nullptr;
    T* const y = to.y + group * n_group;
    if (dense) {
      multiply<T>(Im2colA<T>{columns}, weights, m, {0, k}, p, n_group,
                  Result<T>{y + m.begin * to.C, to.C, bias, false});
      return;
    }
    // The rows do not follow each other at one distance: compute a block, then send each row to its place.
    const int64_t first = p.begin * kPanel<T>, ld = padded_stride<T>(p.size() * kPanel<T>);
    T* const block_of_y = scratch<T>(kScratchB, m.size() * ld);
    multiply<T>(Im2colA<T>{columns}, PackedB<T>{weights.data + first * k, k}, m, {0, k}, {0, p.size()}, n_group - first,
                Result<T>{block_of_y, ld, bias ? bias + first : nullptr, false});
    scatter_rows(to, columns, m, smaller(n_group - first, p.size() * kPanel<T>), block_of_y, ld, y + first);
  });
}

// The forward weights of every group as panels of output channels, rows ordered (r, s, c).
template <class T>
void pack_forward(const Conv2dShape& s, const T* w, T* packed) {
  const int64_t channels = s.C / s.groups, outputs = s.K / s.groups, taps = s.R * s.S, depth = channels * taps;
  const int64_t panels = ceil_div(outputs, kPanel<T>);
  parallel_for(s.groups * panels, 0.5 * static_cast<double>(s.K * depth), [&](int64_t piece) {
    const int64_t first = piece % panels * kPanel<T>;
    T* const to = packed + piece * depth * kPanel<T>;
    pack_transposed(w + (piece / panels * outputs + first) * depth, depth, smaller(kPanel<T>, outputs - first), depth,
                    [&](int64_t q) __attribute__((always_inline)) {
                      const uint32_t c = uint32_t(q) / uint32_t(taps);  // 32 bits: a much faster division
                      return to + ((q - c * taps) * channels + c) * kPanel<T>;
                    });
  });
}

// The weights of every group as panels of input channels, rows ordered (tap, k) over the given taps.
template <class T>
void pack_backward(const Conv2dShape& s, const TapAxis& h, const TapAxis& w_taps, const T* w, T* packed) {
  const int64_t channels = s.C / s.groups, outputs = s.K / s.groups, taps = s.R * s.S;
  const int64_t panels = ceil_div(channels, kPanel<T>), used = h.count * w_taps.count;
  parallel_for(s.groups * panels, static_cast<double>(s.K * channels * used), [&](int64_t piece) {
    const int64_t first = piece % panels * kPanel<T>, n = smaller(kPanel<T>, channels - first);
    const T* const from = w + (piece / panels * outputs * channels + first) * taps;
    T* to = packed + piece * used * outputs * kPanel<T>;
    for (int64_t tap = 0; tap < used; ++tap) {
      const T* element = from + h.index(tap / w_taps.count) * s.S + w_taps.index(tap % w_taps.count);
      for (int64_t k = 0; k < outputs; ++k, element += channels * taps, to += kPanel<T>) {
        if (taps == 1) {
          copy_panel_row(to, element, n);
          continue;
        }
        for (int64_t c = 0; c < n; ++c) to[c] = element[c * taps];
        for (int64_t c = n; c < kPanel<T>; ++c) to[c] = 0;
      }
    }
  });
}

template <class T>
void forward(const Conv2dShape& s, const T* x, const T* w, const T* bias, T* y) {
  const int64_t depth = s.C / s.groups * s.R * s.S, outputs = s.K / s.groups;
  if (s.N * s.P * s.Q == 0 || s.K == 0) return;
  const Target<T> to = {y, s.P, s.Q, s.K, 1, 1, 0, 0, bias};
  if (few_channels_per_group(s)) {
    T* const packed = scratch<T>(kScratchShared, packed_groups_size<T>(s));
    pack_groups_forward(s, w, packed);
    return grouped_convolve<T>({forward_im2col(s, x), to, packed, outputs, s.R, s.S});
  }
  T* const packed = scratch<T>(kScratchShared, s.groups * ceil_div(outputs, kPanel<T>) * depth * kPanel<T>);
  pack_forward(s, w, packed);
  convolve(forward_im2col(s, x), s.groups, packed, outputs, to);
}

// With a stride, the positions of x fall into stride_h * stride_w phases, each of which meets its own subset of the
// taps; every phase is a convolution of dy with stride 1.
template <class T>
void backward_input(const Conv2dShape& s, const T* dy, const T* w, T* dx) {
  const int64_t channels = s.C / s.groups, outputs = s.K / s.groups;
  if (s.N * s.H * s.W == 0 || s.C == 0) return;
  const bool direct = few_channels_per_group(s);
  const int64_t gemm_size = s.groups * ceil_div(channels, kPanel<T>) * kPanel<T> * s.R * s.S * outputs;
  T* const packed = scratch<T>(kScratchShared, direct ? packed_groups_size<T>(s) : gemm_size);
  if (direct) pack_groups_backward(s, w, packed);
  for (int64_t h = 0; h < smaller(s.stride_h, s.H); ++h)
    for (int64_t v = 0; v < smaller(s.stride_w, s.W); ++v) {
      const Im2col<T> columns = backward_im2col(s, dy, h, v);
      const Target<T> to = {dx, s.H, s.W, s.C, s.stride_h, s.stride_w, h, v, nullptr};
      if (direct) {
        grouped_convolve<T>({columns, to, packed, channels, s.R, s.S});
        continue;
      }
      pack_backward(s, columns.h, columns.w, w, packed);
      convolve(columns, s.groups, packed, channels, to);
    }
}

// dw[k, c, r, s] = the sum over slices of partial[slice][k][(r, s, c)], in their order.
template <class T>
void gather_weight_gradient(const Conv2dShape& s, int64_t slices, T* partial, T* dw) {
  const int64_t channels = s.C / s.groups, taps = s.R * s.S, depth = channels * taps;
  const int64_t pieces = clamped(s.K * depth * slices / 16384, 1, smaller(s.K, 4 * kWantedPieces));
  parallel_for(pieces, static_cast<double>(s.K * depth) * (1 + 0.5 * static_cast<double>(slices)), [&](int64_t piece) {
    const Range range = share(s.K, pieces, piece);
    for (int64_t k = range.begin; k < range.end; ++k) {
      T* const sum = partial + k * depth;
      for (int64_t slice = 1; slice < slices; ++slice) {
        const T* const from = sum + slice * s.K * depth;
        for (int64_t i = 0; i < depth; ++i) sum[i] += from[i];
      }
      T* const to = dw + k * depth;
      for (int64_t c = 0; c < channels; ++c)
        for (int64_t tap = 0; tap < taps; ++tap) to[c * taps + tap] = sum[tap * channels + c];
    }
  });
}

template <class T>
void backward_weight(const Conv2dShape& s, const T* x, const T* dy, T* dw) {
  if (few_channels_per_group(s)) return grouped_backward_weight(s, x, dy, dw);
  const Im2col<T> image = forward_im2col(s, x);
  const int64_t outputs = s.K / s.groups, depth = image.depth(), pixels = image.rows();
  if (s.K * depth == 0) return;
  const DeepCut<T> cut(s.groups, outputs, depth, pixels);
  const int64_t blocks = s.groups * cut.m_blocks * cut.parts, slices = cut.slices;
  T* const partial = scratch<T>(kScratchPartial, slices * s.K * depth);
  parallel_for(blocks * slices, nanoseconds<T>(static_cast<double>(s.K) * depth * pixels), [&](int64_t piece) {
    const int64_t part = piece % cut.parts, m_block = piece / cut.parts % cut.m_blocks;
    const int64_t group = piece / (cut.parts * cut.m_blocks) % s.groups, slice = piece / blocks;
    const Range m = share(outputs, cut.m_blocks, m_block);
    Im2col<T> columns = image;
    columns.x += group * image.channels;
    T* const to = partial + ((slice * s.groups + group) * outputs + m.begin) * depth;
    multiply<T>(ColumnsA<T>{dy + group * outputs, s.K, true}, Im2colB<T>{columns}, m, share(pixels, slices, slice),
                share(cut.panels, cut.parts, part), depth, Result<T>{to, depth, nullptr, false});
  });
  gather_weight_gradient(s, slices, partial, dw);
}

}  // namespace

void conv2d(const Conv2dShape& s, DType t, const void* x, const void* w, const void* bias, void* y) {
  if (t == DType::Float64)
    forward(s, static_cast<const double*>(x), static_cast<const double*>(w), static_cast<const double*>(bias),
            static_cast<double*>(y));
  else
    forward(s, static_cast<const float*>(x), static_cast<const float*>(w), static_cast<const float*>(bias),
            static_cast<float*>(y));
}

void conv2d_backward_input(const Conv2dShape& s, DType t, const void* dy, const void* w, void* dx) {
  if (t == DType::Float64)
    backward_input(s, static_cast<const double*>(dy), static_cast<const double*>(w), static_cast<double*>(dx));
  else
    backward_input(s, static_cast<const float*>(dy), static_cast<const float*>(w), static_cast<float*>(dx));
}

void conv2d_backward_weight(const Conv2dShape& s, DType t, const void* x, const void* dy, void* dw) {
  if (t == DType::Float64)
    backward_weight(s, static_cast<const double*>(x), static_cast<const double*>(dy), static_cast<double*>(dw));
  else
    backward_weight(s, static_cast<const float*>(x), static_cast<const float*>(dy), static_cast<float*>(dw));
}

}  // namespace pe::PE_ISA
