//! How long the stages of a batch took on the device.
#![expect(
    clippy::disallowed_types,
    reason = "stages are measured in real time, whatever a test's clock says"
)]

use std::time::{Duration, Instant};

use cuda::{CudaStreams, Event};
use tch::Device;

use crate::transfer::synchronize;

/// How the end of a stage is found on a device.
#[derive(Debug, Clone, Copy)]
pub(crate) enum DeviceClock {
    /// The CPU: what was asked for is done.
    Host,
    /// A CUDA device, which is behind what was asked of it. An event says when it comes to a place in its work; nobody waits
    /// for that, so the kernels of a stage are launched while the device is busy with the stage before.
    Events(CudaStreams, usize),
    /// A CUDA device without a library for events: the end of each stage is waited for.
    Waiting(usize),
}

impl DeviceClock {
    /// The clock of a device that is open.
    pub(crate) fn new(device: Device) -> Self {
        let Device::Cuda(index) = device else { return Self::Host };
        match CudaStreams::open() {
            Ok(events) => Self::Events(events, index),
            Err(error) => {
                tracing::warn!(%error, "waiting for the end of each stage to time it: batches will be slower");
                Self::Waiting(index)
            }
        }
    }

    fn now(self) -> Point {
        let event = match self {
            Self::Host => None,
            Self::Waiting(index) => {
                synchronize(index);
                None
            }
            Self::Events(events, index) => match events.record_event(index) {
                Ok(event) => Some(Mark::Event(event)),
                Err(error) => {
                    tracing::debug!(%error, "an event could not be recorded");
                    synchronize(index);
                    None
                }
            },
        };
        Point { device: event, host: Instant::now() }
    }
}

/// A point in time.
#[derive(Debug)]
struct Point {
    /// By the device's account; without it the device was waited for.
    device: Option<Mark>,
    host: Instant,
}

impl Point {
    /// Waits until the device is here.
    fn since(&self, earlier: &Self) -> Duration {
        let on_device = self.device.as_ref().zip(earlier.device.as_ref());
        let by_device = on_device.and_then(|(end, begin)| end.since(begin));
        by_device.unwrap_or_else(|| self.host.saturating_duration_since(earlier.host))
    }
}

#[derive(Debug)]
enum Mark {
    Event(Event),
    /// So long after the device's first moment.
    #[cfg(test)]
    Pretended(Duration),
}

impl Mark {
    fn since(&self, earlier: &Self) -> Option<Duration> {
        match (self, earlier) {
            (Self::Event(end), Self::Event(begin)) => end.since(begin).ok(),
            #[cfg(test)]
            (Self::Pretended(end), Self::Pretended(begin)) => end.checked_sub(*begin),
            #[cfg(test)]
            _ => None,
        }
    }
}

/// What ends with a lap; the decoder goes on until the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    Vision,
    Text,
}

/// What a batch has taken so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct StageTimes {
    pub(crate) vision: Duration,
    pub(crate) text: Duration,
    /// All that is in no lap.
    pub(crate) decode: Duration,
}

/// Times the stages of a batch, one after another.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    clock: DeviceClock,
    begin: Point,
    laps: Vec<(Stage, Point)>,
}

impl Stopwatch {
    pub(crate) fn start(clock: DeviceClock) -> Self {
        Self { clock, begin: clock.now(), laps: Vec::new() }
    }

    /// What was asked of the device since the last lap was this stage's.
    pub(crate) fn lap(&mut self, stage: Stage) {
        self.laps.push((stage, self.clock.now()));
    }

    /// For an answer that is there: waits until the device has ended the last lap.
    pub(crate) fn times(&self) -> StageTimes {
        let mut times = StageTimes::default();
        let mut begin = &self.begin;
        for (stage, end) in &self.laps {
            let took = end.since(begin);
            match stage {
                Stage::Vision => times.vision += took,
                Stage::Text => times.text += took,
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

    fn point(milliseconds: u64) -> Point {
        let device = Some(Mark::Pretended(Duration::from_millis(milliseconds)));
        Point { device, host: Instant::now() }
    }

    #[test]
    fn stages_take_what_the_device_says() {
        let laps = vec![(Stage::Vision, point(47)), (Stage::Text, point(50)), (Stage::Text, point(55))];
        let stopwatch = Stopwatch { clock: DeviceClock::Host, begin: point(10), laps };
        let StageTimes { vision, text, .. } = stopwatch.times();
        assert_eq!((vision, text), (Duration::from_millis(37), Duration::from_millis(8)));
    }

    #[test]
    fn where_the_device_says_nothing_they_take_what_the_host_saw() {
        let (begin, later) = (Instant::now(), Duration::from_secs(3));
        let end = Point { device: None, host: begin + later };
        for device in [None, Some(Mark::Pretended(Duration::ZERO))] {
            assert_eq!(end.since(&Point { device, host: begin }), later);
        }
    }

    #[test]
    fn what_is_in_no_lap_is_the_decoders() {
        let mut stopwatch = Stopwatch::start(DeviceClock::new(Device::Cpu));
        let now = stopwatch.begin.host;
        stopwatch.begin.host = now - Duration::from_secs(10);
        stopwatch.lap(Stage::Vision);
        stopwatch.laps[0].1.host = now - Duration::from_secs(6);
        let times = stopwatch.times();
        assert_eq!((times.vision, times.text), (Duration::from_secs(4), Duration::ZERO));
        assert!(times.decode >= Duration::from_secs(6), "{times:?}");
    }
}
