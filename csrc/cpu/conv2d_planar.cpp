// Planar convolution: forward and the gradient of the input (the scheme: conv2d_planar.h).
#include "cpu/conv2d_planar.h"

namespace pe::PE_ISA {
namespace {

int64_t padded_rows(int64_t rows) {
  const int64_t rest = rows % kTileRows;
  return rows - rest + (rest == 0 ? 0 : next_rows(rest));
}

// ---------------------------------------------------------------------------------------------------- correlation

// out[m][j] = bias[m] + sum over l, r of weight(m, l, r) * in[l][j + r * pitch], for j < rows * pitch.
// The rows of `in` outside [data_begin, data_end) are zero: tiles skip the taps that see nothing else.
template <class T>
struct Correlation {
  int64_t M, L, R, pitch, rows;
  int64_t data_begin, data_end;
  const T* in;  // readable for a vector beyond its end
  int64_t in_stride;
  const T* weight;  // tiles of next_rows(M left) rows, each [l][r][row]
  const T* bias;    // or null
  T* out;
  int64_t out_stride;
};

template <class T, int rows, int columns>
__attribute__((noinline)) void correlate_tile(const Correlation<T>& a, int64_t m, int64_t j) {
  using V = Vec<T>;
  const int64_t length = a.rows * a.pitch;
  const int64_t first_row = j / a.pitch, last_row = (least(j + columns * V::width, length) - 1) / a.pitch;
  const int64_t r_begin = most(0, a.data_begin - last_row), r_end = least(a.R, a.data_end - first_row);
  const int64_t pitch = a.pitch;
  const T* weight = a.weight + m * a.L * a.R;

  V sum[rows][columns];
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    const V start = V(a.bias != nullptr && m + i < a.M ? a.bias[m + i] : T(0));
#pragma GCC unroll 8
    for (int v = 0; v < columns; ++v) sum[i][v] = start;
  }
  for (int64_t l = 0; l < a.L; ++l) {
    const T* x = a.in + l * a.in_stride + r_begin * pitch + j;
    const T* w = weight + (l * a.R + r_begin) * rows;
    for (int64_t r = r_begin; r < r_end; ++r, x += pitch, w += rows) {
      V xv[columns];
#pragma GCC unroll 8
      for (int v = 0; v < columns; ++v) xv[v] = V::load(x + v * V::width);
#pragma GCC unroll 8
      for (int i = 0; i < rows; ++i) {
        const V wi = V(w[i]);
#pragma GCC unroll 8
        for (int v = 0; v < columns; ++v) sum[i][v] = fma(xv[v], wi, sum[i][v]);
      }
    }
  }
#pragma GCC unroll 8
  for (int i = 0; i < rows; ++i) {
    if (m + i >= a.M) break;
    T* y = a.out + (m + i) * a.out_stride + j;
#pragma GCC unroll 8
    for (int v = 0; v < columns; ++v) {
      const int64_t left = length - j - v * V::width;
      if (left >= V::width)
        sum[i][v].store(y + v * V::width);
      else
        sum[i][v].store_partial(y + v * V::width, left);
    }
  }
}

template <class T, int rows>
void correlate_rows(const Correlation<T>& a, int columns, int64_t m, int64_t j) {
  switch (columns) {
    case 1: return correlate_tile<T, rows, 1>(a, m, j);
    case 2: return correlate_tile<T, rows, 2>(a, m, j);
#if defined(PE_ISA_AVX512) || defined(PE_ISA_NEON)
    case 3: return correlate_tile<T, rows, 3>(a, m, j);
    case 4: return correlate_tile<T, rows, 4>(a, m, j);
#endif
  }
}

template <class T>
void correlate(const Correlation<T>& a) {
  const int64_t length = a.rows * a.pitch;
  for (int64_t j = 0; j < length;) {
    const int columns = next_columns(ceil_div(length - j, kWidth<T>));
    for (int64_t m = 0; m < a.M;) {
      const int rows = next_rows(a.M - m);
      if (rows == 6)
        correlate_rows<T, 6>(a, columns, m, j);
      else if (rows == 4)
        correlate_rows<T, 4>(a, columns, m, j);
      else
        correlate_rows<T, 2>(a, columns, m, j);
      m += rows;
    }
    j += columns * kWidth<T>;
  }
}

// Writes weight(m, l, r) in the order of correlate_tile; rows added to fill a tile are zero.
template <class T, class Weight>
PE_INLINE T* pack_weight(int64_t M, int64_t L, int64_t R, const Weight& weight) {
  T* const packed = scratch<T>(kWeightSlot, padded_rows(M) * L * R);
  T* to = packed;
  for (int64_t m = 0; m < M;) {
    const int rows = next_rows(M - m);
    for (int64_t l = 0; l < L; ++l)
      for (int64_t r = 0; r < R; ++r)
        for (int i = 0; i < rows; ++i) *to++ = m + i < M ? weight(m + i, l, r) : T(0);
    m += rows;
  }
  return packed;
}

// --------------------------------------------------------------------------------------------------------- forward

template <class T>
void forward(const Conv2dShape& s, const T* x, const T* w, const T* bias, T* y) {
  const int64_t L = s.C * s.S;
  const T* packed = pack_weight<T>(
      s.K, L, s.R, [&](int64_t k, int64_t l, int64_t r) { return w[((k * s.C + l / s.S) * s.R + r) * s.S + l % s.S]; });
  const Bands bands = forward_bands<T>(s);
  parallel_for(s.N * bands.count, nanoseconds(s), [&](int64_t unit) {
    const int64_t n = unit / bands.count, p0 = bands.begin(unit % bands.count), rows = bands.rows(unit % bands.count);
    const int64_t stride = shifted_stride<T>(s, rows);
    T* const B = scratch<T>(kRowsSlot, L * stride + kWidth<T>);
    shift_rows(s, p0, rows, x + n * s.C * s.H * s.W, stride, B);
    correlate<T>({.M = s.K,
                  .L = L,
                  .R = s.R,
                  .pitch = s.Q,
                  .rows = rows,
                  .data_begin = s.pad_h - p0,
                  .data_end = s.pad_h + s.H - p0,
                  .in = B,
                  .in_stride = stride,
                  .weight = packed,
                  .bias = bias,
                  .out = y + n * s.K * s.P * s.Q + p0 * s.Q,
                  .out_stride = s.P * s.Q});
  });
}

// -------------------------------------------------------------------------------------------------- backward_input

// One mask per shift s and vector of a row: lane i of element w counts where column w + i + pad_w - s of dy exists.
template <class T>
void fold_masks(const Conv2dShape& s, typename Vec<T>::IntRaw* masks) {
  constexpr int width = kWidth<T>;
  for (int64_t shift = 0; shift < s.S; ++shift)
    for (int64_t w = 0; w < s.W; w += width, ++masks)
      for (int i = 0; i < width; ++i) {
        const int64_t q = w + i + s.pad_w - shift;
        (*masks)[i] = q >= 0 && q < s.Q ? -1 : 0;
      }
}

// dx[c][h][w] = sum over s of dB[(c, s)][h][w + pad_w - s].
template <class T>
void fold_rows(const Conv2dShape& s, int64_t rows, const T* dB, int64_t stride, const typename Vec<T>::IntRaw* masks,
               T* dx) {
  using V = Vec<T>;
  const int64_t vectors = ceil_div(s.W, V::width);
  for (int64_t c = 0; c < s.C; ++c, dB += s.S * stride, dx += s.H * s.W)
    for (int64_t h = 0; h < rows; ++h)
      for (int64_t v = 0; v < vectors; ++v) {
        const int64_t w = v * V::width;
        const T* row = dB + h * s.Q + w + s.pad_w;
        V sum(0.0);
        for (int64_t shift = 0; shift < s.S; ++shift, row += stride - 1) {
          const auto bits = (typename V::IntRaw)(V::load(row).v) & masks[shift * vectors + v];
          sum = sum + V((typename V::Raw)(bits));
        }
        if (s.W - w >= V::width)
          sum.store(dx + h * s.W + w);
        else
          sum.store_partial(dx + h * s.W + w, s.W - w);
      }
}

template <class T>
void backward_input(const Conv2dShape& s, const T* dy, const T* w, T* dx) {
  using IntRaw = typename Vec<T>::IntRaw;
  const int64_t M = s.C * s.S, masks_size = s.S * round_to_vector<T>(s.W);
  const T* packed = pack_weight<T>(M, s.K, s.R, [&](int64_t m, int64_t k, int64_t r) {
    return w[((k * s.C + m / s.S) * s.R + s.R - 1 - r) * s.S + m % s.S];
  });
  IntRaw* const masks = reinterpret_cast<IntRaw*>(scratch<T>(kPartialSlot, masks_size));
  fold_masks<T>(s, masks);

  const int64_t bytes_per_row = most(1, (s.K + M) * s.Q * static_cast<int64_t>(sizeof(T)));
  const Bands bands(s.H, most(1, kUnitBytes / bytes_per_row - (s.R - 1)));
  const int64_t margin = round_to_vector<T>(s.S + s.pad_w);  // fold_rows reads beside dB's rows and masks it away
  parallel_for(s.N * bands.count, nanoseconds(s), [&](int64_t unit) {
    const int64_t n = unit / bands.count, h0 = bands.begin(unit % bands.count), rows = bands.rows(unit % bands.count);
    const int64_t height = rows + s.R - 1;
    // Row i of the buffer is row i - pad_top of dy; zero rows stand for those that do not exist.
    const int64_t pad_top = s.R - 1 - s.pad_h - h0;
    const int64_t begin = least(height, most(0, pad_top)), end = most(begin, least(height, pad_top + s.P));
    const int64_t in_stride = round_to_vector<T>(height * s.Q);
    T* const in = scratch<T>(kPaddedSlot, s.K * in_stride + kWidth<T>);
    for (int64_t k = 0; k < s.K; ++k) {
      T* row = in + k * in_stride;
      zero(begin * s.Q, row);
      copy_row((end - begin) * s.Q, dy + ((n * s.K + k) * s.P + begin - pad_top) * s.Q, row + begin * s.Q);
      zero(in_stride - end * s.Q, row + end * s.Q);
    }
    const int64_t stride = round_to_vector<T>(rows * s.Q);
    const int64_t behind = round_to_vector<T>(s.W + s.pad_w) + 2 * kWidth<T>;
    T* const dB = scratch<T>(kRowsSlot, margin + M * stride + behind) + margin;
    correlate<T>({.M = M,
                  .L = s.K,
                  .R = s.R,
                  .pitch = s.Q,
                  .rows = rows,
                  .data_begin = begin,
                  .data_end = end,
                  .in = in,
                  .in_stride = in_stride,
                  .weight = packed,
                  .bias = nullptr,
                  .out = dB,
                  .out_stride = stride});
    fold_rows(s, rows, dB, stride, masks, dx + (n * s.C * s.H + h0) * s.W);
  });
}

}  // namespace

void conv2d_planar(const Conv2dShape& s, DType t, const void* x, const void* w, const void* bias, void* y) {
  if (t == DType::Float32)
    forward(s, static_cast<const float*>(x), static_cast<const float*>(w), static_cast<const float*>(bias),
            static_cast<float*>(y));
  else
    forward(s, static_cast<const double*>(x), static_cast<const double*>(w), static_cast<const double*>(bias),
            static_cast<double*>(y));
}

void conv2d_planar_backward_input(const Conv2dShape& s, DType t, const void* dy, const void* w, void* dx) {
  if (t == DType::Float32)
    backward_input(s, static_cast<const float*>(dy), static_cast<const float*>(w), static_cast<float*>(dx));
  else
    backward_input(s, static_cast<const double*>(dy), static_cast<const double*>(w), static_cast<double*>(dx));
}

}  // namespace pe::PE_ISA
