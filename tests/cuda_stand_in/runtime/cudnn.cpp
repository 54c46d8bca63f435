// libcudnn.so.9: the graph interface as far as cuDNN's front end in LibTorch needs it.
//
// A descriptor returns what was set in it. A plan that is finalized is recorded: the real cuDNN
// compiles a kernel for it, which takes 0.3 s and more.
//
// The wheels of the CPU build have no headers of cuDNN. The numbers here are those of its
// reference manual.

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <map>
#include <vector>

#include "trace.h"

namespace {

constexpr int kSuccess = 0;
constexpr int kExecutionFailed = 5000;

// cudnnBackendDescriptorType_t.
constexpr int kExecutionPlan = 5;

// cudnnBackendAttributeType_t.
constexpr int kDescriptorType = 15;

// cudnnBackendAttributeName_t.
constexpr int kHeuristicResults = 202;
constexpr int kConfigurationEngine = 300;
constexpr int kConfigurationWorkspace = 303;
constexpr int kPlanWorkspace = 402;
constexpr int kEngineOperationGraph = 1300;
constexpr int kEngineNumericalNote = 1303;
constexpr int kEngineBehaviorNote = 1305;

int64_t bytes_of(int type) {
  switch (type) {
    case 2: case 24: return 1;            // boolean, character
    case 0: case 3: case 5: case 6: case kDescriptorType: return 8;  // handle, int64, double, pointer
    case 26: return 16;                   // fraction
    default: return 4;                    // float, int32, enumerations
  }
}

struct Handle {
  void* stream = nullptr;
};

struct Attribute {
  int64_t count = 0;
  std::vector<char> bytes;
};

struct Descriptor {
  int type;
  std::map<int, Attribute> attributes;
};

}  // namespace

extern "C" {

size_t cudnnGetVersion() { return 91900; }
size_t cudnnGetCudartVersion() { return 13000; }
int cudnnGetProperty(int property, int* value) {
  *value = property == 0 ? 9 : property == 1 ? 19 : 0;
  return kSuccess;
}
const char* cudnnGetErrorString(int) { return "error of the stand-in"; }
void cudnnGetLastErrorString(char* text, size_t length) { std::snprintf(text, length, "error of the stand-in"); }
int cudnnCreate(Handle** handle) {
  *handle = new Handle;
  return kSuccess;
}
int cudnnDestroy(Handle* handle) {
  delete handle;
  return kSuccess;
}
int cudnnSetStream(Handle* handle, void* stream) {
  handle->stream = stream;
  return kSuccess;
}
int cudnnGetStream(Handle* handle, void** stream) {
  *stream = handle->stream;
  return kSuccess;
}

int cudnnBackendCreateDescriptor(int type, Descriptor** descriptor) {
  *descriptor = new Descriptor{type};
  return kSuccess;
}
// The front end destroys descriptors that others still refer to.
int cudnnBackendDestroyDescriptor(Descriptor*) { return kSuccess; }
int cudnnBackendFinalize(Descriptor* descriptor) {
  if (descriptor->type == kExecutionPlan && stand_in_event("plan", "cudnn", "") != 0) {
    return kExecutionFailed;
  }
  return kSuccess;
}
int cudnnBackendSetAttribute(Descriptor* descriptor, int name, int type, int64_t count, const void* values) {
  const auto* bytes = static_cast<const char*>(values);
  descriptor->attributes[name] = {count, std::vector<char>(bytes, bytes + count * bytes_of(type))};
  return kSuccess;
}
int cudnnBackendGetAttribute(Descriptor* descriptor, int name, int type, int64_t requested, int64_t* count,
                             void* values) {
  const auto set_count = [&](int64_t found) {
    if (count != nullptr) {
      *count = found;
    }
  };
  const auto found = descriptor->attributes.find(name);
  if (found != descriptor->attributes.end()) {
    const auto& [stored, bytes] = found->second;
    set_count(stored);
    if (values != nullptr) {
      const auto length = std::min<size_t>(bytes.size(), std::min(requested, stored) * bytes_of(type));
      std::memcpy(values, bytes.data(), length);
    }
    return kSuccess;
  }
  switch (name) {
    // One result. The caller has created its descriptor.
    case kHeuristicResults:
    case kConfigurationEngine:
    case kEngineOperationGraph: set_count(1); return kSuccess;
    case kEngineNumericalNote:
    case kEngineBehaviorNote: set_count(0); return kSuccess;
    case kPlanWorkspace:
    case kConfigurationWorkspace:
    default:
      set_count(1);
      if (values != nullptr && requested > 0 && type != kDescriptorType) {
        std::memset(values, 0, static_cast<size_t>(bytes_of(type)));
      }
      return kSuccess;
  }
}
int cudnnBackendExecute(Handle* handle, Descriptor*, Descriptor*) {
  return stand_in_submit("kernel", "cudnn_attention", "", handle->stream) == 0 ? kSuccess : kExecutionFailed;
}
}
