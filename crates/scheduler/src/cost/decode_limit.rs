//! The decode steps of a batch that keep it within a time, adjusted after each batch.
//!
//! The cost model counts questions, whatever they decode. A batch of questions with many beams and
//! long answers takes a hundred times as long as it predicts. The time of a step depends on the
//! device and on the number of rows, so this limit follows the measured times of whole batches.

use std::time::Duration;

/// The minimum limit: one question with many beams, or sixteen ordinary captions.
const MIN_STEPS: u64 = 1000;

/// The limit before anything is known of the device.
const FIRST_STEPS: u64 = 4 * MIN_STEPS;

/// The limit on the steps of all hypotheses of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DecodeLimit(u64);

impl Default for DecodeLimit {
    fn default() -> Self {
        Self(FIRST_STEPS)
    }
}

impl DecodeLimit {
    pub(crate) fn steps(self) -> u64 {
        self.0
    }

    /// Adjusts the limit after a batch of at most `steps` steps, which should decode for `target`.
    /// It took `took`, of which it encoded images for `encoding`.
    pub(crate) fn observe(&mut self, steps: u64, took: Duration, encoding: Duration, target: Duration) {
        // Matches, rankings and embeddings do not decode.
        if steps == 0 {
            return;
        }
        let decoding = took.saturating_sub(encoding);
        if decoding > target {
            // The time of an image varies too much to draw conclusions from the small rest.
            if decoding >= encoding {
                let fitting = steps as f64 * target.as_secs_f64() / decoding.as_secs_f64();
                self.0 = self.0.min((fitting as u64).max(MIN_STEPS));
            }
        } else if steps >= self.0 / 2 {
            self.0 = self.0.saturating_add(self.0 / 4);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Duration = Duration::from_millis(500);

    /// Runs batches of costly questions of 1000 steps on a device, and returns the last one's time.
    fn last_batch(limit: &mut DecodeLimit, time: impl Fn(u64) -> Duration) -> Duration {
        let mut last = Duration::ZERO;
        for _ in 0..50 {
            let steps = 64_000.min(limit.steps() / 1000 * 1000);
            last = time(steps);
            limit.observe(steps, last, Duration::ZERO, TARGET);
        }
        last
    }

    #[test]
    fn slow_batches_become_shorter_on_device_whose_rows_add_up() {
        let mut limit = DecodeLimit::default();
        let last = last_batch(&mut limit, |steps| Duration::from_micros(78 * steps));
        assert!((TARGET / 2..TARGET * 5 / 4).contains(&last), "{last:?}");
    }

    #[test]
    fn batches_stay_large_on_device_whose_rows_run_in_parallel() {
        let mut limit = DecodeLimit::default();
        last_batch(&mut limit, |steps| Duration::from_micros(400_000 + steps));
        assert!(limit.steps() >= 64_000, "{limit:?}");
        // A pause of the machine lowers the limit for a short time only.
        limit.observe(64_000, Duration::from_secs(10), Duration::ZERO, TARGET);
        assert!(limit.steps() < 4000);
        last_batch(&mut limit, |steps| Duration::from_micros(400_000 + steps));
        assert!(limit.steps() >= 64_000, "{limit:?}");
    }

    #[test]
    fn slow_images_do_not_change_the_limit() {
        let mut limit = DecodeLimit::default();
        limit.observe(50, Duration::from_secs(9), Duration::from_secs(8), TARGET);
        assert_eq!(limit.steps(), FIRST_STEPS);
        limit.observe(0, Duration::from_secs(9), Duration::ZERO, TARGET);
        assert_eq!(limit.steps(), FIRST_STEPS);
        limit.observe(50, Duration::from_secs(9), Duration::from_secs(1), TARGET);
        assert_eq!(limit.steps(), MIN_STEPS);
    }
}
