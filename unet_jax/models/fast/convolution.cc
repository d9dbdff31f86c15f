// 3x3 convolutions with same padding of float32 images, few channels:
//   out[b, h, w, f] = max(floor, bias[f] + sum over i, j, c of x[b, h + i - 1, w + j - 1, c] *
//                                                              kernel[i, j, c, f]).
// XLA's form writes out what every tap sees, nine times x, for a matrix product. This one keeps
// ROWS pixels by VECTORS vectors of features in registers while it goes through the taps. Every
// number is one sum in one order, whatever the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "lanes.h"
#include "work.h"

namespace convolution {

constexpr int64_t BANDS = 32;       // of rows, at most, of an image batch
constexpr int64_t BAND = 1 << 16;   // products of a band at least: less is not worth a thread

// What sums begin with, of some features, and what takes the place of those below it.
struct Ends {
  const float* bias;
  float floor;
};

struct Shape {
  int64_t rows, height, width, c, f;  // rows = B * H
};

// Computes N pixels from w on, V vectors of features, of which the first `features` are there.
template <int N, int V>
void tile(const Shape& s, const float* const lines[3], int64_t w, const float* kernel,
          const Ends& ends, int64_t features, float* out) {
  Vector total[N][V];
  for (int n = 0; n < N; ++n)
    for (int v = 0; v < V; ++v)
      total[n][v] = *reinterpret_cast<const Vector*>(ends.bias + v * LANES);
  for (int i = 0; i < 3; ++i) {
    const float* a = lines[i] + w * s.c;
    const float* b = kernel + i * 3 * s.c * WIDE;
    // The three taps of a row lie in x as they lie in the kernel: one after the other.
    for (int64_t c = 0; c < 3 * s.c; ++c, b += WIDE) {
      Vector k[V];
      for (int v = 0; v < V; ++v) k[v] = *reinterpret_cast<const Vector*>(b + v * LANES);
      for (int n = 0; n < N; ++n)
        for (int v = 0; v < V; ++v) total[n][v] += a[n * s.c + c] * k[v];
    }
  }
  for (int n = 0; n < N; ++n)
    for (int v = 0; v < V; ++v) {
      const int64_t size = std::min<int64_t>(LANES, features - v * LANES) * sizeof(float);
      // What is no number is not below the floor, and stays.
      const Vector result = total[n][v] < ends.floor ? Vector{} + ends.floor : total[n][v];
      std::memcpy(out + n * s.f + v * LANES, &result, size);
    }
}

template <int N>
void tiles(int64_t n, const Shape& s, const float* const lines[3], int64_t w, const float* kernel,
           const Ends& ends, int64_t features, float* out) {
  if (n < N) {
    if constexpr (N > 1) tiles<N - 1>(n, s, lines, w, kernel, ends, features, out);
  } else if (features <= LANES) {
    tile<N, 1>(s, lines, w, kernel, ends, features, out);
  } else {
    tile<N, VECTORS>(s, lines, w, kernel, ends, std::min(features, WIDE), out);
  }
}

// The three rows of x that a row of the result reads, with the padding of zeros around them.
class Window {
 public:
  Window(const Shape& s, const float* x)
      : shape(s), images(x), line((s.width + 2) * s.c), numbers(3 * line) {}

  // Lets `lines` be those around a row; each is copied once where rows come one after the other.
  void move(int64_t row, const float* lines[3]) {
    const Shape& s = shape;
    for (int i = 0; i < 3; ++i) {
      const int64_t from = row + i - 1, h = row % s.height + i - 1, place = (from + 3) % 3;
      const int64_t wanted = h < 0 || h >= s.height ? OUTSIDE : from;
      float* to = &numbers[place * line];
      if (held[place] != wanted) {
        const int64_t size = s.width * s.c;
        if (wanted == OUTSIDE) std::fill_n(to + s.c, size, 0.0f);
        else std::memcpy(to + s.c, images + from * size, size * sizeof(float));
        held[place] = wanted;
      }
      lines[i] = to;
    }
  }

 private:
  static constexpr int64_t OUTSIDE = -1;
  const Shape& shape;
  const float* images;
  const int64_t line;
  std::vector<float> numbers;
  int64_t held[3] = {OUTSIDE, OUTSIDE, OUTSIDE};
};

struct Parts {
  Shape shape;
  const float* x;
  float* out;
  int64_t batches, bands;      // bands of each batch
  std::vector<float> kernels;  // [batches, blocks of WIDE features, 3, 3, C, WIDE]
  std::vector<float> biases;   // [batches, blocks, WIDE]
  float floor;

  int64_t count() const { return batches * bands; }

  void take(int64_t n) {
    const int64_t batch = n / bands, number = n % bands;
    const Shape& s = shape;
    const int64_t pixels = s.rows * s.width, taps = 9 * s.c;
    Window window(s, x + batch * pixels * s.c);
    const float* kernel = &kernels[kernels.size() / batches * batch];
    const float* bias = &biases[biases.size() / batches * batch];
    const float* lines[3];
    for (int64_t row = number * s.rows / bands; row < (number + 1) * s.rows / bands; ++row) {
      window.move(row, lines);
      float* to = out + (batch * pixels + row * s.width) * s.f;
      for (int64_t f = 0; f < s.f; f += WIDE)
        for (int64_t w = 0; w < s.width; w += ROWS)
          tiles<ROWS>(std::min<int64_t>(ROWS, s.width - w), s, lines, w, kernel + f * taps,
                      {bias + f, floor}, s.f - f, to + w * s.f + f);
    }
  }

  void finish() {}
};

ffi::Future begin(ffi::ThreadPool pool, ffi::Buffer<ffi::F32> x, ffi::Buffer<ffi::F32> kernel,
                  ffi::Buffer<ffi::F32> bias, float floor, ffi::ResultBuffer<ffi::F32> out) {
  const auto a = x.dimensions(), b = kernel.dimensions();
  const size_t n = a.size();
  Parts p;
  p.shape = {a[n - 4] * a[n - 3], a[n - 3], a[n - 2], a[n - 1], b[n - 1]};
  const Shape& s = p.shape;
  p.batches = std::accumulate(a.begin(), a.end() - 4, int64_t{1}, std::multiplies<int64_t>());
  p.bands = std::clamp(s.rows * s.width * 9 * s.c * s.f / BAND, int64_t{1},
                           std::min(BANDS, std::max<int64_t>(1, s.rows)));
  p.x = x.typed_data(), p.out = out->typed_data(), p.floor = floor;
  const int64_t taps = 9 * s.c, blocks = (s.f + WIDE - 1) / WIDE;
  p.kernels.resize(p.batches * blocks * taps * WIDE);
  for (int64_t row = 0; row < p.batches * taps; ++row)
    for (int64_t f = 0; f < s.f; f += WIDE) {
      const int64_t block = row / taps * blocks + f / WIDE;
      std::memcpy(&p.kernels[(block * taps + row % taps) * WIDE],
                  kernel.typed_data() + row * s.f + f,
                  std::min(WIDE, s.f - f) * sizeof(float));
    }
  p.biases.resize(p.batches * blocks * WIDE);
  for (int64_t batch = 0; batch < p.batches; ++batch)
    std::memcpy(&p.biases[batch * blocks * WIDE], bias.typed_data() + batch * s.f,
                s.f * sizeof(float));
  return start(pool, std::move(p));
}

}  // namespace convolution

XLA_FFI_DEFINE_HANDLER_SYMBOL(Convolution, convolution::begin,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Attr<float>("floor")
                                  .Ret<ffi::Buffer<ffi::F32>>());
