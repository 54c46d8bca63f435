//! How long a stage took on the device.
#![expect(
    clippy::disallowed_types,
    reason = "stages are measured in real time, whatever a test's clock says"
)]

use std::time::{Duration, Instant};

use tch::{Cuda, Device};

/// Times one stage after another; waits for the device at the end of each, since its work is asynchronous.
#[derive(Debug)]
pub(crate) struct Stopwatch {
    device: Device,
    since: Instant,
}

impl Stopwatch {
    pub(crate) fn start(device: Device) -> Self {
        Self { device, since: Instant::now() }
    }

    /// Time since the start or the last lap.
    pub(crate) fn lap(&mut self) -> Duration {
        if let Device::Cuda(index) = self.device {
            Cuda::synchronize(index as i64);
        }
        let now = Instant::now();
        let lap = now - self.since;
        self.since = now;
        lap
    }

    /// Time since the last lap, without waiting for the device.
    pub(crate) fn elapsed(&self) -> Duration {
        self.since.elapsed()
    }
}
