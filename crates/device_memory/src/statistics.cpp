// A C face for the statistics of the allocator that LibTorch takes CUDA devices' memory from.
//
// Its interface is in c10, which every LibTorch has. What implements it registers itself when LibTorch's CUDA half is
// opened; where that has not happened there is nothing to tell.

#include "statistics.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

namespace {

constexpr auto kCuda = c10::DeviceType::CUDA;

// Null where there is none, or none that has begun its work: before that it knows no devices.
c10::DeviceAllocator* allocator() {
  auto* found = dynamic_cast<c10::DeviceAllocator*>(c10::GetAllocator(kCuda));
  return found != nullptr && found->initialized() ? found : nullptr;
}

}  // namespace

int blip_device_memory_devices() {
  try {
    if (allocator() == nullptr || !c10::impl::hasDeviceGuardImpl(kCuda)) {
      return 0;
    }
    return c10::impl::getDeviceGuardImpl(kCuda)->deviceCount();
  } catch (...) {
    return 0;
  }
}

// Takes the device's lock for as long as its figures are copied; nothing is asked of the device itself.
bool blip_device_memory_read(int device, BlipDeviceMemory* memory) {
  try {
    auto* found = allocator();
    if (found == nullptr) {
      return false;
    }
    const auto statistics = found->getDeviceStats(static_cast<c10::DeviceIndex>(device));
    constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
    const auto& allocated = statistics.allocated_bytes[kAll];
    const auto& reserved = statistics.reserved_bytes[kAll];
    *memory = {allocated.current, allocated.peak, reserved.current, reserved.peak,
               statistics.num_alloc_retries};
    return true;
  } catch (...) {
    return false;
  }
}
