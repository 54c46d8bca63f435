// Streams, events, captures and graphs, with the rules of CUDA.
//
// The devices are infinitely slow: they do nothing before the host waits for them. Therefore every
// missing wait is found, and not only the one that loses a race.
#pragma once

#include <cuda_runtime_api.h>

#include <chrono>
#include <mutex>
#include <utility>
#include <vector>

#include "trace.h"

namespace stand_in {

struct Stream;

// A position in the work of a stream.
struct Position {
  Stream* stream = nullptr;
  unsigned long long count = 0;

  bool is_reached() const;
};

// A sequence of work that a capture collected.
struct Graph {
  int nodes = 0;
};

// A capture that has begun on a stream.
struct Capture {
  unsigned long long id;
  long thread;
  cudaStreamCaptureMode mode;
  Graph* graph = new Graph;
  bool is_invalid = false;
};

struct Stream {
  int id;
  int device;
  int priority = 0;
  unsigned long long submitted = 0;
  unsigned long long done = 0;
  Capture* capture = nullptr;
  // Events of other streams that this stream waits for.
  std::vector<Position> waits;

  Place place() const { return {device, id, capture != nullptr}; }
};

struct Event {
  bool has_time;
  bool is_recorded = false;
  bool is_captured = false;
  Position position;
  std::chrono::steady_clock::time_point time;
};

// The lock of the whole runtime. Every function of the interface holds it.
std::recursive_mutex& runtime_lock();
using Lock = std::lock_guard<std::recursive_mutex>;

int device_count();
int current_device();
cudaError_t select_device(int device);

// Stores the error for cudaGetLastError, and returns it.
cudaError_t fail(cudaError_t error);
cudaError_t take_last_error();
cudaError_t peek_last_error();

// Returns the stream of a handle. A null handle is the default stream of the current device.
Stream* find_stream(void* handle);
Stream* default_stream(int device);
Stream* new_stream(int priority);

// Adds work to a stream. Checks that the work is allowed there.
cudaError_t submit(Stream* stream, const char* kind, const char* name, const char* detail);

// Lets the device do the work of a stream up to `position`, and what it waits for.
void complete(const Position& position);
void complete_all(int device);

// Returns an error if a capture forbids this call, as CUDA does for calls that can have an effect
// on it.
cudaError_t check_capture_allows(const char* call);
// As above, for a call that waits for a stream.
cudaError_t check_capture_allows_wait(const char* call, Stream* stream);

// Counts a wait of the host.
cudaError_t wait(const char* call, const Place& place);

cudaError_t begin_capture(Stream* stream, cudaStreamCaptureMode mode);
cudaError_t end_capture(Stream* stream, Graph** graph);
cudaStreamCaptureStatus capture_status(const Stream* stream);
void exchange_capture_mode(cudaStreamCaptureMode* mode);

}  // namespace stand_in
