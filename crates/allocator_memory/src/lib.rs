//! What mimalloc, the program's allocator and LibTorch's, says of the memory that it holds.
//!
//! It takes memory from the operating system in large pieces, gives parts of them out, and keeps for the next what comes back.
//! Beside the process's resident memory this tells what is the allocator's from what is others': mapped weights, stacks, and
//! whatever is taken past it.

use std::ptr::null_mut;

use libmimalloc_sys::mi_process_info;

/// What the allocator holds, and what the operating system has counted for the whole process.
///
/// mimalloc has a number for what is resident now, too, but on Linux that is its committed bytes again: it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllocatorMemory {
    /// Taken from the operating system and not given back, in use or kept for the next, in bytes.
    pub committed_bytes: u64,
    /// The most of that since the process began, in bytes.
    pub committed_peak_bytes: u64,
    /// The most memory that the whole process has had resident, in bytes.
    pub resident_peak_bytes: u64,
    /// Page faults of the whole process that had to wait for a disk, since it began.
    pub major_page_faults: u64,
}

impl AllocatorMemory {
    /// As it is now. Waits for nothing; where another allocator is the program's, the committed bytes are next to none.
    #[must_use]
    #[expect(unsafe_code, reason = "mimalloc is C, and writes its numbers to where it is told")]
    pub fn read() -> Self {
        let [mut resident_peak, mut committed, mut committed_peak, mut faults] = [0_usize; 4];
        // SAFETY: each pointer is null, which mimalloc passes over, or that of a number of this function's own, of the type that
        // the header names.
        unsafe {
            mi_process_info(
                null_mut(),
                null_mut(),
                null_mut(),
                null_mut(),
                &raw mut resident_peak,
                &raw mut committed,
                &raw mut committed_peak,
                &raw mut faults,
            );
        }
        let [committed_bytes, committed_peak_bytes, resident_peak_bytes, major_page_faults] =
            [committed, committed_peak, resident_peak, faults].map(|number| number as u64);
        Self { committed_bytes, committed_peak_bytes, resident_peak_bytes, major_page_faults }
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[global_allocator]
    static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

    const BYTES: usize = 64 << 20;

    #[test]
    fn what_is_taken_is_committed_and_the_most_of_it_is_remembered() {
        let before = AllocatorMemory::read();
        let taken = black_box(vec![1_u8; BYTES]);
        let during = AllocatorMemory::read();
        assert!(during.committed_bytes >= before.committed_bytes + BYTES as u64, "{before:?} {during:?}");
        assert!(during.resident_peak_bytes >= BYTES as u64, "{during:?}");
        drop(taken);
        let after = AllocatorMemory::read();
        assert!(after.committed_peak_bytes >= during.committed_bytes, "{during:?} {after:?}");
        assert!(after.major_page_faults >= before.major_page_faults, "{before:?} {after:?}");
    }
}
