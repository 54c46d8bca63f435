// An allocator that pretends to be CUDA's, for the tests of a machine that has none.

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/impl/FakeGuardImpl.h>

namespace {

constexpr auto kCuda = c10::DeviceType::CUDA;
constexpr auto kAll = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);

struct Pretended final : c10::DeviceAllocator {
  bool begun = false;

  bool initialized() override { return begun; }

  // Device 1 has been used, device 2 cannot be read, the others were left alone.
  c10::CachingDeviceAllocator::DeviceStats getDeviceStats(c10::DeviceIndex device) override {
    TORCH_CHECK(device != 2, "no figures of this one");
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

  c10::DataPtr allocate(size_t) override { TORCH_CHECK(false, "there is no memory"); }
  void copy_data(void*, const void*, std::size_t) const override {}
  void emptyCache(c10::MempoolId_t) override {}
  void recordStream(const c10::DataPtr&, c10::Stream) override {}
  void resetAccumulatedStats(c10::DeviceIndex) override {}
  void resetPeakStats(c10::DeviceIndex) override {}
};

}  // namespace

extern "C" void blip_device_memory_pretend(bool begun) {
  static Pretended allocator;
  static c10::impl::FakeGuardImpl<kCuda> guard;
  static c10::impl::DeviceGuardImplRegistrar registered(kCuda, &guard);
  allocator.begun = begun;
  c10::SetAllocator(kCuda, &allocator);
}
