// conv2d's gradient with respect to the weights by Winograd's algorithm (winograd.h): the transposed map takes inputs
// and output gradients to the points, multiplies them there, [K][tiles] times [tiles][C], and takes the sums back.
#include "cpu/winograd.h"

namespace pe::PE_ISA {

void conv2d_winograd_backward_weight(const Conv2dShape& s, DType t, const void* x, const void* dy, void* dw);

namespace {

constexpr int64_t kSumsBytes = 40 << 20;  // memory for the sums of all slices
constexpr int64_t kMostSlices = 16;
constexpr int64_t kSliceTiles = 128;  // a slice of fewer tiles is not worth its sums

struct Gradient {
  Image<const float> x, dy;
  int64_t pad_h, pad_w;
};

// Rows that may be read by whole vectors, where they are.
struct PaddedB {
  static constexpr bool kBuffer = false;
  const float* data;
  int64_t ld;
  PanelB<float> panel(int64_t index, Range k, float*) const {
    return {data + k.begin * ld + index * kPanel<float>, ld};
  }
};

template <int kSide>
__attribute__((noinline)) void transform_gradient(const TileGrid<kSide>& grid, Range tiles,
                                                  const Image<const float>& dy, const Planes& to) {
  for (int64_t tile = tiles.begin; tile < tiles.end; ++tile) {
    const auto place = grid.place(tile);
    const int64_t rows = dy.H - place.h, columns = dy.W - place.w;
    const float* const corner = dy.data + ((place.n * dy.H + place.h) * dy.W + place.w) * dy.C;
    float* const values = to.data + (tile - tiles.begin) * to.ld;
    for (int64_t k = 0; k < dy.C; k += FloatVec::width) {
      const int64_t left = dy.C - k;
      const auto store = [&](int i, int j, FloatVec v)
                             __attribute__((always_inline)) { v.store(values + (i * kPoints + j) * to.distance + k); };
      if (rows >= kSide && columns >= kSide && left >= FloatVec::width)
        transform_2d<Evaluate<kSide>>(
            [&](int i, int j)
                __attribute__((always_inline)) { return FloatVec::load(corner + (i * dy.W + j) * dy.C + k); },
            store);
      else
        transform_2d<Evaluate<kSide>>(
            [&](int i, int j) __attribute__((always_inline)) {
              return i < rows && j < columns ? load_up_to(corner + (i * dy.W + j) * dy.C + k, left)
                                             : FloatVec(typename FloatVec::Raw{});
            },
            store);
    }
  }
}

// Rows m of sums [K][C] of one plane (+)= gradients^T * values, over `tiles` tiles.
PE_INLINE void add_products(int64_t plane, Range m, int64_t tiles, int64_t C, const Planes& gradients,
                            const Planes& values, const Planes& sums, bool accumulate) {
  multiply<float>(ColumnsA<float>{gradients.plane(plane), gradients.ld, false}, PaddedB{values.plane(plane), values.ld},
                  m, {0, tiles}, {0, ceil_div(C, kPanel<float>)}, C,
                  Result<float>{sums.plane(plane) + m.begin * sums.ld, sums.ld, nullptr, accumulate});
}

// Tiles that are transformed before they are multiplied. Every block reads and writes all sums: the more sums, the more
// tiles.
PE_INLINE int64_t block_tiles(const Gradient& g) { return clamped(g.x.C * g.dy.C / 128, 64, 512); }

// A piece sums a slice of the tiles on its own, block by block.
template <int kSide>
void sum_slices(const Gradient& g, const TileGrid<kSide>& grid, int64_t slices, const Planes& sums, int64_t sums_size,
                double work) {
  const int64_t C = g.x.C, K = g.dy.C;
  parallel_for(slices, work, [&](int64_t piece) {
    const Range slice = share(grid.count(), slices, piece);
    const Planes to = {sums.data + piece * sums_size, sums.ld, sums.distance};
    const int64_t blocks = ceil_div(slice.size(), block_tiles(g)), most = ceil_div(slice.size(), blocks);
    float* const memory = scratch<float>(kScratchPartial, Planes::size(most, C) + Planes::size(most, K));
    for (int64_t b = 0; b < blocks; ++b) {
      const Range part = share(slice.size(), blocks, b);
      const Range tiles = {slice.begin + part.begin, slice.begin + part.end};
      const int64_t n = tiles.size();
      const Planes values = Planes::make(memory, n, C), gradients = Planes::make(memory + Planes::size(n, C), n, K);
      transform_input(grid, tiles, g.x, g.pad_h, g.pad_w, values);
      transform_gradient(grid, tiles, g.dy, gradients);
      for (int64_t i = 0; i < kPlanes; ++i) add_products(i, {0, K}, n, C, gradients, values, to, b > 0);
    }
  });
}

// One sum, where several would take too much memory: all pieces transform, then each multiplies rows of a plane.
template <int kSide>
void sum_planes(const Gradient& g, const TileGrid<kSide>& grid, const Planes& sums, double work) {
  const int64_t C = g.x.C, K = g.dy.C;
  const int64_t blocks = ceil_div(grid.count(), block_tiles(g)), most = ceil_div(grid.count(), blocks);
  float* const memory = scratch<float>(kScratchPartial, Planes::size(most, C) + Planes::size(most, K));
  for (int64_t b = 0; b < blocks; ++b) {
    const Range block = share(grid.count(), blocks, b);
    const int64_t n = block.size(), parts = ceil_div(n, 8);
    const Planes values = Planes::make(memory, n, C), gradients = Planes::make(memory + Planes::size(n, C), n, K);
    parallel_for(parts, 20.0 * static_cast<double>(n * (C + K)), [&](int64_t piece) {
      const Range part = share(n, parts, piece), tiles = {block.begin + part.begin, block.begin + part.end};
      transform_input(grid, tiles, g.x, g.pad_h, g.pad_w,
                      {values.data + part.begin * values.ld, values.ld, values.distance});
      transform_gradient(grid, tiles, g.dy,
                         {gradients.data + part.begin * gradients.ld, gradients.ld, gradients.distance});
    });
    const int64_t row_blocks = ceil_div(K, kGradientRows);
    parallel_for(kPlanes * row_blocks, work / static_cast<double>(blocks), [&](int64_t piece) {
      add_products(piece / row_blocks, share(K, row_blocks, piece % row_blocks), n, C, gradients, values, sums, b > 0);
    });
  }
}

// dw[k][c][taps] from the sums at the points, the slices added in their order.
template <int kTaps>
void transform_sums(int64_t K, int64_t C, const Planes& sums, int64_t slices, int64_t sums_size, float* dw) {
  constexpr int64_t taps = kTaps * kTaps;
  const int64_t pieces = clamped(K * C * slices / 512, 1, smaller(K, 64));
  parallel_for(pieces, 10.0 * static_cast<double>(K * C * slices), [&](int64_t piece) {
    const Range range = share(K, pieces, piece);
    for (int64_t k = range.begin; k < range.end; ++k)
      for (int64_t c = 0; c < C; c += FloatVec::width) {
        const float* const from = sums.data + k * sums.ld + c;
        float result[taps][FloatVec::width];
        transform_2d<KernelTransposed<kTaps>>(
            [&](int i, int j) __attribute__((always_inline)) {
              const float* const value = from + (i * kPoints + j) * sums.distance;
              FloatVec sum = FloatVec::load(value);
              for (int64_t slice = 1; slice < slices; ++slice) sum = sum + FloatVec::load(value + slice * sums_size);
              return sum;
            },
            [&](int i, int j, FloatVec v) __attribute__((always_inline)) { v.store(result[i * kTaps + j]); });
        const int64_t n = smaller(FloatVec::width, C - c);
        float* const to = dw + (k * C + c) * taps;
        for (int64_t channel = 0; channel < n; ++channel)
          for (int64_t tap = 0; tap < taps; ++tap) to[channel * taps + tap] = result[tap][channel];
      }
  });
}

template <int kTaps>
void backward_weight(const Gradient& g, float* dw) {
  const TileGrid<kPoints + 1 - kTaps> grid(g.dy.N, g.dy.H, g.dy.W);
  const int64_t C = g.x.C, K = g.dy.C, tiles = grid.count();
  const int64_t size = Planes::size(K, C), affordable = kSumsBytes / (size * static_cast<int64_t>(sizeof(float)));
  const int64_t most = clamped(smaller(affordable, tiles / kSliceTiles), 1, kMostSlices);
  int64_t slices = 1;  // a power of two: an even load for as many threads
  while (2 * slices <= most) slices *= 2;
  const Planes sums = Planes::make(scratch<float>(kScratchShared, slices * size), K, C);
  const double work = nanoseconds<float>(kPlanes * static_cast<double>(tiles) * C * K);
  if (slices > 1)
    sum_slices(g, grid, slices, sums, size, work);
  else
    sum_planes(g, grid, sums, work);
  transform_sums<kTaps>(K, C, sums, slices, size, dw);
}

}  // namespace

void conv2d_winograd_backward_weight(const Conv2dShape& s, DType, const void* x, const void* dy, void* dw) {
  const Gradient g = {{static_cast<const float*>(x), s.N, s.H, s.W, s.C},
                      {static_cast<const float*>(dy), s.N, s.P, s.Q, s.K},
                      s.pad_h,
                      s.pad_w};
  float* const to = static_cast<float*>(dw);
  s.R == 3 ? backward_weight<3>(g, to) : backward_weight<5>(g, to);
}

}  // namespace pe::PE_ISA
