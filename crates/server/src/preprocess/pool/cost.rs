//! The cost of work in CPU time: estimated before, measured afterwards.

use std::time::Duration;

/// The weight of a new measurement in the average, one part in this number.
const SMOOTHING: f64 = 16.0;

/// The bounds of the correction, so that a few odd images do not decide.
const CORRECTION: std::ops::RangeInclusive<f64> = 1.0 / 16.0..=16.0;

/// Corrects estimates by the CPU time that work took. Costs are in microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct CostCorrection {
    factor: f64,
}

impl Default for CostCorrection {
    fn default() -> Self {
        Self { factor: 1.0 }
    }
}

impl CostCorrection {
    /// Returns the cost of work that is estimated to take this CPU time.
    pub(super) fn cost(self, estimate: Duration) -> u64 {
        // The conversion saturates.
        ((estimate.as_secs_f64() * 1e6 * self.factor) as u64).max(1)
    }

    /// Learns that work took this CPU time.
    pub(super) fn learn(&mut self, estimate: Duration, measured: Duration) {
        let measured = measured.as_secs_f64() / estimate.as_secs_f64().max(1e-6);
        let factor = self.factor + (measured.min(*CORRECTION.end()) - self.factor) / SMOOTHING;
        self.factor = factor.clamp(*CORRECTION.start(), *CORRECTION.end());
    }
}

pub(super) fn microseconds(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn cost_approaches_the_measured_time() {
        let mut correction = CostCorrection::default();
        assert_eq!(correction.cost(MS), 1000);
        for _ in 0..200 {
            correction.learn(MS, 3 * MS);
        }
        assert!((2990..=3010).contains(&correction.cost(MS)), "{correction:?}");
    }

    #[test]
    fn cost_of_odd_measurements_stays_in_bounds() {
        let mut correction = CostCorrection::default();
        for (estimate, measured) in [(Duration::ZERO, Duration::MAX), (Duration::MAX, Duration::ZERO)] {
            for _ in 0..1000 {
                correction.learn(estimate, measured);
            }
            assert!((62..=16_000).contains(&correction.cost(MS)), "{correction:?}");
        }
        assert_eq!(correction.cost(Duration::ZERO), 1);
    }
}
