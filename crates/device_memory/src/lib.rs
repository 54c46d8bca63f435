//! GPU memory as LibTorch's allocator sees it.
//!
//! LibTorch takes memory from a device in large pieces and gives parts of them to tensors. What it has taken looks used from
//! outside, whether tensors are in it or not; only the allocator knows how much is.

mod library;

/// What LibTorch holds of one CUDA device's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMemory {
    /// The device's index.
    pub device: usize,
    /// In tensors, in bytes.
    pub allocated_bytes: u64,
    /// The most of that since the process began, in bytes.
    pub allocated_peak_bytes: u64,
    /// Taken from the device, in tensors or kept for them, in bytes.
    pub reserved_bytes: u64,
    /// The most of that since the process began, in bytes.
    pub reserved_peak_bytes: u64,
    /// Allocations that the device had no room for before LibTorch gave back what it kept.
    pub retries: u64,
}

/// The devices that LibTorch has taken memory from: none on a machine without CUDA. Waits for nothing that runs on a device.
///
/// To be called when a model has been loaded, not meanwhile: LibTorch's allocator is set up without a lock.
#[must_use]
pub fn in_use() -> Vec<DeviceMemory> {
    (0..library::devices())
        .filter_map(|device| {
            let memory = library::read(device)?;
            // They count up from 0, and down again no further.
            let count = |number: i64| u64::try_from(number).unwrap_or(0);
            (memory.reserved_peak_bytes > 0).then_some(DeviceMemory {
                device: usize::try_from(device).ok()?,
                allocated_bytes: count(memory.allocated_bytes),
                allocated_peak_bytes: count(memory.allocated_peak_bytes),
                reserved_bytes: count(memory.reserved_bytes),
                reserved_peak_bytes: count(memory.reserved_peak_bytes),
                retries: count(memory.retries),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One test, since what LibTorch believes in is of the whole process.
    #[test]
    fn devices_in_use_are_told_of_once_there_is_an_allocator_that_has_begun() {
        assert_eq!(in_use(), []);
        library::pretend(false);
        assert_eq!(in_use(), []);
        library::pretend(true);
        let used = DeviceMemory {
            device: 1,
            allocated_bytes: 100,
            allocated_peak_bytes: 300,
            reserved_bytes: 2000,
            reserved_peak_bytes: 4000,
            retries: 7,
        };
        assert_eq!(in_use(), [used]);
    }
}
