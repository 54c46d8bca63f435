// As much of LibTorch's CUDA half as stream.cpp calls, for a machine without a GPU: two devices that do nothing, by a clock that the
// test sets, and keep a diary of what they were asked for.

#include <ATen/cuda/CUDAGeneratorImpl.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <c10/cuda/CUDAFunctions.h>
#include <c10/cuda/CUDAStream.h>

#include <map>
#include <string>

namespace {

std::string diary;
std::string refused;
double clock_ms = 0;
int living = 0;
c10::DeviceIndex device_now = 0;
c10::StreamId streams_made = 0;
std::map<c10::DeviceIndex, c10::StreamId> current;

void note(const std::string& what, const std::string& line) {
  TORCH_CHECK(what != refused, "pretended refusal of ", what);
  diary += line + "\n";
}

c10::cuda::CUDAStream stream(c10::StreamId id, c10::DeviceIndex device) {
  return c10::cuda::CUDAStream(c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::kCUDA, device), id));
}

c10::DeviceIndex or_current(c10::DeviceIndex device) { return device < 0 ? device_now : device; }

std::string name(const c10::Stream& stream) {
  return std::to_string(stream.device_index()) + ":" + std::to_string(stream.id());
}

struct PretendedEvent {
  double at_ms;
  bool waited_for = false;
};

struct PretendedGuard final : c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return c10::kCUDA; }
  c10::Device exchangeDevice(c10::Device device) const override {
    return c10::Device(c10::kCUDA, c10::cuda::ExchangeDevice(device.index()));
  }
  c10::Device getDevice() const override { return c10::Device(c10::kCUDA, device_now); }
  void setDevice(c10::Device device) const override { device_now = device.index(); }
  void uncheckedSetDevice(c10::Device device) const noexcept override { device_now = device.index(); }
  c10::Stream getStream(c10::Device device) const override { return stream(current[device.index()], device.index()); }
  c10::Stream exchangeStream(c10::Stream to) const override {
    auto before = getStream(to.device());
    current[to.device_index()] = to.id();
    return before;
  }
  c10::DeviceIndex deviceCount() const noexcept override { return 2; }

  void record(void** event, const c10::Stream& on, const c10::DeviceIndex, const c10::EventFlag flag) const override {
    TORCH_CHECK(flag == c10::EventFlag::BACKEND_DEFAULT, "an event without a time");
    note("record", "record on " + name(on));
    *event = new PretendedEvent{clock_ms};
    ++living;
  }
  bool queryEvent(void* event) const override {
    auto* pretended = static_cast<PretendedEvent*>(event);
    // The device is behind, unless somebody waits.
    return pretended->waited_for || pretended->at_ms < clock_ms;
  }
  void synchronizeEvent(void* event) const override { static_cast<PretendedEvent*>(event)->waited_for = true; }
  double elapsedTime(void* from, void* to, const c10::DeviceIndex) const override {
    return static_cast<PretendedEvent*>(to)->at_ms - static_cast<PretendedEvent*>(from)->at_ms;
  }
  void destroyEvent(void* event, const c10::DeviceIndex) const noexcept override {
    if (event != nullptr) {
      delete static_cast<PretendedEvent*>(event);
      --living;
    }
  }
};

C10_REGISTER_GUARD_IMPL(CUDA, PretendedGuard);

}  // namespace

namespace c10::cuda {

DeviceIndex ExchangeDevice(DeviceIndex device) {
  const auto before = device_now;
  device_now = device;
  return before;
}

CUDAStream getStreamFromPool(const bool, DeviceIndex device) {
  note("stream", "new stream of " + std::to_string(device));
  return stream(++streams_made, or_current(device));
}

CUDAStream getCurrentCUDAStream(DeviceIndex device) {
  return stream(current[or_current(device)], or_current(device));
}

void setCurrentCUDAStream(CUDAStream to) {
  note("current", "current " + name(to.unwrap()));
  current[to.device_index()] = to.id();
}

void CUDAStream::synchronize() const { note("synchronize", "synchronize " + name(unwrap())); }

cudaStream_t CUDAStream::stream() const { return reinterpret_cast<cudaStream_t>(stream_.id()); }

}  // namespace c10::cuda

namespace at::cuda {

CUDAGraph::CUDAGraph(bool keep_graph) : capture_stream_(c10::cuda::getCurrentCUDAStream()), keep_graph_(keep_graph) {
  ++living;
}

CUDAGraph::~CUDAGraph() { --living; }

void CUDAGraph::capture_begin(MempoolId_t, cudaStreamCaptureMode mode) {
  const auto on = c10::cuda::getCurrentCUDAStream();
  TORCH_CHECK(on.id() != 0, "the default stream cannot be captured");
  TORCH_CHECK(mode == cudaStreamCaptureModeThreadLocal, "another thread could spoil it");
  note("begin", "begin on " + name(on.unwrap()));
}

void CUDAGraph::capture_end() {
  note("end", "end");
  capture_ended_ = true;
}

void CUDAGraph::replay() {
  TORCH_CHECK(capture_ended_, "nothing was captured");
  note("replay", "replay on " + name(c10::cuda::getCurrentCUDAStream()));
}

}  // namespace at::cuda

extern "C" {

void pretended_note(const char* line) { diary += std::string(line) + "\n"; }

// What was asked for since the last time.
const char* pretended_diary() {
  static std::string told;
  told = std::move(diary);
  diary.clear();
  return told.c_str();
}

void pretended_refuse(const char* what) { refused = what; }

void pretended_wait(double milliseconds) { clock_ms += milliseconds; }

int pretended_device() { return device_now; }

// Events and graphs that were not freed.
int pretended_living() { return living; }
}
