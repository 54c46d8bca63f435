// The part of the NVIDIA driver that cudarc calls, with one device in the memory of the host.
//
// A cubin is "\x7fELF" and the handle of a library, compiled from add_norm.cpp, choose.cpp or
// quantize.cpp.

#include <dlfcn.h>

#include <cstring>
#include <string>

namespace {

// Error numbers of cuda.h.
constexpr int SUCCESS = 0, INVALID_VALUE = 1, INVALID_DEVICE = 101, INVALID_IMAGE = 200, NOT_FOUND = 500,
              LAUNCH_FAILED = 719;

struct Function {
  void* kernel;
  bool (*launch)(void* kernel, unsigned blocks, unsigned threads, void** parameters);
  int result;  // the parameter with its address
};

std::string failing_call;
int device_context;
thread_local void* current_context = nullptr;
void* last_stream = nullptr;

}  // namespace

extern "C" {

// "launch" fails, "result" changes a bit of the result.
void fake_fail(const char* call) { failing_call = call; }

void* fake_last_stream() { return last_stream; }

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
  *context = current_context;
  return SUCCESS;
}

int cuCtxSetCurrent(void* context) {
  current_context = context;
  return SUCCESS;
}

int cuModuleLoadData(void** module, const char* image) {
  if (std::strncmp(image, "\x7f" "ELF", 4)) return INVALID_IMAGE;
  std::memcpy(module, image + 4, sizeof *module);
  return SUCCESS;
}

int cuModuleGetFunction(void** function, void* module, const char* name) {
  void* kernel = dlsym(module, name);
  if (kernel == nullptr) return NOT_FOUND;
  *function = new Function{kernel, reinterpret_cast<decltype(Function::launch)>(dlsym(module, "fake_launch")),
                           *static_cast<const int*>(dlsym(module, "fake_result"))};
  return SUCCESS;
}

int cuLaunchKernel(const Function* function, unsigned blocks, unsigned blocks_y, unsigned blocks_z, unsigned threads,
                   unsigned threads_y, unsigned threads_z, unsigned shared_bytes, void* stream, void** parameters,
                   void** extra) {
  if (failing_call == "launch") return LAUNCH_FAILED;
  const bool flat = blocks_y == 1 && blocks_z == 1 && threads_y == 1 && threads_z == 1;
  if (!flat || blocks == 0 || shared_bytes || extra || current_context != &device_context) return INVALID_VALUE;
  last_stream = stream;
  const bool defined = function->launch(function->kernel, blocks, threads, parameters);
  if (failing_call == "result") **static_cast<unsigned**>(parameters[function->result]) ^= 0x00400040u;
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
