#include "stream.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <set>
#include <string>

#include "memory.h"

namespace stand_in {

namespace {

constexpr int kMaxDevices = 16;

long thread_id() {
  static thread_local const long id = ::syscall(SYS_gettid);
  return id;
}

thread_local int selected_device = 0;
thread_local cudaError_t last_error = cudaSuccess;
thread_local cudaStreamCaptureMode thread_mode = cudaStreamCaptureModeGlobal;

// Never freed: LibTorch calls the runtime until the process ends.
struct Streams {
  std::array<Stream*, kMaxDevices> defaults{};
  std::vector<Stream*> created;
  std::set<Capture*> captures;
  unsigned long long captures_begun = 0;

  Streams() {
    for (int device = 0; device < kMaxDevices; ++device) {
      defaults[device] = new Stream{0, device};
    }
  }
};

Streams& streams() {
  static auto* all = new Streams;
  return *all;
}

// Returns whether `capture` forbids an unsafe call of this thread.
bool forbids(const Capture& capture) {
  if (thread_mode == cudaStreamCaptureModeRelaxed || capture.mode == cudaStreamCaptureModeRelaxed) {
    return false;
  }
  const bool is_both_global =
      capture.mode == cudaStreamCaptureModeGlobal && thread_mode == cudaStreamCaptureModeGlobal;
  return capture.thread == thread_id() || is_both_global;
}

}  // namespace

bool Position::is_reached() const { return stream == nullptr || stream->done >= count; }

std::recursive_mutex& runtime_lock() {
  static auto* lock = new std::recursive_mutex;
  return *lock;
}

int device_count() {
  static const int count = [] {
    const char* text = std::getenv("CUDA_STAND_IN_DEVICES");
    return text == nullptr ? 1 : std::min(std::atoi(text), kMaxDevices);
  }();
  return count;
}

int current_device() { return selected_device; }

cudaError_t select_device(int device) {
  if (device < 0 || device >= device_count()) {
    return fail(cudaErrorInvalidDevice);
  }
  selected_device = device;
  return cudaSuccess;
}

cudaError_t fail(cudaError_t error) {
  last_error = error;
  return error;
}

cudaError_t take_last_error() { return std::exchange(last_error, cudaSuccess); }

cudaError_t peek_last_error() { return last_error; }

Stream* default_stream(int device) { return streams().defaults[device]; }

Stream* find_stream(void* handle) {
  const bool is_default =
      handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread;
  return is_default ? default_stream(selected_device) : static_cast<Stream*>(handle);
}

Stream* new_stream(int priority) {
  auto& created = streams().created;
  created.push_back(new Stream{static_cast<int>(created.size()) + 1, selected_device, priority});
  record("stream", "created", std::to_string(priority).c_str(), created.back()->place());
  return created.back();
}

cudaError_t submit(Stream* stream, const char* kind, const char* name, const char* detail) {
  if (const int code = injected_failure(kind)) {
    return fail(static_cast<cudaError_t>(code));
  }
  record(kind, name, detail, stream->place());
  if (stream->device != selected_device) {
    violation("work on a stream of a device that is not the current one", name);
  }
  const bool is_default = stream == default_stream(stream->device);
  for (const Capture* capture : streams().captures) {
    if (is_default && capture->thread == thread_id()) {
      violation("work on the default stream while this thread captures", name);
    }
  }
  if (stream->capture == nullptr) {
    ++stream->submitted;
  } else {
    if (stream->capture->thread != thread_id()) {
      violation("work of another thread in a capture", name);
    }
    ++stream->capture->graph->nodes;
  }
  return cudaSuccess;
}

void complete(const Position& position) {
  Stream* stream = position.stream;
  if (stream == nullptr || position.is_reached()) {
    return;
  }
  stream->done = position.count;
  const auto waits = std::exchange(stream->waits, {});
  for (const Position& other : waits) {
    complete(other);
  }
  complete_copies(stream);
}

void complete_all(int device) {
  complete({default_stream(device), default_stream(device)->submitted});
  for (Stream* stream : streams().created) {
    if (stream->device == device) {
      complete({stream, stream->submitted});
    }
  }
}

cudaError_t check_capture_allows(const char* call) {
  for (Capture* capture : streams().captures) {
    if (forbids(*capture)) {
      violation("call that a capture forbids", call);
      capture->is_invalid = true;
      return fail(cudaErrorStreamCaptureUnsupported);
    }
  }
  return cudaSuccess;
}

cudaError_t check_capture_allows_wait(const char* call, Stream* stream) {
  if (stream != nullptr && stream->capture != nullptr) {
    violation("wait for a stream that captures", call);
    stream->capture->is_invalid = true;
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  return check_capture_allows(call);
}

cudaError_t wait(const char* call, const Place& place) {
  if (const int code = injected_failure("wait")) {
    return fail(static_cast<cudaError_t>(code));
  }
  record("wait", call, "", place);
  return cudaSuccess;
}

cudaError_t begin_capture(Stream* stream, cudaStreamCaptureMode mode) {
  if (stream == default_stream(stream->device) || stream->capture != nullptr) {
    violation("capture of the default stream or of a stream that captures");
    return fail(cudaErrorStreamCaptureUnsupported);
  }
  stream->capture = new Capture{++streams().captures_begun, thread_id(), mode};
  streams().captures.insert(stream->capture);
  record("capture_begin", "", "", stream->place());
  return cudaSuccess;
}

cudaError_t end_capture(Stream* stream, Graph** graph) {
  *graph = nullptr;
  Capture* capture = std::exchange(stream->capture, nullptr);
  if (capture == nullptr) {
    violation("end of a capture that has not begun");
    return fail(cudaErrorIllegalState);
  }
  streams().captures.erase(capture);
  if (const int code = injected_failure("capture_end")) {
    return fail(static_cast<cudaError_t>(code));
  }
  const std::string nodes = std::to_string(capture->graph->nodes);
  record("capture_end", capture->is_invalid ? "invalid" : "valid", nodes.c_str(), stream->place());
  if (capture->is_invalid) {
    return fail(cudaErrorStreamCaptureInvalidated);
  }
  *graph = capture->graph;
  return cudaSuccess;
}

cudaStreamCaptureStatus capture_status(const Stream* stream) {
  if (stream->capture == nullptr) {
    return cudaStreamCaptureStatusNone;
  }
  return stream->capture->is_invalid ? cudaStreamCaptureStatusInvalidated : cudaStreamCaptureStatusActive;
}

void exchange_capture_mode(cudaStreamCaptureMode* mode) { std::swap(*mode, thread_mode); }

}  // namespace stand_in

extern "C" int stand_in_submit(const char* kind, const char* name, const char* detail, void* stream) {
  const stand_in::Lock lock(stand_in::runtime_lock());
  return stand_in::submit(stand_in::find_stream(stream), kind, name, detail);
}
