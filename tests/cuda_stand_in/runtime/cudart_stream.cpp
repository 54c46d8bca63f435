// libcudart.so.13: streams, events, captures and graphs.

#include <cuda_runtime_api.h>

#include <string>

#include "stream.h"

using namespace stand_in;

extern "C" {

// Streams.

cudaError_t cudaStreamCreateWithPriority(cudaStream_t* handle, unsigned, int priority) {
  const Lock lock(runtime_lock());
  *handle = reinterpret_cast<cudaStream_t>(new_stream(priority));
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithFlags(cudaStream_t* handle, unsigned flags) {
  return cudaStreamCreateWithPriority(handle, flags, 0);
}
cudaError_t cudaStreamCreate(cudaStream_t* handle) { return cudaStreamCreateWithPriority(handle, 0, 0); }
// Events refer to streams, so streams live as long as the process.
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamGetPriority(cudaStream_t handle, int* priority) {
  const Lock lock(runtime_lock());
  *priority = find_stream(handle)->priority;
  return cudaSuccess;
}
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  const Lock lock(runtime_lock());
  Stream* stream = find_stream(handle);
  if (const auto error = check_capture_allows_wait("cudaStreamQuery", stream)) {
    return error;
  }
  return stream->done >= stream->submitted ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  const Lock lock(runtime_lock());
  Stream* stream = find_stream(handle);
  if (const auto error = check_capture_allows_wait("cudaStreamSynchronize", stream)) {
    return error;
  }
  if (const auto error = wait("cudaStreamSynchronize", stream->place())) {
    return error;
  }
  complete({stream, stream->submitted});
  return cudaSuccess;
}
cudaError_t cudaDeviceSynchronize() {
  const Lock lock(runtime_lock());
  if (const auto error = check_capture_allows("cudaDeviceSynchronize")) {
    return error;
  }
  if (const auto error = wait("cudaDeviceSynchronize", {current_device()})) {
    return error;
  }
  complete_all(current_device());
  return cudaSuccess;
}
cudaError_t cudaStreamWaitEvent(cudaStream_t handle, cudaEvent_t event_handle, unsigned) {
  const Lock lock(runtime_lock());
  Stream* stream = find_stream(handle);
  const auto* event = reinterpret_cast<Event*>(event_handle);
  if (event->is_recorded && stream->capture == nullptr) {
    stream->waits.push_back(event->position);
  }
  return cudaSuccess;
}
cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t function, void* data, unsigned) {
  function(stream, cudaSuccess, data);
  return cudaSuccess;
}
cudaError_t cudaLaunchHostFunc(cudaStream_t, cudaHostFn_t function, void* data) {
  function(data);
  return cudaSuccess;
}

// Events.

