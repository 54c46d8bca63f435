//! Chooses batch limits for a target latency, by measurement before the engine serves.
//!
//! A question that arrives when a batch has just started waits for its end and is answered in the
//! next batch. If the next batch holds all that waits, the answer takes two batch times. So one
//! batch may take half of the target.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    engine::{Batch, Engine, EngineError, RowSink},
    limits::BatchLimits,
};

/// Measured runs for each batch size. The slowest counts.
const RUNS: usize = 3;

/// The measured time of one batch size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchTime {
    /// Distinct images. The engine encodes all of them.
    pub images: usize,
    /// Questions about these images.
    pub questions: usize,
    /// The slowest run.
    pub slowest: Duration,
}

/// The chosen batch limits, with the measurements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchSizing {
    /// At most the configured limits, at least one image and one question.
    pub limits: BatchLimits,
    /// The measurements, in order.
    pub measurements: Vec<BatchTime>,
    /// Whether even the smallest batch exceeded half of the target.
    pub is_target_missed: bool,
}

impl BatchSizing {
    /// Runs batches of doubling size until one takes more than half of `p95` or reaches
    /// `configured`.
    ///
    /// The first series has one question for each image. The second series starts from the largest
    /// image count that met the target, and doubles the questions only.
    ///
    /// `batch` returns a batch with the given numbers of images and questions. The images must
    /// differ from those of all earlier batches.
    ///
    /// # Errors
    /// Returns the engine's error if a batch fails.
    pub fn measure<E: Engine>(
        engine: &mut E,
        configured: BatchLimits,
        p95: Duration,
        mut batch: impl FnMut(usize, usize) -> Batch<E::Image, E::Question>,
        now: impl Fn() -> Instant,
    ) -> Result<Self, EngineError> {
        // The first run includes one-time initialization, so it is not measured.
        engine.run(&batch(1, 1), &mut DiscardRows)?;
        let allowed = p95 / 2;
        let mut measurements = Vec::new();
        let mut is_in_time = |images: usize, questions: usize| {
            let mut slowest = Duration::ZERO;
            for _ in 0..RUNS {
                let batch = batch(images, questions);
                let begin = now();
                engine.run(&batch, &mut DiscardRows)?;
                slowest = slowest.max(now() - begin);
                if slowest > allowed {
                    break;
                }
            }
            measurements.push(BatchTime { images, questions, slowest });
            Ok(slowest <= allowed)
        };
        let (mut images, mut questions) = (0, 0);
        for size in doubling(0, configured.max_images.min(configured.max_questions)) {
            if !is_in_time(size, size)? {
                break;
            }
            (images, questions) = (size, size);
        }
        if images > 0 {
            for size in doubling(images, configured.max_questions) {
                if !is_in_time(images, size)? {
                    break;
                }
                questions = size;
            }
        }
        let limits = BatchLimits {
            max_images: images.max(1),
            max_questions: questions.max(1),
            // Same number of tokens for each question as in the configured limits.
            max_padded_tokens: (configured.max_padded_tokens * questions.max(1))
                .div_ceil(configured.max_questions.max(1)),
        };
        Ok(Self { limits, measurements, is_target_missed: images == 0 })
    }
}

/// Returns sizes above `before`, each twice the size before it, and `most` as the last.
fn doubling(before: usize, most: usize) -> impl Iterator<Item = usize> {
    let sizes = std::iter::successors(Some((2 * before).max(1)), |size| size.checked_mul(2));
    sizes.take_while(move |&size| size < most).chain((before < most).then_some(most))
}

/// Discards all outcomes and cancels no row.
struct DiscardRows;

impl<A> RowSink<A> for DiscardRows {
    fn finish(&mut self, _row: usize, _outcome: Result<A, EngineError>) {}

