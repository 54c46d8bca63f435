// The kernel of choose.cu for the host. The fake driver finds the functions by name.
#include "gpu.h"

#include "../../src/storage/storage.cuh"
#include "../../src/choice/choose.cu"

// The parameter with the address of the result.
extern "C" const int fake_result = 1;

// Takes the parameters of cuLaunchKernel. Returns false if a GPU would not run this launch.
extern "C" bool fake_launch(decltype(&choose) kernel, unsigned blocks, unsigned threads, void** parameters) {
  const auto logits = *static_cast<STORAGE::Number**>(parameters[0]);
  const auto table = *static_cast<float**>(parameters[1]);
  const auto width = *static_cast<long long*>(parameters[2]);
  return threads == THREADS && gpu::launch(blocks, threads, [=] { kernel(logits, table, width); });
}
