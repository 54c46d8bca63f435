//! The limit on the CPU time of an input.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use cpu_time::ProcessTime;

/// The CPU time that an input may take.
const MAX_CPU: Duration = Duration::from_secs(1);

/// The least CPU time of an input that is reported, in microseconds.
static SLOWEST_US: AtomicU64 = AtomicU64::new(10_000);

/// Runs a target on an input, and reports each input that is slower than all before.
///
/// # Panics
/// The input took more CPU time than allowed.
pub fn run(entry: fn(&[u8]) -> bool, bytes: &[u8]) {
    let begin = ProcessTime::now();
    entry(bytes);
    let cpu = begin.elapsed();
    let us = u64::try_from(cpu.as_micros()).unwrap_or(u64::MAX);
    if us > SLOWEST_US.fetch_max(us, Ordering::Relaxed) {
        eprintln!("slowest input: {us} us of CPU time, {} bytes", bytes.len());
    }
    assert!(cpu <= MAX_CPU, "input took {cpu:?} of CPU time: {MAX_CPU:?} allowed");
}
