//! What the program's allocator holds, and what memory the process has had at most; read at each scrape.

use allocator_memory::AllocatorMemory;
use metrics::{counter, gauge};

use super::table::{ALLOCATOR, ALLOCATOR_PEAK, PAGE_FAULTS, RESIDENT_PEAK};

pub(super) fn record(memory: &AllocatorMemory) {
    gauge!(ALLOCATOR).set(memory.committed_bytes as f64);
    gauge!(ALLOCATOR_PEAK).set(memory.committed_peak_bytes as f64);
    gauge!(RESIDENT_PEAK).set(memory.resident_peak_bytes as f64);
    counter!(PAGE_FAULTS).absolute(memory.major_page_faults);
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;

    #[test]
    fn what_is_held_now_and_at_most_is_told_and_page_faults_are_counted() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let memory = AllocatorMemory {
            committed_bytes: 100,
            committed_peak_bytes: 300,
            resident_peak_bytes: 2000,
            major_page_faults: 7,
        };
        metrics::with_local_recorder(&recorder, || record(&memory));
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
