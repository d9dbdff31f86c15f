// Sums over all pixels of float32 images, of every channel, in one reading:
//   moments: of d and d * d, where d = x - center; products: of y and y * d.
// XLA's forms write d out for a matrix product. Pixels are cut into strips by their number alone;
// a strip is summed in float32, strips are added in float64 one after the other, whatever the
// number of threads.

#include <algorithm>
#include <cstdint>
#include <functional>
#include <numeric>
#include <vector>

#include "lanes.h"
#include "work.h"

namespace channel_sums {

constexpr int64_t STRIP = 256;     // pixels that are summed in float32
constexpr int64_t PARTS = 64;      // of an image batch, at most, which threads take
constexpr int64_t PART = 1 << 14;  // numbers of a part at least: less is not worth a thread
constexpr int BLOCK = 4;           // vectors of channels that are summed at once

struct Strip {
  const float *x, *y;  // y: nullptr for moments
  int64_t pixels, c;   // c: channels of a pixel, so the distance to the next one
};

// Sums V vectors of channels.
template <int V>
void sum(const Strip& s, const float* center, double* first, double* second) {
  Vector a[V] = {}, b[V] = {}, middle[V];
  for (int v = 0; v < V; ++v) middle[v] = *reinterpret_cast<const Vector*>(center + v * LANES);
  for (int64_t p = 0; p < s.pixels; ++p)
    for (int v = 0; v < V; ++v) {
      const int64_t at = p * s.c + v * LANES;
      const Vector d = *reinterpret_cast<const Vector*>(s.x + at) - middle[v];
      const Vector y = s.y ? *reinterpret_cast<const Vector*>(s.y + at) : d;
      a[v] += y;
      b[v] += y * d;
    }
  for (int v = 0; v < V; ++v)
    for (int l = 0; l < LANES; ++l) {
      first[v * LANES + l] += a[v][l];
      second[v * LANES + l] += b[v][l];
    }
}

// Sums one channel, of those that fill no vector.
void sum_one(const Strip& s, float center, double* first, double* second) {
  float a = 0, b = 0;
  for (int64_t p = 0; p < s.pixels; ++p) {
    const float d = s.x[p * s.c] - center, y = s.y ? s.y[p * s.c] : d;
    a += y, b += y * d;
  }
  *first += a, *second += b;
}

void sum_channels(const Strip& s, const float* center, double* first, double* second) {
  int64_t c = 0;
  const auto from = [&] { return Strip{s.x + c, s.y ? s.y + c : nullptr, s.pixels, s.c}; };
  for (; c + BLOCK * LANES <= s.c; c += BLOCK * LANES)
    sum<BLOCK>(from(), center + c, first + c, second + c);
  for (; c + LANES <= s.c; c += LANES) sum<1>(from(), center + c, first + c, second + c);
  for (; c < s.c; ++c) sum_one(from(), center[c], first + c, second + c);
}

struct Parts {
  const float *x, *y, *center;
  float* out;  // [batches, 2, C]
  int64_t batches, pixels, c, parts;
  std::vector<double> sums;  // [batches, parts, 2, C]

  int64_t count() const { return batches * parts; }

  void take(int64_t n) {
    const int64_t strips = (pixels + STRIP - 1) / STRIP, batch = n / parts, part = n % parts;
    for (int64_t i = part * strips / parts; i < (part + 1) * strips / parts; ++i) {
      const int64_t first = i * STRIP, at = (batch * pixels + first) * c;
      const Strip strip{x + at, y ? y + at : nullptr, std::min(STRIP, pixels - first), c};
      sum_channels(strip, center + batch * c, &sums[2 * n * c], &sums[(2 * n + 1) * c]);
    }
  }

  // Adds the parts, one after the other.
  void finish() {
    for (int64_t n = 0; n < batches; ++n)
      for (int64_t i = 0; i < 2 * c; ++i) {
        double total = 0;
        for (int64_t p = 0; p < parts; ++p) total += sums[(n * parts + p) * 2 * c + i];
        out[n * 2 * c + i] = total;
      }
  }
};

ffi::Future begin(ffi::ThreadPool pool, const float* y, ffi::Buffer<ffi::F32> x,
                  ffi::Buffer<ffi::F32> center, ffi::ResultBuffer<ffi::F32> out) {
  Parts p;
  const auto dims = center.dimensions();
  p.x = x.typed_data(), p.y = y, p.center = center.typed_data();
  p.out = out->typed_data();
  p.c = dims.back();
  p.batches = std::accumulate(dims.begin(), dims.end() - 1, int64_t{1},
                                  std::multiplies<int64_t>());
  p.pixels = x.element_count() / (p.batches * p.c);
  p.parts = std::clamp(p.pixels * p.c / PART, int64_t{1}, PARTS);
  p.sums.resize(2 * p.batches * p.parts * p.c);
  return start(pool, std::move(p));
}

ffi::Future moments(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> center,
                    ffi::ResultBuffer<ffi::F32> out) {
  return begin(pool, nullptr, x, center, out);
}

ffi::Future products(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> y, ffi::Buffer<ffi::F32> x,
                     ffi::Buffer<ffi::F32> center, ffi::ResultBuffer<ffi::F32> out) {
  return begin(pool, y.typed_data(), x, center, out);
}

}  // namespace channel_sums

XLA_FFI_DEFINE_HANDLER_SYMBOL(Moments, channel_sums::moments,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(Products, channel_sums::products,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Ret<ffi::Buffer<ffi::F32>>());
