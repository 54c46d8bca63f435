// Rounding of f16 to FP8, with or without GELU, in one pass over memory.
//
// The compiler defines:
//   THREADS  threads in a block, each of which computes sixteen numbers
//
// All arithmetic is in f32. The result of GELU is not rounded to f16 before.

struct Identity {
  __device__ static float of(float number) { return number; }
};

// The exact form.
struct Gelu {
  __device__ static float of(float number) {
    return 0.5f * number * (1.0f + erff(number * 0.70710678f));
  }
};

// `vectors` is the number of vectors of `output`. One has sixteen numbers, two vectors of `input`.
template <typename FUNCTION>
__device__ inline void quantize_vectors(const uint4* __restrict__ input, uint4* output,
                                        long long vectors) {
  const long long vector = static_cast<long long>(blockIdx.x) * THREADS + threadIdx.x;
  if (vector >= vectors) return;
  float numbers[2 * Half::NUMBERS];
  Half::unpack(input[2 * vector], numbers);
  Half::unpack(input[2 * vector + 1], numbers + Half::NUMBERS);
#pragma unroll
  for (float& number : numbers) number = FUNCTION::of(number);
  const uint2 low = Fp8::pack(numbers), high = Fp8::pack(numbers + Half::NUMBERS);
  output[vector] = {low.x, low.y, high.x, high.y};
}

extern "C" __global__ void __launch_bounds__(THREADS)
    quantize(const uint4* input, uint4* output, long long vectors) {
  quantize_vectors<Identity>(input, output, vectors);
}

extern "C" __global__ void __launch_bounds__(THREADS)
    gelu_quantize(const uint4* input, uint4* output, long long vectors) {
  quantize_vectors<Gelu>(input, output, vectors);
}
