// conv2d and its gradient with respect to the input by Winograd's algorithm (winograd.h): 3x3 and 5x5 kernels, stride
// 1, dilation 1, one group, float32. The gradient is the convolution of dy with the rotated weights.
#include "cpu/winograd.h"

namespace pe::PE_ISA {

void conv2d_winograd(const Conv2dShape& s, DType t, const void* x, const void* w, const void* bias, void* y);
void conv2d_winograd_backward_input(const Conv2dShape& s, DType t, const void* dy, const void* w, void* dx);

namespace {

constexpr int64_t kBlockChannels = 256;
constexpr int64_t kMostBlockTiles = 64;

struct Convolution {
  Image<const float> x;
  Image<float> y;
  int64_t pad_h, pad_w;
  const float* w;     // [y.C][x.C][taps]; rotated: [x.C][y.C][taps], and the taps in reverse order
  const float* bias;  // y.C elements, or null
  bool rotated;
};

// Kernels at the points: [kPlanes][panel][x.C][kPanel].
struct Kernels {
  float* data;
  int64_t distance;

  static PE_INLINE int64_t size(int64_t panels, int64_t channels) {
    return kPlanes * make(nullptr, panels, channels).distance;
  }
  static PE_INLINE Kernels make(float* data, int64_t panels, int64_t channels) {
    return {data, odd_lines(panels * channels * kPanel<float>)};
  }
};

// Input channels `channels` of panel `panel`; they go to panel `target` of `to`.
template <int kTaps>
void transform_kernels(const Convolution& conv, int64_t panel, Range channels, const Kernels& to, int64_t target) {
  constexpr int64_t taps = kTaps * kTaps, kChunk = 16;
  const int64_t C = conv.x.C, first = panel * kPanel<float>, n = smaller(kPanel<float>, conv.y.C - first);
  float* const rows = scratch<float>(kScratchB, kChunk * taps * kPanel<float>);  // [channel][tap][kPanel]
  for (int64_t begin = channels.begin; begin < channels.end; begin += kChunk) {
    const int64_t count = smaller(kChunk, channels.end - begin);
    if (conv.rotated) {
      for (int64_t c = 0; c < count; ++c)
        pack_transposed(
            conv.w + ((begin + c) * conv.y.C + first) * taps, taps, n, taps,
            [&](int64_t q) __attribute__((always_inline)) { return rows + (c * taps + taps - 1 - q) * kPanel<float>; });
    } else {
      pack_transposed(conv.w + (first * C + begin) * taps, C * taps, n, count * taps,
                      [&](int64_t q) __attribute__((always_inline)) { return rows + q * kPanel<float>; });
    }
    for (int64_t c = 0; c < count; ++c)
      for (int64_t v = 0; v < kPanel<float>; v += FloatVec::width) {
        const float* const from = rows + c * taps * kPanel<float> + v;
        float* const values = to.data + (target * C + begin + c) * kPanel<float> + v;
        transform_2d<KernelTransform<kTaps>>(
            [&](int i, int j)
                __attribute__((always_inline)) { return FloatVec::load(from + (i * kTaps + j) * kPanel<float>); },
            [&](int i, int j, FloatVec u)
                __attribute__((always_inline)) { u.store(values + (i * kPoints + j) * to.distance); });
      }
  }
}

// The products at the points: values [tiles][C] times kernels [C][n]. Sums over blocks of channels, added up, round
// less than one long sum: the interpolation magnifies it.
PE_INLINE void multiply_planes(int64_t tiles, int64_t C, const Planes& values, const Kernels& kernels, int64_t panels,
                               int64_t n, const Planes& products) {
  const int64_t blocks = ceil_div(C, kBlockChannels);
  for (int64_t i = 0; i < kPlanes; ++i)
    for (int64_t b = 0; b < blocks; ++b)
      multiply<float>(RowsA<float>{values.plane(i), values.ld, false},
                      PackedB<float>{kernels.data + i * kernels.distance, C}, {0, tiles}, share(C, blocks, b),
                      {0, panels}, n, Result<float>{products.plane(i), products.ld, nullptr, b > 0});
}

// Outputs, channels first .. first + n - 1, from the products at the points.
template <int kSide>
__attribute__((noinline)) void transform_output(const TileGrid<kSide>& grid, Range tiles, const Planes& from,
                                                const Image<float>& y, int64_t first, int64_t n, const float* bias) {
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const auto place = grid.place(tile);
    const int64_t rows = y.H - place.h, columns = y.W - place.w;
    float* const corner = y.data + ((place.n * y.H + place.h) * y.W + place.w) * y.C + first;
    const float* const values = from.data + (tile - tiles.begin) * from.ld;
    for (int64_t k = 0; k < n; k += FloatVec::width) {
      const int64_t left = n - k;
      const FloatVec constant = bias ? load_up_to(bias + first + k, left) : FloatVec(typename FloatVec::Raw{});
      const auto load = [&](int i, int j) __attribute__((always_inline)) {
        return FloatVec::load(values + (i * kPoints + j) * from.distance + k);
      };
      if (rows >= kSide && columns >= kSide && left >= FloatVec::width)
        transform_2d<EvaluateTransposed<kSide>>(load, [&](int i, int j, FloatVec v) __attribute__((always_inline)) {
          (v + constant).store(corner + (i * y.W + j) * y.C + k);
        });
      else
        transform_2d<EvaluateTransposed<kSide>>(load, [&](int i, int j, FloatVec v) __attribute__((always_inline)) {
          if (i < rows && j < columns) store_up_to(corner + (i * y.W + j) * y.C + k, left, v + constant);
        });
    }
  }
}

// Many tiles: the kernels are transformed once, then each piece takes a block of tiles all the way, in its caches.
template <int kTaps, int kSide = kPoints + 1 - kTaps>
void convolve_by_tiles(const Convolution& conv, const TileGrid<kSide>& grid, double work) {
  const int64_t C = conv.x.C, K = conv.y.C, panels = ceil_div(K, kPanel<float>);
  const Kernels kernels = Kernels::make(scratch<float>(kScratchShared, Kernels::size(panels, C)), panels, C);
  const int64_t chunks = ceil_div(C, 64);
  parallel_for(panels * chunks, 4.0 * static_cast<double>(C * K), [&](int64_t piece) {
    const int64_t panel = piece / chunks;
    transform_kernels<kTaps>(conv, panel, share(C, chunks, piece % chunks), kernels, panel);
  });

  // The more channels, the farther away are the kernels, which every block reads: larger blocks read them less often.
  const int64_t wanted = clamped((C + K) / (8 * kMicroRows), 1, kMostBlockTiles / kMicroRows) * kMicroRows;
  const int64_t blocks = ceil_div(grid.count(), wanted);
  parallel_for(blocks, work, [&](int64_t piece) {
    const Range tiles = share(grid.count(), blocks, piece);
    const int64_t n = tiles.size();
    float* const memory = scratch<float>(kScratchPartial, Planes::size(n, C) + Planes::size(n, K));
    const Planes values = Planes::make(memory, n, C), products = Planes::make(memory + Planes::size(n, C), n, K);
    transform_input(grid, tiles, conv.x, conv.pad_h, conv.pad_w, values);
    multiply_planes(n, C, values, kernels, panels, K, products);
    transform_output(grid, tiles, products, conv.y, 0, K, conv.bias);
  });
}

// Few tiles, so that the kernels are most of the data: the inputs are transformed once, then each piece takes a panel
// of output channels all the way. The transformed kernels never leave the caches, and are never all there at once.
template <int kTaps, int kSide = kPoints + 1 - kTaps>
void convolve_by_channels(const Convolution& conv, const TileGrid<kSide>& grid, double work) {
  const int64_t C = conv.x.C, K = conv.y.C, panels = ceil_div(K, kPanel<float>), tiles = grid.count();
  const Planes values = Planes::make(scratch<float>(kScratchShared, Planes::size(tiles, C)), tiles, C);
  const int64_t blocks = ceil_div(tiles, 8);
  parallel_for(blocks, 20.0 * static_cast<double>(tiles * C), [&](int64_t piece) {
    const Range range = share(tiles, blocks, piece);
    const Planes to = {values.data + range.begin * values.ld, values.ld, values.distance};
    transform_input(grid, range, conv.x, conv.pad_h, conv.pad_w, to);
  });

  parallel_for(panels, work, [&](int64_t panel) {
    const int64_t first = panel * kPanel<float>, n = smaller(K - first, kPanel<float>);
    float* const memory = scratch<float>(kScratchPartial, Kernels::size(1, C) + Planes::size(tiles, n));
    const Kernels kernels = Kernels::make(memory, 1, C);
    const Planes products = Planes::make(memory + Kernels::size(1, C), tiles, n);
    transform_kernels<kTaps>(conv, panel, {0, C}, kernels, 0);
    multiply_planes(tiles, C, values, kernels, 1, n, products);
    transform_output(grid, {0, tiles}, products, conv.y, first, n, conv.bias);
  });
}

template <int kTaps>
void convolve(const Convolution& conv) {
  const TileGrid<kPoints + 1 - kTaps> grid(conv.y.N, conv.y.H, conv.y.W);
  const double work = nanoseconds<float>(kPlanes * static_cast<double>(grid.count()) * conv.x.C * conv.y.C);
  const bool few_tiles = 4 * grid.count() <= conv.y.C;  // measured: where either form is as fast
  if (few_tiles)
    convolve_by_channels<kTaps>(conv, grid, work);
  else
    convolve_by_tiles<kTaps>(conv, grid, work);
}

void convolve(int64_t taps, const Convolution& conv) { taps == 3 ? convolve<3>(conv) : convolve<5>(conv); }

}  // namespace

void conv2d_winograd(const Conv2dShape& s, DType, const void* x, const void* w, const void* bias, void* y) {
  convolve(s.R, {.x = {static_cast<const float*>(x), s.N, s.H, s.W, s.C},
                 .y = {static_cast<float*>(y), s.N, s.P, s.Q, s.K},
                 .pad_h = s.pad_h,
                 .pad_w = s.pad_w,
                 .w = static_cast<const float*>(w),
                 .bias = static_cast<const float*>(bias),
                 .rotated = false});
}

void conv2d_winograd_backward_input(const Conv2dShape& s, DType, const void* dy, const void* w, void* dx) {
  convolve(s.R, {.x = {static_cast<const float*>(dy), s.N, s.P, s.Q, s.K},
                 .y = {static_cast<float*>(dx), s.N, s.H, s.W, s.C},
                 .pad_h = s.R - 1 - s.pad_h,
                 .pad_w = s.S - 1 - s.pad_w,
                 .w = static_cast<const float*>(w),
                 .bias = nullptr,
                 .rotated = true});
}

}  // namespace pe::PE_ISA