    fn is_cancelled(&self, _row: usize) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, rc::Rc, sync::Arc};

    use super::*;
    use crate::engine::{BatchImage, BatchQuestion, EngineErrorKind};

    /// Takes fixed milliseconds for a batch, an image and a question, on a simulated clock.
    struct FakeEngine {
        clock: Rc<Cell<Duration>>,
        costs: [u64; 3],
        /// Index of the run that takes ten times as long.
        slow_run: Option<usize>,
        runs: usize,
        fails_from_images: usize,
    }

    impl Engine for FakeEngine {
        type Image = ();
        type Question = ();
        type Answer = ();

        fn run(&mut self, batch: &Batch<(), ()>, _rows: &mut dyn RowSink<()>) -> Result<(), EngineError> {
            if batch.images.len() >= self.fails_from_images {
                return Err(EngineError::new(EngineErrorKind::OutOfMemory, "no memory"));
            }
            let [fixed, image, question] = self.costs;
            let time = fixed + image * batch.images.len() as u64 + question * batch.questions.len() as u64;
            let factor = if self.slow_run == Some(self.runs) { 10 } else { 1 };
            self.runs += 1;
            self.clock.set(self.clock.get() + Duration::from_millis(factor * time));
            Ok(())
        }
    }

    fn fake_engine(costs: [u64; 3]) -> FakeEngine {
        FakeEngine { clock: Rc::default(), costs, slow_run: None, runs: 0, fails_from_images: usize::MAX }
    }

    fn limits(max_images: usize, max_questions: usize) -> BatchLimits {
        BatchLimits { max_images, max_questions, max_padded_tokens: 32 * max_questions }
    }

    fn measure(
        mut engine: FakeEngine,
        configured: BatchLimits,
        p95_ms: u64,
    ) -> Result<BatchSizing, EngineError> {
        let (start, clock) = (Instant::now(), Rc::clone(&engine.clock));
        let batch = |images: usize, questions: usize| Batch {
            images: (0..images).map(|_| BatchImage { digest: [0; 32], payload: Arc::new(()) }).collect(),
            questions: (0..questions)
                .map(|row| BatchQuestion { image: row % images, payload: Arc::new(()), tokens: 8 })
                .collect(),
        };
        let now = || start + clock.get();
        BatchSizing::measure(&mut engine, configured, Duration::from_millis(p95_ms), batch, now)
    }

    #[test]
    fn largest_batch_within_half_of_target_is_chosen() {
        // Milliseconds of 4 images: 10 + 4 * 20 + 16 = 106 with 16 questions, 122 with 32.
        // 8 images with 8 questions take 178.
        let sizing = measure(fake_engine([10, 20, 1]), limits(16, 64), 240).unwrap();
        assert_eq!(sizing.limits, limits(4, 16));
        let sizes: Vec<_> = sizing.measurements.iter().map(|row| (row.images, row.questions)).collect();
        assert_eq!(sizes, [(1, 1), (2, 2), (4, 4), (8, 8), (4, 8), (4, 16), (4, 32)]);
        assert_eq!(sizing.measurements[2].slowest, Duration::from_millis(94));
        assert!(!sizing.is_target_missed);
    }

    #[test]
    fn measured_limits_never_exceed_configured_limits() {
        for configured in [limits(16, 64), limits(3, 5), limits(8, 4), limits(1, 1)] {
            let sizing = measure(fake_engine([1, 1, 1]), configured, 60_000).unwrap();
            assert_eq!(sizing.limits.max_images, configured.max_images.min(configured.max_questions));
            assert_eq!(sizing.limits.max_questions, configured.max_questions);
            assert_eq!(sizing.limits.max_padded_tokens, configured.max_padded_tokens);
        }
    }

    #[test]
    fn too_slow_device_is_reported_and_gets_single_jobs() {
        let sizing = measure(fake_engine([500, 1, 1]), limits(16, 64), 100).unwrap();
        assert_eq!(sizing.limits, limits(1, 1));
        assert!(sizing.is_target_missed);
        assert_eq!(sizing.measurements.len(), 1, "nothing larger is tried");
    }

    #[test]
    fn batch_size_is_rejected_after_one_slow_run() {
        let slow_at_two_images = FakeEngine { slow_run: Some(5), ..fake_engine([10, 10, 0]) };
        assert_eq!(measure(slow_at_two_images, limits(4, 4), 200).unwrap().limits, limits(1, 4));
    }

    #[test]
    fn failed_batch_ends_measurement_with_its_error() {
        let engine = FakeEngine { fails_from_images: 4, ..fake_engine([1, 1, 1]) };
        assert_eq!(measure(engine, limits(16, 64), 60_000).unwrap_err().message, "no memory");
    }
}
