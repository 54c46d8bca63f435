//! Memory statistics of LibTorch's allocator.

use cuda::{DeviceMemory, read_device_memory};

use crate::fake_driver::FakeDriver;

#[test]
#[cfg_attr(not(with_streams), ignore = "LibTorch has no CUDA headers")]
fn device_memory_lists_used_devices_of_started_allocator() {
    assert_eq!(read_device_memory(), []);
    let fake = FakeDriver::open();
    fake.register_allocator(false);
    assert_eq!(read_device_memory(), []);
    fake.register_allocator(true);
    let used = DeviceMemory {
        device: 1,
        allocated_bytes: 100,
        allocated_peak_bytes: 300,
        reserved_bytes: 2000,
        reserved_peak_bytes: 4000,
        retries: 7,
    };
    assert_eq!(read_device_memory(), [used]);
}
