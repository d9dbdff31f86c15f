// The filter gradient of 3x3 convolutions with same padding of float32 images, few channels:
//   out[i, j, c, f] = sum over b, h, w of x[b, h + i - 1, w + j - 1, c] * dy[b, h, w, f].
// XLA's form transposes x and dy in memory first. This one reads them as they lie: a tile of
// ROWS channels c by VECTORS vectors of features f stays in registers over a block of pixels.
// Sums have one order whatever the number of threads: a sequence of pixel rows is cut into parts
// by its shape alone, and the parts' sums are added one after the other.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <vector>

#include "lanes.h"
#include "work.h"

namespace filter_gradient {

constexpr int64_t PARTS = 32;            // at most, of an image batch
constexpr int64_t PART = 1 << 16;        // products of a part at least: less is not worth a thread
constexpr int64_t BLOCK = 8192;          // numbers of x and dy in a block, which stays in the cache
constexpr int64_t PIXELS = 512;          // of a block at most: more in one sum round more

struct Block {
  int64_t first, last, left, right;  // rows [first, last) of columns [left, right)
};

struct Shape {
  int64_t rows, height, width, c, f, padded;  // rows = B * H; padded: f as whole vectors
};

// Adds a block's products for one tap, channels [c, c + N) and features [f, f + V vectors).
template <int N, int V>
void tile(const Shape& s, const float* x, const float* dy, const Block& block, int i, int j,
          float* sums) {
  Vector total[N][V] = {};
  const int64_t left = std::max<int64_t>(block.left, j == 0);
  const int64_t right = std::min(block.right, s.width - (j == 2));
  for (int64_t row = block.first; row < block.last; ++row) {
    const int64_t h = row % s.height + i - 1;
    if (h < 0 || h >= s.height) continue;
    const float* a = x + ((row + i - 1) * s.width + left + j - 1) * s.c;
    const float* b = dy + ((row - block.first) * s.width + left) * s.padded;
    for (int64_t w = left; w < right; ++w, a += s.c, b += s.padded) {
      Vector y[V];
      for (int v = 0; v < V; ++v) y[v] = *reinterpret_cast<const Vector*>(b + v * LANES);
      for (int n = 0; n < N; ++n)
        for (int v = 0; v < V; ++v) total[n][v] += a[n] * y[v];
    }
  }
  for (int n = 0; n < N; ++n)
    for (int v = 0; v < V; ++v)
      *reinterpret_cast<Vector*>(sums + n * s.padded + v * LANES) += total[n][v];
}

template <int N>
void tiles(int64_t n, int64_t vectors, const Shape& s, const float* x, const float* dy,
           const Block& block, int i, int j, float* sums) {
  if (n < N) {
    if constexpr (N > 1) tiles<N - 1>(n, vectors, s, x, dy, block, i, j, sums);
  } else if (vectors == 1) {
    tile<N, 1>(s, x, dy, block, i, j, sums);
  } else {
    tile<N, VECTORS>(s, x, dy, block, i, j, sums);
  }
}

// Sums the products of rows [first, last) into sums [3, 3, C, padded].
void part(const Shape& s, const float* x, const float* dy, int64_t first, int64_t last,
          float* sums) {
  const int64_t columns = std::min(s.width, PIXELS);
  const int64_t pixels = std::min(PIXELS, BLOCK / (s.c + s.f));
  const int64_t rows = std::max<int64_t>(1, pixels / columns);
  std::vector<float> packed;  // dy with whole vectors of features
  for (int64_t from = first; from < last; from += rows) {
    const int64_t to = std::min(from + rows, last);
    const float* b = dy + from * s.width * s.f;
    if (s.padded != s.f) {
      packed.resize(rows * s.width * s.padded);
      for (int64_t p = 0; p < (to - from) * s.width; ++p)
        std::memcpy(&packed[p * s.padded], b + p * s.f, s.f * sizeof(float));
      b = packed.data();
    }
    for (int64_t w = 0; w < s.width; w += columns)
      for (int tap = 0; tap < 9; ++tap)
        for (int64_t c = 0; c < s.c; c += ROWS)
          for (int64_t f = 0; f < s.padded; f += WIDE)
            tiles<ROWS>(std::min<int64_t>(ROWS, s.c - c),
                        std::min<int64_t>(VECTORS, (s.padded - f) / LANES), s, x + c, b + f,
                        {from, to, w, std::min(w + columns, s.width)}, tap / 3, tap % 3,
                        sums + (tap * s.c + c) * s.padded + f);
  }
}

struct Parts {
  Shape shape;
  const float *x, *dy;
  float* out;
  int64_t images, parts;  // batches, and parts of each
  std::vector<float> sums;

  int64_t count() const { return images * parts; }

  void take(int64_t n) {
    const Shape& s = shape;
    const int64_t size = 9 * s.c * s.padded, pixels = s.rows * s.width;
    const int64_t image = n / parts, p = n % parts;
    part(s, x + image * pixels * s.c, dy + image * pixels * s.f, p * s.rows / parts,
         (p + 1) * s.rows / parts, &sums[n * size]);
  }

  // Adds the parts, one after the other.
  void finish() {
    const Shape& s = shape;
    const int64_t taps = 9 * s.c;
    for (int64_t n = 0; n < images * taps; ++n)
      for (int64_t p = 0; p < parts; ++p) {
        const float* one = &sums[((n / taps * parts + p) * taps + n % taps) * s.padded];
        for (int64_t f = 0; f < s.f; ++f) out[n * s.f + f] = one[f] + (p ? out[n * s.f + f] : 0);
      }
  }
};

ffi::Future begin(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> dy,
                  ffi::ResultBuffer<ffi::F32> out) {
  const auto a = x.dimensions(), b = dy.dimensions();
  const size_t n = a.size();
  Parts p;
  const int64_t f = b[n - 1], padded = whole_vectors(f);
  p.shape = {a[n - 4] * a[n - 3], a[n - 3], a[n - 2], a[n - 1], f, padded};
  const Shape& s = p.shape;
  p.images = std::accumulate(a.begin(), a.end() - 4, int64_t{1}, std::multiplies<int64_t>());
  p.parts = std::clamp(s.rows * s.width * 9 * s.c * s.f / PART, int64_t{1},
                           std::min(PARTS, std::max<int64_t>(1, s.rows)));
  p.x = x.typed_data(), p.dy = dy.typed_data(), p.out = out->typed_data();
  p.sums.resize(p.images * p.parts * 9 * s.c * padded);
  return start(pool, std::move(p));
}

}  // namespace filter_gradient

XLA_FFI_DEFINE_HANDLER_SYMBOL(FilterGradient, filter_gradient::begin,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());
