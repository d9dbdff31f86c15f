// Vectors of float32 as wide as the processor has them.

#pragma once

#include <cstdint>

#if defined(__AVX512F__)
constexpr int LANES = 16, ROWS = 8;
#elif defined(__AVX__)
constexpr int LANES = 8, ROWS = 6;
#else
constexpr int LANES = 4, ROWS = 6;
#endif
// ROWS by VECTORS vectors are summed in registers at once.
constexpr int VECTORS = 2;
constexpr int64_t WIDE = LANES * VECTORS;
typedef float Vector __attribute__((vector_size(LANES * sizeof(float)), aligned(4)));

inline int64_t whole_vectors(int64_t n) { return (n + LANES - 1) / LANES * LANES; }
