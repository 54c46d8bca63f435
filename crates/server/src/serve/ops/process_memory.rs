//! Memory metrics of the allocator and the process, read at each scrape.

use std::ptr::null_mut;

use libmimalloc_sys::mi_process_info;
use metrics::{counter, gauge};

use crate::telemetry::metrics::table::{
    ALLOCATOR_COMMITTED, ALLOCATOR_COMMITTED_PEAK, PAGE_FAULTS, RESIDENT_PEAK,
};

/// Memory of the allocator and of the whole process.
///
/// The allocator of the program and of LibTorch is mimalloc.
/// mimalloc takes memory from the operating system in large blocks, and reuses freed parts. The
/// difference to resident memory is memory outside the allocator: mapped weights, stacks, and
/// direct allocations.
///
/// mimalloc also reports the current resident memory. On Linux that equals the committed bytes, so
/// it is omitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessMemory {
    /// Bytes that the allocator holds, in use or free.
    ///
    /// Almost 0 in a program with another allocator.
    pub(crate) committed_bytes: u64,
    /// The maximum of `committed_bytes` since the start.
    pub(crate) committed_peak_bytes: u64,
    /// The maximum of the resident memory of the process since the start.
    pub(crate) resident_peak_bytes: u64,
    /// Page faults of the process that read from disk, since the start.
    pub(crate) major_page_faults: u64,
}

impl ProcessMemory {
    /// Reads the current values. Does not block.
    #[expect(unsafe_code, reason = "mimalloc is a C library that writes through pointers")]
    pub(crate) fn read() -> Self {
        let [mut resident_peak, mut committed, mut committed_peak, mut faults] = [0_usize; 4];
        // SAFETY: each pointer is null, which mimalloc ignores, or points to a local variable of
        // the type that the header declares. The variables outlive the call.
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

    /// Records the values with the installed recorder.
    pub(crate) fn record(&self) {
        gauge!(ALLOCATOR_COMMITTED).set(self.committed_bytes as f64);
        gauge!(ALLOCATOR_COMMITTED_PEAK).set(self.committed_peak_bytes as f64);
        gauge!(RESIDENT_PEAK).set(self.resident_peak_bytes as f64);
        counter!(PAGE_FAULTS).absolute(self.major_page_faults);
    }
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[global_allocator]
    static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

    const BYTES: usize = 64 << 20;

    #[test]
    fn allocated_memory_is_committed_and_counts_in_the_peak() {
        let before = ProcessMemory::read();
        let allocated = black_box(vec![1_u8; BYTES]);
        let during = ProcessMemory::read();
        // Other tests run in this process, so the difference to `before` can be smaller.
        assert!(during.committed_bytes >= BYTES as u64, "{before:?} {during:?}");
        assert!(during.resident_peak_bytes >= BYTES as u64, "{during:?}");
        drop(allocated);
        let after = ProcessMemory::read();
        assert!(after.committed_peak_bytes >= during.committed_bytes, "{during:?} {after:?}");
        assert!(after.major_page_faults >= before.major_page_faults, "{before:?} {after:?}");
    }

    #[test]
    fn record_sets_all_metrics() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let memory = ProcessMemory {
            committed_bytes: 100,
            committed_peak_bytes: 300,
            resident_peak_bytes: 2000,
            major_page_faults: 7,
        };
        metrics::with_local_recorder(&recorder, || memory.record());
        let text = recorder.handle().render();
        for line in [
            "blip_allocator_committed_bytes 100",
            "blip_allocator_committed_peak_bytes 300",
            "blip_resident_memory_peak_bytes 2000",
            "blip_major_page_faults_total 7",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
        }
    }
}
