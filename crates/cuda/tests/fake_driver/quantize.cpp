// The kernels of quantize.cu for the host. The fake driver finds the functions by name.
#include "gpu.h"

#include "../../src/storage/storage.cuh"
#include "../../src/fp8/quantize.cu"

// The parameter with the address of the result.
extern "C" const int fake_result = 1;

// Takes the parameters of cuLaunchKernel. Returns false if a GPU would not run this launch.
extern "C" bool fake_launch(decltype(&quantize) kernel, unsigned blocks, unsigned threads, void** parameters) {
  const auto input = *static_cast<uint4**>(parameters[0]);
  const auto output = *static_cast<uint4**>(parameters[1]);
  const auto vectors = *static_cast<long long*>(parameters[2]);
  return threads == THREADS && gpu::launch(blocks, threads, [=] { kernel(input, output, vectors); });
}
