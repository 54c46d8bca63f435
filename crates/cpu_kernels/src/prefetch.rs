//! Requests to load memory into a cache before it is used. They never change a result.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "prefetch instructions take pointers"))]

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T1, _mm_prefetch};

/// Bytes of a line of the cache.
#[cfg(target_arch = "x86_64")]
const LINE_BYTES: usize = 64;

/// Distance of the weights that are loaded from those that are used.
///
/// Processors load ahead within a page of 4 KiB only. Two cores of an AMD EPYC (Zen 4) read weights
/// of 768 inputs for 12 rows with 16 to 19 GB/s without this, 24 to 28 with 8 to 64 KiB, and 16 to
/// 17 with 1 KiB (bf16, medians, a temporary program).
#[cfg(target_arch = "x86_64")]
const AHEAD_BYTES: usize = 8 << 10;

/// Loads the memory that is 8 KiB after `weights` into the second cache.
///
/// A loop calls it for weights that are one after another.
#[inline(always)]
pub(crate) fn prefetch_ahead<T>(weights: &T) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        let ahead = std::ptr::from_ref(weights).wrapping_byte_add(AHEAD_BYTES + offset);
        // SAFETY: the instruction has no effect but on the cache, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_T1>(ahead.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = weights;
}

/// Loads the first 32 numbers of each of `rows`, which will be written.
#[inline(always)]
pub(crate) fn prefetch_for_writing<'a, T: 'a>(rows: impl Iterator<Item = &'a [T]>) {
    #[cfg(target_arch = "x86_64")]
    for row in rows {
        for line in row.chunks(LINE_BYTES / size_of::<T>()).take(32 * size_of::<T>() / LINE_BYTES) {
            // SAFETY: the instruction has no effect but on the cache.
            unsafe { _mm_prefetch::<_MM_HINT_ET0>(line.as_ptr().cast()) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = rows;
}
