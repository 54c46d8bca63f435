//! Timing of the stages of a batch on the device.
#![expect(clippy::disallowed_types, reason = "stages are measured in real time, independent of a test clock")]

use std::time::{Duration, Instant};

use cuda::{CudaStreams, Event};
use tch::Device;

use crate::device::transfer::synchronize;

/// Method that determines the end of a stage on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum TimerBackend {
    /// The CPU. Submitted work is complete when the call returns.
    Host,
    /// A CUDA device, which completes work after the call returns. An event records when the device
    /// reaches a point of its work. The host does not wait for it, and launches the kernels of a
    /// stage while the device computes the stage before.
    Events(CudaStreams, usize),
    /// A CUDA device without event support. The host waits for the end of each stage.
    Synchronize(usize),
}

impl TimerBackend {
    /// Selects the backend for an open device.
    pub(crate) fn new(device: Device) -> Self {
        let Device::Cuda(index) = device else { return Self::Host };
        match CudaStreams::open() {
            Ok(events) => Self::Events(events, index),
            Err(error) => {
                tracing::warn!(%error, "CUDA events not available, batches slower because each stage waits");
                Self::Synchronize(index)
            }
        }
    }

    fn now(self) -> Timestamp {
        let event = match self {
            Self::Host => None,
            Self::Synchronize(index) => wait(index),
            Self::Events(events, index) => match events.record_event(index) {
                Ok(event) => Some(DeviceTimestamp::Event(event)),
                Err(error) => {
                    tracing::debug!(%error, "CUDA event not recorded");
                    wait(index)
                }
            },
        };
        Timestamp { device: event, host: Instant::now() }
    }
}

/// Waits for the device. Then the host's time is the device's.
///
/// The next operation of a lost device returns the error to the batch.
fn wait(index: usize) -> Option<DeviceTimestamp> {
    if let Err(error) = synchronize(index) {
        tracing::debug!(%error, "CUDA device not synchronized");
    }
    None
}

/// A point in time.
#[derive(Debug)]
struct Timestamp {
    /// Time on the device. Without it, the host has waited for the device.
    device: Option<DeviceTimestamp>,
    host: Instant,
}

impl Timestamp {
    /// Returns the time since `earlier`, after the device has reached this point.
    fn since(&self, earlier: &Self) -> Duration {
        let on_device = self.device.as_ref().zip(earlier.device.as_ref());
        let by_device = on_device.and_then(|(end, begin)| end.since(begin));
        by_device.unwrap_or_else(|| self.host.saturating_duration_since(earlier.host))
    }
}

#[derive(Debug)]
enum DeviceTimestamp {
    Event(Event),
    /// Time after the start of the device.
    #[cfg(test)]
    Fake(Duration),
}

impl DeviceTimestamp {
    fn since(&self, earlier: &Self) -> Option<Duration> {
        match (self, earlier) {
            (Self::Event(end), Self::Event(begin)) => end.since(begin).ok(),
            #[cfg(test)]
            (Self::Fake(end), Self::Fake(begin)) => end.checked_sub(*begin),
            #[cfg(test)]
            _ => None,
        }
    }
}

/// A stage that [`StageTimer::finish_stage`] ends. Decoding ends with the last row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BatchStage {
    Vision,
    Text,
}

/// Durations of the stages of a batch so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StageTimes {
    pub(crate) vision: Duration,
    pub(crate) text: Duration,
    /// Time outside the other stages.
    pub(crate) decode: Duration,
}

/// Times the stages of a batch, one after another.
#[derive(Debug)]
pub(crate) struct StageTimer {
    backend: TimerBackend,
    begin: Timestamp,
    finished: Vec<(BatchStage, Timestamp)>,
}

impl StageTimer {
    pub(crate) fn start(backend: TimerBackend) -> Self {
        Self { backend, begin: backend.now(), finished: Vec::new() }
    }

    /// Counts the work submitted since the previous stage towards `stage`.
    pub(crate) fn finish_stage(&mut self, stage: BatchStage) {
        self.finished.push((stage, self.backend.now()));
    }

    /// Returns the durations of the stages, after the device has finished the last one.
    pub(crate) fn times(&self) -> StageTimes {
        let mut times = StageTimes::default();
        let mut begin = &self.begin;
        for (stage, end) in &self.finished {
            let took = end.since(begin);
            match stage {
                BatchStage::Vision => times.vision += took,
                BatchStage::Text => times.text += took,
            }
            begin = end;
        }
        times.decode = self.begin.host.elapsed().saturating_sub(times.vision + times.text);
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timestamp(milliseconds: u64) -> Timestamp {
        let device = Some(DeviceTimestamp::Fake(Duration::from_millis(milliseconds)));
        Timestamp { device, host: Instant::now() }
    }

    #[test]
    fn stages_have_the_durations_of_the_device() {
        let finished = vec![
            (BatchStage::Vision, timestamp(47)),
            (BatchStage::Text, timestamp(50)),
            (BatchStage::Text, timestamp(55)),
        ];
        let timer = StageTimer { backend: TimerBackend::Host, begin: timestamp(10), finished };
        let StageTimes { vision, text, .. } = timer.times();
        assert_eq!((vision, text), (Duration::from_millis(37), Duration::from_millis(8)));
    }

    #[test]
    fn stages_without_device_times_use_host_times() {
        let (begin, later) = (Instant::now(), Duration::from_secs(3));
        let end = Timestamp { device: None, host: begin + later };
        for device in [None, Some(DeviceTimestamp::Fake(Duration::ZERO))] {
            assert_eq!(end.since(&Timestamp { device, host: begin }), later);
        }
    }

    #[test]
    fn time_outside_other_stages_counts_as_decoding() {
        let mut timer = StageTimer::start(TimerBackend::new(Device::Cpu));
        let now = timer.begin.host;
        timer.begin.host = now - Duration::from_secs(10);
        timer.finish_stage(BatchStage::Vision);
        timer.finished[0].1.host = now - Duration::from_secs(6);
        let times = timer.times();
        assert_eq!((times.vision, times.text), (Duration::from_secs(4), Duration::ZERO));
        assert!(times.decode >= Duration::from_secs(6), "{times:?}");
    }
}
