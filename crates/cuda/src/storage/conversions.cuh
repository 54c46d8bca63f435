// Conversions between f32 and other number formats by PTX, since NVRTC has no cuda_fp16.h and
// cuda_fp8.h.

__device__ inline float half_to_float(unsigned short bits) {
  float number;
  asm("cvt.f32.f16 %0, %1;" : "=f"(number) : "h"(bits));
  return number;
}

__device__ inline unsigned short float_to_half(float number) {
  unsigned short bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(number));
  return bits;
}

// Returns two numbers in float8_e4m3, the first in the low byte. Numbers above 448 become 448. The
// instruction needs sm_89.
__device__ inline unsigned short floats_to_fp8(float low, float high) {
  unsigned short bits;
  asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(bits) : "f"(high), "f"(low));
  return bits;
}

