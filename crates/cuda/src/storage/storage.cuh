// The number formats of tensors in memory. The kernels compute in f32.

struct Float {
  using Number = float;
  using Vector = uint4;
  static constexpr int NUMBERS = 4;  // in sixteen bytes

  __device__ static float load(float number) { return number; }

  __device__ static void unpack(uint4 bits, float* numbers) {
    numbers[0] = __uint_as_float(bits.x);
    numbers[1] = __uint_as_float(bits.y);
    numbers[2] = __uint_as_float(bits.z);
    numbers[3] = __uint_as_float(bits.w);
  }

  __device__ static uint4 pack(const float* numbers) {
    return {__float_as_uint(numbers[0]), __float_as_uint(numbers[1]), __float_as_uint(numbers[2]),
            __float_as_uint(numbers[3])};
  }
};

struct Half {
  using Number = unsigned short;
  using Vector = uint4;
  static constexpr int NUMBERS = 8;

  __device__ static float load(unsigned short bits) { return half_to_float(bits); }

  __device__ static void unpack(uint4 bits, float* numbers) {
    const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
    for (int word = 0; word < 4; ++word) {
      numbers[2 * word] = half_to_float(static_cast<unsigned short>(words[word] & 0xffffu));
      numbers[2 * word + 1] = half_to_float(static_cast<unsigned short>(words[word] >> 16));
    }
  }

  __device__ static unsigned pair(const float* numbers) {
    return float_to_half(numbers[0]) | static_cast<unsigned>(float_to_half(numbers[1])) << 16;
  }

  __device__ static uint4 pack(const float* numbers) {
    return {pair(numbers), pair(numbers + 2), pair(numbers + 4), pair(numbers + 6)};
  }
};

// float8_e4m3, which kernels only write. It stands for as many numbers as sixteen bytes of Half.
struct Fp8 {
  using Vector = uint2;

  __device__ static unsigned four(const float* numbers) {
    return floats_to_fp8(numbers[0], numbers[1]) |
           static_cast<unsigned>(floats_to_fp8(numbers[2], numbers[3])) << 16;
  }

  __device__ static uint2 pack(const float* numbers) { return {four(numbers), four(numbers + 4)}; }
};
