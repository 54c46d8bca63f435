//! Device memory as LibTorch's allocator reports it.
//!
//! LibTorch allocates device memory in large blocks and divides them among tensors. From outside,
//! a whole block looks used. Only the allocator knows how much of it is in tensors.

use crate::ffi::libtorch::Library;

/// The memory of one CUDA device in LibTorch's allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// The index of the device.
    pub device: usize,
    /// Bytes in tensors.
    pub allocated_bytes: u64,
    /// The largest `allocated_bytes` since the process began.
    pub allocated_peak_bytes: u64,
    /// Bytes that LibTorch allocated on the device, in tensors or free for them.
    pub reserved_bytes: u64,
    /// The largest `reserved_bytes` since the process began.
    pub reserved_peak_bytes: u64,
    /// Allocations that succeeded only after LibTorch released its free blocks.
    pub retries: u64,
}

/// Returns the devices on which LibTorch has allocated memory, without waiting for their work.
///
/// The result is empty on a machine without CUDA. The caller must not call this while a model
/// loads, since LibTorch initialises its allocator without a lock.
#[must_use]
pub fn read_device_memory() -> Vec<DeviceMemory> {
    let Ok(library) = Library::open() else { return Vec::new() };
    let read = |device| {
        // LibTorch counts in signed numbers that do not fall below 0.
        let statistics = library.memory(device)?.map(|number| u64::try_from(number).unwrap_or(0));
        let [allocated_bytes, allocated_peak_bytes, reserved_bytes, reserved_peak_bytes, retries] =
            statistics;
        let device = usize::try_from(device).ok()?;
        Some(DeviceMemory {
            device,
            allocated_bytes,
            allocated_peak_bytes,
            reserved_bytes,
            reserved_peak_bytes,
            retries,
        })
    };
    let devices = (0..library.memory_devices()).filter_map(read);
    devices.filter(|memory| memory.reserved_peak_bytes > 0).collect()
}