cudaError_t cudaEventCreateWithFlags(cudaEvent_t* handle, unsigned flags) {
  *handle = reinterpret_cast<cudaEvent_t>(new Event{(flags & cudaEventDisableTiming) == 0});
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* handle) { return cudaEventCreateWithFlags(handle, 0); }
cudaError_t cudaEventDestroy(cudaEvent_t handle) {
  delete reinterpret_cast<Event*>(handle);
  return cudaSuccess;
}
cudaError_t cudaEventRecordWithFlags(cudaEvent_t handle, cudaStream_t stream_handle, unsigned) {
  const Lock lock(runtime_lock());
  auto* event = reinterpret_cast<Event*>(handle);
  Stream* stream = find_stream(stream_handle);
  event->is_recorded = true;
  event->is_captured = stream->capture != nullptr;
  event->position = {stream, stream->submitted};
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) {
  return cudaEventRecordWithFlags(event, stream, 0);
}
cudaError_t cudaEventQuery(cudaEvent_t handle) {
  const Lock lock(runtime_lock());
  const auto* event = reinterpret_cast<Event*>(handle);
  if (event->is_captured) {
    violation("query of an event that a capture recorded");
    return fail(cudaErrorCapturedEvent);
  }
  if (const auto error = check_capture_allows("cudaEventQuery")) {
    return error;
  }
  return event->position.is_reached() ? cudaSuccess : cudaErrorNotReady;
}
cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  const Lock lock(runtime_lock());
  const auto* event = reinterpret_cast<Event*>(handle);
  if (event->is_captured) {
    violation("wait for an event that a capture recorded");
    return fail(cudaErrorCapturedEvent);
  }
  if (const auto error = check_capture_allows("cudaEventSynchronize")) {
    return error;
  }
  // Nothing is waited for if the device has passed the event already.
  if (!event->position.is_reached()) {
    if (const auto error = wait("cudaEventSynchronize", event->position.stream->place())) {
      return error;
    }
    complete(event->position);
  }
  return cudaSuccess;
}
cudaError_t cudaEventElapsedTime(float* milliseconds, cudaEvent_t from_handle, cudaEvent_t to_handle) {
  const Lock lock(runtime_lock());
  const auto* from = reinterpret_cast<Event*>(from_handle);
  const auto* to = reinterpret_cast<Event*>(to_handle);
  if (!from->is_recorded || !to->is_recorded || !from->has_time || !to->has_time) {
    violation("time between events that have none");
    return fail(cudaErrorInvalidResourceHandle);
  }
  if (!from->position.is_reached() || !to->position.is_reached()) {
    return fail(cudaErrorNotReady);
  }
  *milliseconds = std::chrono::duration<float, std::milli>(to->time - from->time).count();
  return cudaSuccess;
}

// Captures and graphs.

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  const Lock lock(runtime_lock());
  return begin_capture(find_stream(stream), mode);
}
cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t* handle) {
  const Lock lock(runtime_lock());
  Graph* graph = nullptr;
  const auto error = end_capture(find_stream(stream), &graph);
  *handle = reinterpret_cast<cudaGraph_t>(graph);
  return error;
}
cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus* status) {
  const Lock lock(runtime_lock());
  *status = capture_status(find_stream(stream));
  return cudaSuccess;
}
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t handle, cudaStreamCaptureStatus* status, unsigned long long* id,
                                     cudaGraph_t* graph, const cudaGraphNode_t** dependencies,
                                     const cudaGraphEdgeData** edges, size_t* count) {
  const Lock lock(runtime_lock());
  static const cudaGraphNode_t no_node{};
  const Stream* stream = find_stream(handle);
  *status = capture_status(stream);
  if (id != nullptr && stream->capture != nullptr) {
    *id = stream->capture->id;
  }
  if (graph != nullptr && stream->capture != nullptr) {
    *graph = reinterpret_cast<cudaGraph_t>(stream->capture->graph);
  }
  if (dependencies != nullptr) {
    *dependencies = &no_node;
  }
  if (edges != nullptr) {
    *edges = nullptr;
  }
  if (count != nullptr) {
    *count = 0;
  }
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  exchange_capture_mode(mode);
  return cudaSuccess;
}
cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t* instance, cudaGraph_t graph, unsigned long long) {
  *instance = reinterpret_cast<cudaGraphExec_t>(new Graph(*reinterpret_cast<Graph*>(graph)));
  return cudaSuccess;
}
cudaError_t cudaGraphLaunch(cudaGraphExec_t instance, cudaStream_t stream) {
  const Lock lock(runtime_lock());
  const std::string nodes = std::to_string(reinterpret_cast<Graph*>(instance)->nodes);
  return submit(find_stream(stream), "graph", "graph", nodes.c_str());
}
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t*, size_t* count) {
  *count = static_cast<size_t>(reinterpret_cast<Graph*>(graph)->nodes);
  return cudaSuccess;
}
cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  delete reinterpret_cast<Graph*>(graph);
  return cudaSuccess;
}
cudaError_t cudaGraphExecDestroy(cudaGraphExec_t instance) {
  delete reinterpret_cast<Graph*>(instance);
  return cudaSuccess;
}
}
