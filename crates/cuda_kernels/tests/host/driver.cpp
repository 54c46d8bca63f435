// A driver that runs the kernels of add_norm.cu on the host, with as much of CUDA's as cudarc asks for: what is launched goes the
// whole way from tensors to numbers. One device, whose memory is the host's.
#include "warp.h"

#include <string>

#include "../../src/add_norm.cu"

namespace {

// Error numbers of cuda.h.
constexpr int SUCCESS = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_IMAGE = 200, NOT_FOUND = 500, LAUNCH_FAILED = 719;

enum Fault { NONE, REFUSES_TO_LAUNCH, COMPUTES_SOMETHING_ELSE };
Fault fault = NONE;

int device_context, loaded_module;
thread_local void* current = nullptr;

using Kernel = decltype(&pre_norm);

template <typename Type>
Type argument(void** parameters, int index) {
  return *static_cast<Type*>(parameters[index]);
}

}  // namespace

extern "C" {

void pretend_fault(int number) { fault = static_cast<Fault>(number); }

int cuInit(unsigned) { return SUCCESS; }

int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return ordinal == 0 ? SUCCESS : INVALID_DEVICE;
}

int cuDevicePrimaryCtxRetain(void** context, int) {
  *context = &device_context;
  return SUCCESS;
}

int cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }

int cuDeviceGetAttribute(int* value, int attribute, int) {
  constexpr int MAJOR = 75;
  *value = attribute == MAJOR ? 9 : 0;
  return SUCCESS;
}

int cuCtxGetCurrent(void** context) {
  *context = current;
  return SUCCESS;
}

int cuCtxSetCurrent(void* context) {
  current = context;
  return SUCCESS;
}

int cuModuleLoadData(void** module, const void* image) {
  *module = &loaded_module;
  return std::string(static_cast<const char*>(image), 4) == "\x7f" "ELF" ? SUCCESS : INVALID_IMAGE;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
  const std::string asked = name;
  if (module != &loaded_module || (asked != "pre_norm" && asked != "post_norm")) return NOT_FOUND;
  *function = reinterpret_cast<void*>(asked == "pre_norm" ? pre_norm : post_norm);
  return SUCCESS;
}

int cuLaunchKernel(void* function, unsigned blocks, unsigned blocks_y, unsigned blocks_z, unsigned threads, unsigned threads_y,
                   unsigned threads_z, unsigned shared_bytes, void* stream, void** parameters, void** extra) {
  if (fault == REFUSES_TO_LAUNCH) return LAUNCH_FAILED;
  const bool flat = blocks_y == 1 && blocks_z == 1 && threads_y == 1 && threads_z == 1;
  if (!flat || blocks == 0 || threads != ROWS_PER_BLOCK * WARP || shared_bytes || stream || extra) return INVALID_VALUE;
  if (current != &device_context) return INVALID_VALUE;
  const auto kernel = reinterpret_cast<Kernel>(function);
  const auto states = argument<uint4*>(parameters, 0), normed = argument<uint4*>(parameters, 4);
  const auto delta = argument<const uint4*>(parameters, 1), weight = argument<const uint4*>(parameters, 2);
  const auto bias = argument<const uint4*>(parameters, 3);
  const auto rows = argument<long long>(parameters, 5);
  const bool defined =
      warp::launch(blocks, threads, [=] { kernel(states, delta, weight, bias, normed, rows); });
  if (fault == COMPUTES_SOMETHING_ELSE) normed[VECTORS].x ^= 0x00400040u;
  return defined ? SUCCESS : LAUNCH_FAILED;
}

int cuGetErrorString(int error, const char** text) {
  *text = error == INVALID_DEVICE  ? "invalid device ordinal"
          : error == INVALID_IMAGE ? "device kernel image is invalid"
          : error == NOT_FOUND     ? "named symbol not found"
          : error == LAUNCH_FAILED ? "unspecified launch failure"
                                   : "invalid argument";
  return SUCCESS;
}
}
