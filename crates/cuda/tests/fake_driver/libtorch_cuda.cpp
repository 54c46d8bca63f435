// The part of LibTorch's CUDA library that src/ffi calls, with three devices that do nothing.
//
// The devices have a clock that the test advances, and a log of their calls.

#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <string>

namespace {

std::string call_log;
std::string failing_call;
double clock_ms = 0;
int live_objects = 0;
c10::DeviceIndex selected_device = 0;
c10::StreamId last_stream_id = 0;
std::map<c10::DeviceIndex, c10::StreamId> current_streams;

void log_call(const std::string& call, const std::string& line) {
  TORCH_CHECK(call != failing_call, "fake failure of ", call);
  call_log += line + "\n";
}

c10::cuda::CUDAStream stream(c10::StreamId id, c10::DeviceIndex device) {
  return c10::cuda::CUDAStream(c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::kCUDA, device), id));
}

c10::DeviceIndex or_current(c10::DeviceIndex device) { return device < 0 ? selected_device : device; }

std::string name(const c10::Stream& stream) {
  return std::to_string(stream.device_index()) + ":" + std::to_string(stream.id());
}

struct FakeEvent {
  double time_ms;
  bool synchronized = false;
};

struct FakeGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return c10::Device(c10::kCUDA, c10::cuda::ExchangeDevice(device.index()));
  }
  c10::Device getDevice() const override { return c10::Device(c10::kCUDA, selected_device); }
  void setDevice(c10::Device device) const override { selected_device = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { selected_device = device.index(); }
  c10::Stream getStream(c10::Device device) const override {
    return stream(current_streams[device.index()], device.index());
  }
  c10::Stream exchangeStream(c10::Stream next) const override {
    auto previous = getStream(next.device());
    current_streams[next.device_index()] = next.id();
    return previous;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return 3; }

  void record(void** event, const c10::Stream& on, const c10::DeviceIndex, const c10::EventFlag flag) const override {
    TORCH_CHECK(flag == c10::EventFlag::BACKEND_DEFAULT, "an event without a time");
    log_call("record", "record on " + name(on));
    *event = new FakeEvent{clock_ms};
    ++live_objects;
  }
  // A device reaches an event only when the clock passes it or the host waits.
  bool queryEvent(void* event) const override {
    auto* fake = static_cast<FakeEvent*>(event);
    return fake->synchronized || fake->time_ms < clock_ms;
  }
  void synchronizeEvent(void* event) const override { static_cast<FakeEvent*>(event)->synchronized = true; }
  double elapsedTime(void* from, void* to, const c10::DeviceIndex) const override {
    return static_cast<FakeEvent*>(to)->time_ms - static_cast<FakeEvent*>(from)->time_ms;
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    if (event != nullptr) {
      delete static_cast<FakeEvent*>(event);
      --live_objects;
    }
  }
};

C10_REGISTER_GUARD_IMPL(CUDA, FakeGuard);

// Device 1 is used, the statistics of device 2 fail, and device 0 is unused.
struct FakeAllocator final : c10::DeviceAllocator {
  bool started = false;

  bool initialized() override { return started; }

  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    TORCH_CHECK(device != 2, "no statistics");
    constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    c10::CachingDeviceAllocator::DeviceStats statistics;
    if (device == 1) {
      statistics.allocated_bytes[kAll].increase(300);
      statistics.allocated_bytes[kAll].decrease(200);
      statistics.reserved_bytes[kAll].increase(4000);
      statistics.reserved_bytes[kAll].decrease(2000);
      statistics.num_alloc_retries = 7;
    }
    return statistics;
  }

  c10::DataPtr allocate(size_t) override { TORCH_CHECK(false, "no memory"); }
  void copy_data(void*, const void*, std::size_t) const override {}
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
};

}  // namespace

namespace c10::cuda {

DeviceIndex ExchangeDevice(DeviceIndex device) {
  const auto previous = selected_device;
  selected_device = device;
  return previous;
}

CUDAStream getStreamFromPool(const bool is_high_priority, DeviceIndex device) {
  const std::string pool = is_high_priority ? "high-priority stream of " : "stream of ";
  log_call("stream", "new " + pool + std::to_string(device));
  return ::stream(++last_stream_id, or_current(device));
}

CUDAStream getCurrentCUDAStream(DeviceIndex device) {
  return ::stream(current_streams[or_current(device)], or_current(device));
}

void setCurrentCUDAStream(CUDAStream next) {
  log_call("current", "current " + name(next.unwrap()));
  current_streams[next.device_index()] = next.id();
}

void CUDAStream::synchronize() const { log_call("synchronize", "synchronize " + name(unwrap())); }

cudaStream_t CUDAStream::stream() const { return reinterpret_cast<cudaStream_t>(stream_.id()); }

}  // namespace c10::cuda

namespace {

// The allocator refers to the graph from now on, so freeing it is one object too many.
void keep() { --live_objects; }

}  // namespace

namespace at::cuda {

CUDAGraph::CUDAGraph(bool keep_graph) : capture_stream_(c10::cuda::getCurrentCUDAStream()), keep_graph_(keep_graph) {
  ++live_objects;
}

CUDAGraph::~CUDAGraph() { --live_objects; }

void CUDAGraph::capture_begin(MempoolId_t, cudaStreamCaptureMode mode) {
  const auto on = c10::cuda::getCurrentCUDAStream();
  TORCH_CHECK(on.id() != 0, "CUDA does not capture the default stream");
  TORCH_CHECK(mode == cudaStreamCaptureModeThreadLocal, "other threads can invalidate the capture");
  if (failing_call == "begin") keep();
  log_call("begin", "begin on " + name(on.unwrap()));
}

void CUDAGraph::capture_end() {
  if (failing_call == "end") keep();
  log_call("end", "end");
  capture_ended_ = true;
  log_call("instantiate", "instantiate");
}

MempoolId_t CUDAGraph::pool() {
  TORCH_CHECK(capture_ended_, "no pool before the end of the capture");
  return {0, 1};
}

void CUDAGraph::replay() {
  TORCH_CHECK(capture_ended_, "no captured graph");
  log_call("replay", "replay on " + name(c10::cuda::getCurrentCUDAStream()));
}

}  // namespace at::cuda

extern "C" {

// Clears the log and selects device 0.
void fake_reset() {
  call_log.clear();
  selected_device = 0;
  current_streams.clear();
}

void fake_log(const char* line) { call_log += std::string(line) + "\n"; }

// Returns the log since the last call.
const char* fake_take_log() {
  static std::string taken;
  taken = std::move(call_log);
  call_log.clear();
  return taken.c_str();
}

void fake_fail(const char* call) { failing_call = call; }

void fake_advance_clock(double milliseconds) { clock_ms += milliseconds; }

void fake_register_allocator(bool started) {
  static FakeAllocator allocator;
  allocator.started = started;
  c10::SetAllocator(c10::kCUDA, &allocator);
}

int fake_current_device() { return selected_device; }

// Returns the number of events and graphs that the crate must free and did not.
int fake_live_objects() { return live_objects; }
}
