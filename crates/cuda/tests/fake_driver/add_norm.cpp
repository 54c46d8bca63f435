// The kernels of add_norm.cu for the host. The fake driver finds the functions by name.
#include "gpu.h"

#include "../../src/storage/storage.cuh"
#include "../../src/norm/add_norm.cu"

// The parameter with the address of the result.
extern "C" const int fake_result = 4;

// Takes the parameters of cuLaunchKernel. Returns false if a GPU would not run this launch.
extern "C" bool fake_launch(decltype(&pre_norm) kernel, unsigned blocks, unsigned threads, void** parameters) {
  uint4* tensors[5];
  for (int index = 0; index < 5; ++index) tensors[index] = *static_cast<uint4**>(parameters[index]);
  const auto [states, delta, weight, bias, normed] = tensors;
  const auto rows = *static_cast<long long*>(parameters[5]);
  return threads == ROWS_PER_BLOCK * WARP &&
         gpu::launch(blocks, threads, [=] { kernel(states, delta, weight, bias, normed, rows); });
}
