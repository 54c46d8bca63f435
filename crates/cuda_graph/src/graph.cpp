// A C face for what tch has no call for: at::cuda::CUDAGraph, the stream that work goes to, and events on it.
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

struct Graph {
  at::cuda::CUDAGraph graph;
  c10::cuda::CUDAStream side;
  c10::cuda::CUDAStream before;

  explicit Graph(c10::DeviceIndex device)
      : side(c10::cuda::getStreamFromPool(false, device)),
        before(c10::cuda::getCurrentCUDAStream(device)) {}
};

}  // namespace

extern "C" {

const char* blip_graph_error() { return last_error.c_str(); }

Graph* blip_graph_new(int device) {
  Graph* graph = nullptr;
  guarded([&] { graph = new Graph(static_cast<c10::DeviceIndex>(device)); });
  return graph;
}

void blip_graph_free(Graph* graph) {
  guarded([&] { delete graph; });
}

// The stream that this thread's work on a device goes to now: a graph's own while it is captured.
int blip_graph_current_stream(int device, void** stream) {
  return guarded([&] {
    *stream = c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
  });
}

// Moves this thread's work to the graph's own stream: the default stream cannot be captured.
int blip_graph_enter(Graph* graph) {
  return guarded([&] {
    c10::cuda::device_synchronize();
    c10::cuda::setCurrentCUDAStream(graph->side);
  });
}

int blip_graph_leave(Graph* graph) {
  return guarded([&] {
    c10::cuda::setCurrentCUDAStream(graph->before);
    c10::cuda::device_synchronize();
  });
}

// Thread-local mode: what other threads do meanwhile does not spoil the capture.
int blip_graph_begin(Graph* graph) {
  return guarded([&] {
    c10::cuda::device_synchronize();
    graph->graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  });
}

int blip_graph_end(Graph* graph) {
  return guarded([&] { graph->graph.capture_end(); });
}

int blip_graph_replay(Graph* graph) {
  return guarded([&] { graph->graph.replay(); });
}

// An event behind all that this thread has given the device to do.
c10::Event* blip_event_record(int device) {
  c10::Event* recorded = nullptr;
  guarded([&] {
    // This flag, not the default one, is for events that tell the time.
    auto event = std::make_unique<c10::Event>(c10::DeviceType::CUDA, c10::EventFlag::BACKEND_DEFAULT);
    event->record(c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).unwrap());
    recorded = event.release();
  });
  return recorded;
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
}
