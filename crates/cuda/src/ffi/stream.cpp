// C functions for streams, events and graphs of LibTorch's CUDA library.
//
// LibTorch's symbols stay undefined in the shared library. The program opens it after
// libtorch_cuda.so, so the program also runs on machines without CUDA.
//
// A function that can fail returns non-zero. blip_last_error then has the reason.

#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <memory>

#include "guarded.h"

namespace {

c10::cuda::CUDAStream current_stream(int device) {
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device));
}

// A stream of LibTorch's pool that a thread can make its current one.
struct PoolStream {
  c10::cuda::CUDAStream stream;
  c10::cuda::CUDAStream previous;
  c10::DeviceIndex previous_device = 0;

  PoolStream(int device, bool is_high_priority)
      : stream(c10::cuda::getStreamFromPool(is_high_priority, static_cast<c10::DeviceIndex>(device))),
        previous(current_stream(device)) {}

  void enter() {
    previous = c10::cuda::getCurrentCUDAStream(stream.device_index());
    // Parts of LibTorch use the current stream of the current device.
    previous_device = c10::cuda::ExchangeDevice(stream.device_index());
    c10::cuda::setCurrentCUDAStream(stream);
  }

  void leave() {
    c10::cuda::setCurrentCUDAStream(previous);
    c10::cuda::ExchangeDevice(previous_device);
  }
};

// A graph, and whether a capture has begun.
struct CapturedGraph {
  at::cuda::CUDAGraph graph;
  bool has_begun = false;

  // From the begin of a capture to its end, LibTorch's allocator refers to the graph. It still does
  // after a capture that does not begin or end properly.
  bool is_referenced() {
    if (!has_begun) return false;
    try {
      graph.pool();  // fails before the end
      return false;
    } catch (const std::exception&) {
      return true;
    }
  }
};

}  // namespace

extern "C" {

const char* blip_last_error() { return last_error.c_str(); }

int blip_current_stream(int device, void** stream) {
  return guarded([&] { *stream = current_stream(device).stream(); });
}

int blip_synchronize(int device) {
  return guarded([&] { current_stream(device).synchronize(); });
}

// LibTorch has a pool of 32 streams for each priority, and gives the same stream again after 32
// calls. Captures have the pool of high priority for themselves, so that no work of another engine
// gets into a capture. Graphs keep its priority, so small batches go before large ones. Copies and
// engines share the other pool. Two users of a stream wait for each other, without harm.
int blip_copy_stream_new(int device, PoolStream** stream) {
  return guarded([&] { *stream = new PoolStream(device, false); });
}

int blip_capture_stream_new(int device, PoolStream** stream) {
  return guarded([&] { *stream = new PoolStream(device, true); });
}

// Takes a stream for the rest of the thread's life, unless the thread has one.
int blip_use_engine_stream(int device) {
  return guarded([&] {
    if (current_stream(device).stream() != nullptr) return;
    const auto index = static_cast<c10::DeviceIndex>(device);
    c10::cuda::setCurrentCUDAStream(c10::cuda::getStreamFromPool(false, index));
  });
}

void blip_stream_free(PoolStream* stream) {
  guarded([&] { delete stream; });
}

int blip_stream_enter(PoolStream* stream) {
  return guarded([&] { stream->enter(); });
}

int blip_stream_leave(PoolStream* stream) {
  return guarded([&] { stream->leave(); });
}

int blip_event_new(int device, c10::Event** event) {
  return guarded([&] {
    // Events with the default flag have no time.
    auto recorded = std::make_unique<c10::Event>(c10::DeviceType::CUDA, c10::EventFlag::BACKEND_DEFAULT);
    recorded->record(current_stream(device).unwrap());
    *event = recorded.release();
  });
}

void blip_event_free(c10::Event* event) {
  guarded([&] { delete event; });
}

// Waits until the device reaches `to`.
int blip_event_milliseconds(const c10::Event* from, const c10::Event* to, double* milliseconds) {
  return guarded([&] {
    to->synchronize();
    *milliseconds = from->elapsedTime(*to);
  });
}

int blip_graph_new(int, CapturedGraph** graph) {
  return guarded([&] { *graph = new CapturedGraph; });
}

// A graph to which the allocator refers is never freed.
void blip_graph_free(CapturedGraph* graph) {
  guarded([&] {
    if (!graph->is_referenced()) delete graph;
  });
}

// In thread-local mode the work of other threads does not invalidate the capture.
int blip_graph_begin(CapturedGraph* graph) {
  return guarded([&] {
    graph->has_begun = true;
    graph->graph.capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
  });
}

int blip_graph_end(CapturedGraph* graph) {
  return guarded([&] { graph->graph.capture_end(); });
}

int blip_graph_replay(CapturedGraph* graph) {
  return guarded([&] { graph->graph.replay(); });
}
}
