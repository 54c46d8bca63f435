// A C face for what tch has no call for: streams beside the current one, events, and at::cuda::CUDAGraph.
//
// Built as a library of its own that leaves its LibTorch symbols open: it is opened only after
// libtorch_cuda.so, so that the program itself runs on machines that have no CUDA.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <exception>
#include <memory>
#include <string>

namespace {

thread_local std::string last_error;

template <typename Work>
int guarded(Work&& work) {
  try {
    work();
    return 0;
  } catch (const std::exception& error) {
    last_error = error.what();
  } catch (...) {
    last_error = "unknown C++ exception";
  }
  return 1;
}

// What `make` gives; null if it fails.
template <typename Made, typename Make>
Made* made(Make&& make) {
  std::unique_ptr<Made> result;
  guarded([&] { result = make(); });
  return result.release();
}

c10::cuda::CUDAStream current_stream(int device) {
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device));
}

// A stream of its own, which this thread's work can go to for a while.
struct SideStream {
  c10::cuda::CUDAStream own;
  c10::cuda::CUDAStream before;
  c10::DeviceIndex device_before = 0;

  explicit SideStream(int device)
      : own(c10::cuda::getStreamFromPool(false, static_cast<c10::DeviceIndex>(device))),
        before(current_stream(device)) {}

  void enter() {
    before = c10::cuda::getCurrentCUDAStream(own.device_index());
    // Some of LibTorch asks for the current stream of the current device.
    device_before = c10::cuda::ExchangeDevice(own.device_index());
    c10::cuda::setCurrentCUDAStream(own);
  }

  void leave() {
    c10::cuda::setCurrentCUDAStream(before);
    c10::cuda::ExchangeDevice(device_before);
  }
};

}  // namespace

extern "C" {

const char* blip_last_error() { return last_error.c_str(); }

// The stream that this thread's work on a device goes to now.
int blip_current_stream(int device, void** stream) {
  return guarded([&] { *stream = current_stream(device).stream(); });
}

// Waits until it has done all that it was given.
int blip_synchronize(int device) {
  return guarded([&] { current_stream(device).synchronize(); });
}

SideStream* blip_side_new(int device) {
  return made<SideStream>([&] { return std::make_unique<SideStream>(device); });
}

void blip_side_free(SideStream* side) {
  guarded([&] { delete side; });
}

int blip_side_enter(SideStream* side) {
  return guarded([&] { side->enter(); });
}

int blip_side_leave(SideStream* side) {
  return guarded([&] { side->leave(); });
}

// An event behind all that this thread has given the device to do.
c10::Event* blip_event_record(int device) {
  return made<c10::Event>([&] {
    // This flag, not the default one, is for events that tell the time.
    auto event = std::make_unique<c10::Event>(c10::DeviceType::CUDA, c10::EventFlag::BACKEND_DEFAULT);
    event->record(current_stream(device).unwrap());
    return event;
  });
}

void blip_event_free(c10::Event* event) {
  guarded([&] { delete event; });
}

// Waits until the device has come to `to`; then says how long it took to come there from `from`.
int blip_event_milliseconds(const c10::Event* from, const c10::Event* to, double* milliseconds) {
  return guarded([&] {
    to->synchronize();
    *milliseconds = from->elapsedTime(*to);
  });
}

at::cuda::CUDAGraph* blip_graph_new() {
  return made<at::cuda::CUDAGraph>([] { return std::make_unique<at::cuda::CUDAGraph>(); });
}

void blip_graph_free(at::cuda::CUDAGraph* graph) {
  guarded([&] { delete graph; });
}

// What follows on the current stream is recorded and not run; that may not be the default one. Thread-local mode: what other
// threads do meanwhile does not spoil the capture.
int blip_graph_begin(at::cuda::CUDAGraph* graph) {
  return guarded([&] { graph->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal); });
}

int blip_graph_end(at::cuda::CUDAGraph* graph) {
  return guarded([&] { graph->capture_end(); });
}

int blip_graph_replay(at::cuda::CUDAGraph* graph) {
  return guarded([&] { graph->replay(); });
}
}
