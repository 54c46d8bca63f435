//! The C face of `statistics.cpp`: the one file of this crate that calls foreign functions.
#![expect(unsafe_code, reason = "calls C functions that are linked in")]

use std::ffi::c_int;

// Brings LibTorch's libraries to the linker, in whose c10 the allocators are registered.
use torch_sys as _;

/// `BlipDeviceMemory` of `statistics.h`.
#[repr(C)]
#[derive(Default)]
pub(crate) struct Statistics {
    pub(crate) allocated_bytes: i64,
    pub(crate) allocated_peak_bytes: i64,
    pub(crate) reserved_bytes: i64,
    pub(crate) reserved_peak_bytes: i64,
    pub(crate) retries: i64,
}

unsafe extern "C" {
    safe fn blip_device_memory_devices() -> c_int;
    fn blip_device_memory_read(device: c_int, memory: *mut Statistics) -> bool;
    #[cfg(test)]
    safe fn blip_device_memory_pretend(begun: bool);
}

/// How many CUDA devices LibTorch's allocator knows.
pub(crate) fn devices() -> c_int {
    blip_device_memory_devices()
}

/// The figures of one of them, if it has any.
pub(crate) fn read(device: c_int) -> Option<Statistics> {
    let mut memory = Statistics::default();
    // SAFETY: the pointer is to a value of the same layout that outlives the call; no exception leaves the function.
    unsafe { blip_device_memory_read(device, &raw mut memory) }.then_some(memory)
}

/// Has LibTorch believe in a CUDA allocator, which has begun its work or not.
#[cfg(test)]
pub(crate) fn pretend(begun: bool) {
    blip_device_memory_pretend(begun);
}
