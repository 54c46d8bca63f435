// The best token of each row of logits, in one kernel.
//
// The compiler defines:
//   STORAGE  Half or Float, the number format of the logits
//   THREADS  threads of a block, a power of two. A block computes one row.
//
// All arithmetic is in f32. Among equal logits, the one with the lowest token is the best, as in
// LibTorch. A NaN is never the best logit, but makes the sum of the exponentials NaN.

// The two largest logits of a part of a row, and the token of the largest.
struct Best {
  float first, second;
  int token;
};

__device__ inline Best combined(Best one, Best other) {
  const bool is_first = one.first > other.first || (one.first == other.first && one.token <= other.token);
  const Best best = is_first ? one : other;
  return {best.first, fmaxf(best.second, is_first ? other.first : one.first), best.token};
}

__device__ inline float combined(float one, float other) { return one + other; }

// Returns the combined value of all threads of the block, to each of them.
template <typename Value>
__device__ inline Value reduce(Value value, Value* shared) {
  shared[threadIdx.x] = value;
  for (unsigned left = THREADS / 2; left > 0; left /= 2) {
    __syncthreads();
    if (threadIdx.x < left) shared[threadIdx.x] = combined(shared[threadIdx.x], shared[threadIdx.x + left]);
  }
  __syncthreads();
  return shared[0];
}

// Stores best logit, second-best logit, token and log of the summed exponentials of each row.
extern "C" __global__ void __launch_bounds__(THREADS)
    choose(const STORAGE::Number* __restrict__ logits, float* table, long long width) {
  __shared__ Best bests[THREADS];
  __shared__ float sums[THREADS];
  logits += blockIdx.x * width;

  const float lowest = -__uint_as_float(0x7f800000u);  // -infinity
  Best best = {lowest, lowest, 0};
#pragma unroll 4
  for (long long index = threadIdx.x; index < width; index += THREADS) {
    const float logit = STORAGE::load(logits[index]);
    if (logit > best.first) {
      best = {logit, best.first, static_cast<int>(index)};
    } else if (logit > best.second) {
      best.second = logit;
    }
  }
  best = reduce(best, bests);

  float sum = 0.0f;
#pragma unroll 4
  for (long long index = threadIdx.x; index < width; index += THREADS) {
    sum += expf(STORAGE::load(logits[index]) - best.first);
  }
  sum = reduce(sum, sums);

  if (threadIdx.x > 0) return;
  table += blockIdx.x * 4;
  table[0] = best.first;
  table[1] = best.second;
  table[2] = static_cast<float>(best.token);
  table[3] = best.first + logf(sum);
}
