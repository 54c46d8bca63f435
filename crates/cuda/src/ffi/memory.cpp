// C functions for the statistics of LibTorch's CUDA allocator.
//
// The interface of the allocator is in c10, which every LibTorch has. The allocator registers
// itself when LibTorch's CUDA library opens. Without it the number of devices is 0.

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

#include <algorithm>
#include <cstdint>
#include <iterator>

namespace {

constexpr auto kCuda = c10::DeviceType::CUDA;

// Null if there is no allocator, or if it has not started: before that it knows no devices.
c10::DeviceAllocator* allocator() {
  auto* registered = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(kCuda));
  return registered != nullptr && registered->initialized() ? registered : nullptr;
}

}  // namespace

extern "C" {

int blip_memory_devices() {
  try {
    if (allocator() == nullptr || !c10::impl::hasDeviceGuardImpl(kCuda)) {
      return 0;
    }
    return c10::impl::getDeviceGuardImpl(kCuda)->deviceCount();
  } catch (...) {
    return 0;
  }
}

// Writes allocated, peak allocated, reserved and peak reserved bytes, and the number of retries.
// Holds the allocator's lock while it copies them. Does not call the device.
bool blip_memory_read(int device, int64_t* statistics) {
  try {
    auto* registered = allocator();
    if (registered == nullptr) {
      return false;
    }
    const auto found = registered->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    const auto& allocated = found.allocated_bytes[kAll];
    const auto& reserved = found.reserved_bytes[kAll];
    const int64_t numbers[] = {allocated.current, allocated.peak, reserved.current, reserved.peak,
                               found.num_alloc_retries};
    std::copy(std::begin(numbers), std::end(numbers), statistics);
    return true;
  } catch (...) {
    return false;
  }
}
}
