// Residual and layer norm in one pass over memory.
//
// The compiler defines:
//   WIDTH           numbers in a row, a multiple of the numbers in sixteen bytes
//   EPS             added to the variance
//   STORAGE         Half or Float, the number format in memory
//   ROWS_PER_BLOCK  warps in a block, each of which computes one row
//   FP8_NORMS       1 for a kernel that returns norms in FP8, otherwise 0. It needs Half.
//
// All arithmetic is in f32. The kernels round the sum to STORAGE before they normalise it, as
// LibTorch does between its two kernels. Only the order of additions differs from LibTorch.
//
// The variance is biased. The kernels subtract the mean before they square: with a large mean, a
// single pass over the squares would cancel all significant digits.

constexpr int WARP = 32;
constexpr int NUMBERS = STORAGE::NUMBERS;
constexpr int VECTORS = WIDTH / NUMBERS;
constexpr int VECTORS_PER_LANE = (VECTORS + WARP - 1) / WARP;
static_assert(WIDTH % NUMBERS == 0, "a row is a whole number of vectors");

// Returns the sum of `value` over all lanes of the warp, to each of them.
__device__ inline float warp_sum(float value) {
#pragma unroll
  for (int distance = WARP / 2; distance > 0; distance /= 2) {
    value += __shfl_xor_sync(0xffffffffu, value, distance);
  }
  return value;
}

// A warp computes one row in its registers. Lane l has the vectors l, l + 32, and so on.
//
// `normed` may equal `states`: a lane reads all its vectors of a row before it writes one.
template <bool STORE_SUM, typename NORM>
__device__ inline void add_norm(uint4* states, const uint4* __restrict__ delta, const uint4* __restrict__ weight,
                                const uint4* __restrict__ bias, typename NORM::Vector* normed, long long rows) {
  const int lane = threadIdx.x % WARP;
  const long long row = static_cast<long long>(blockIdx.x) * ROWS_PER_BLOCK + threadIdx.x / WARP;
  if (row >= rows) return;  // The whole warp returns, so no lane waits for another.
  states += row * VECTORS;
  delta += row * VECTORS;
  normed += row * VECTORS;

  uint4 read[VECTORS_PER_LANE][2];
#pragma unroll
  for (int part = 0; part < VECTORS_PER_LANE; ++part) {
    const int vector = part * WARP + lane;
    if (vector >= VECTORS) continue;
    read[part][0] = states[vector];
    read[part][1] = delta[vector];
  }

  float numbers[VECTORS_PER_LANE][NUMBERS];
  float sum = 0.0f;
#pragma unroll
  for (int part = 0; part < VECTORS_PER_LANE; ++part) {
    const int vector = part * WARP + lane;
    if (vector >= VECTORS) continue;
    float added[NUMBERS];
    STORAGE::unpack(read[part][0], numbers[part]);
    STORAGE::unpack(read[part][1], added);
#pragma unroll
    for (int i = 0; i < NUMBERS; ++i) numbers[part][i] += added[i];
    const uint4 rounded = STORAGE::pack(numbers[part]);
    if (STORE_SUM) states[vector] = rounded;
    STORAGE::unpack(rounded, numbers[part]);
#pragma unroll
    for (int i = 0; i < NUMBERS; ++i) sum += numbers[part][i];
  }
  const float mean = warp_sum(sum) / WIDTH;

  float squares = 0.0f;
#pragma unroll
  for (int part = 0; part < VECTORS_PER_LANE; ++part) {
    if (part * WARP + lane >= VECTORS) continue;
#pragma unroll
    for (int i = 0; i < NUMBERS; ++i) {
      numbers[part][i] -= mean;
      squares += numbers[part][i] * numbers[part][i];
    }
  }
  const float scale = rsqrtf(warp_sum(squares) / WIDTH + EPS);

#pragma unroll
  for (int part = 0; part < VECTORS_PER_LANE; ++part) {
    const int vector = part * WARP + lane;
    if (vector >= VECTORS) continue;
    float weights[NUMBERS], biases[NUMBERS];
    STORAGE::unpack(weight[vector], weights);
    STORAGE::unpack(bias[vector], biases);
#pragma unroll
    for (int i = 0; i < NUMBERS; ++i) numbers[part][i] = numbers[part][i] * scale * weights[i] + biases[i];
    normed[vector] = NORM::pack(numbers[part]);
  }
}

// Pre-norm: stores `states + delta` in `states`, and its norm in `normed`.
extern "C" __global__ void __launch_bounds__(ROWS_PER_BLOCK* WARP)
    pre_norm(uint4* states, const uint4* delta, const uint4* weight, const uint4* bias, void* normed, long long rows) {
  add_norm<true, STORAGE>(states, delta, weight, bias, static_cast<uint4*>(normed), rows);
}

// Post-norm: stores only the norm of `states + delta`, in `normed`, which may equal `states`.
extern "C" __global__ void __launch_bounds__(ROWS_PER_BLOCK* WARP)
    post_norm(uint4* states, const uint4* delta, const uint4* weight, const uint4* bias, void* normed, long long rows) {
  add_norm<false, STORAGE>(states, delta, weight, bias, static_cast<uint4*>(normed), rows);
}

#if FP8_NORMS
// As `pre_norm`, with the norm in FP8.
extern "C" __global__ void __launch_bounds__(ROWS_PER_BLOCK* WARP)
    pre_norm_fp8(uint4* states, const uint4* delta, const uint4* weight, const uint4* bias, void* normed,
                 long long rows) {
  static_assert(NUMBERS == Half::NUMBERS, "a vector in FP8 has as many numbers as one of Half");
  add_norm<true, Fp8>(states, delta, weight, bias, static_cast<uint2*>(normed), rows);
}
#endif
