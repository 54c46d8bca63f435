//! How long a batch takes: `a + b * images + c * questions + d * steps`, fitted to what is observed.
//!
//! Weighted least squares with forgetting, so that the fit follows a device that warms up or slows
//! down; Huber weights, so that one stray batch does not bend it; coefficients never negative, so
//! that a prediction never shrinks when a batch grows. The minimum is approached by coordinate
//! descent from the last fit, which also settles what the data leave open (steps that never vary
//! cannot be told from the constant): such coefficients stay near where they were.
//!
//! The first batches on a device often take many times as long as all that follow. So a fit without a
//! prior starts anew after four, and is not believed before it has seen images encoded several times since.

use std::time::Duration;

use super::coefficients::{BatchShape, CostCoefficients, dot, duration};

/// What a batch before counts for when the next one is observed.
const MEMORY: f64 = 0.97;
/// A residual of more than this many typical residuals loses weight.
const HUBER: f64 = 2.0;
/// No residual counts for more than this many typical ones in the estimate of the typical one.
const CLIP: f64 = 4.0;
/// Rounds of coordinate descent for each observation.
const SWEEPS: usize = 24;
/// First observations that are forgotten: the device warms up.
const WARM_UP: u64 = 4;
/// Observations before a fit without a prior is believed, and how many of those after the warm-up must
/// have encoded an image.
const CALIBRATED_AFTER: u64 = 8;
const CALIBRATED_AFTER_WITH_IMAGES: u64 = 3;

/// A prior counts for as much as having seen batches of these images, questions and steps.
const PRIOR_SHAPES: [(f64, f64, f64); 5] =
    [(1.0, 1.0, 4.0), (4.0, 4.0, 4.0), (1.0, 8.0, 4.0), (2.0, 4.0, 2.0), (0.0, 4.0, 6.0)];

/// The fit, and what it stands on.
#[derive(Clone, Debug)]
pub struct CostModel {
    coefficients: CostCoefficients,
    /// Decayed sum of `x * x^T`, the features' products.
    gram: [[f64; 4]; 4],
    /// Decayed sum of `x * seconds`.
    moment: [f64; 4],
    /// Typical absolute residual, seconds.
    spread: f64,
    typical_steps: f64,
    observations: u64,
    /// Of those after the warm-up.
    observations_with_images: u64,
    has_prior: bool,
}

impl CostModel {
    /// A model that believes `prior` from the start, or nothing for its first eight batches.
    pub fn new(prior: Option<CostCoefficients>) -> Self {
        let mut model = Self {
            coefficients: prior.unwrap_or(CostCoefficients::PROPORTIONS),
            gram: [[0.0; 4]; 4],
            moment: [0.0; 4],
            spread: 0.0,
            typical_steps: 4.0,
            observations: 0,
            observations_with_images: 0,
            has_prior: prior.is_some(),
        };
        if let Some(prior) = prior {
            for (images, questions, steps) in PRIOR_SHAPES {
                let shape = BatchShape { images, questions, steps };
                model.absorb(shape, prior.seconds(shape), 1.0);
            }
            model.spread = 0.1 * prior.seconds(BatchShape { images: 1.0, questions: 1.0, steps: 4.0 });
        }
        model
    }

    /// Learns from a batch that ran to its end without an error.
    pub fn observe(&mut self, shape: BatchShape, took: Duration) {
        let seconds = took.as_secs_f64();
        let warms_up = !self.is_calibrated();
        self.start_from(shape, seconds);
        self.observations += 1;
        self.observations_with_images += u64::from(shape.images > 0.0 && self.observations > WARM_UP);
        self.typical_steps +=
            (shape.steps - self.typical_steps) * if self.observations == 1 { 1.0 } else { 0.1 };

        let residual = (seconds - self.coefficients.seconds(shape)).abs();
        let floor = 0.02 * seconds.max(1e-6);
        // What is typical has to be known before anything counts as a stray.
        let stray = !warms_up && residual > HUBER * self.spread;
        let weight = if stray { HUBER * self.spread / residual } else { 1.0 };
        self.spread = (0.9 * self.spread + 0.1 * residual.min(CLIP * self.spread)).max(floor);

        self.absorb(shape, seconds, weight);
        self.descend();
    }

    fn absorb(&mut self, shape: BatchShape, seconds: f64, weight: f64) {
        let features = shape.features();
        for ((row, moment), x) in self.gram.iter_mut().zip(&mut self.moment).zip(features) {
            for (cell, y) in row.iter_mut().zip(features) {
                *cell = *cell * MEMORY + weight * x * y;
            }
            *moment = *moment * MEMORY + weight * x * seconds;
        }
    }

    /// Before the first observation, and before the first after the warm-up: scales the proportions so
    /// that they explain it.
    fn start_from(&mut self, shape: BatchShape, seconds: f64) {
        if self.has_prior || (self.observations > 0 && self.observations != WARM_UP) {
            return;
        }
        (self.gram, self.moment) = ([[0.0; 4]; 4], [0.0; 4]);
        self.coefficients = CostCoefficients::PROPORTIONS;
        self.spread = 0.25 * seconds.max(1e-6);
        let predicted = self.coefficients.seconds(shape);
        if predicted > 0.0 {
            let scale = seconds / predicted;
            self.coefficients = CostCoefficients::from_array(
                self.coefficients.as_array().map(|coefficient| coefficient * scale),
            );
        }
    }

    fn descend(&mut self) {
        let mut theta = self.coefficients.as_array();
        for _ in 0..SWEEPS {
            for (index, (row, moment)) in self.gram.iter().zip(self.moment).enumerate() {
                let slope = moment - dot(*row, theta);
                if let (Some(curvature), Some(coefficient)) = (row.get(index), theta.get_mut(index))
                    && *curvature > 0.0
                {
                    *coefficient = (*coefficient + slope / curvature).max(0.0);
                }
            }
        }
        self.coefficients = CostCoefficients::from_array(theta);
    }

    /// Whether predictions may decide over jobs.
    pub const fn is_calibrated(&self) -> bool {
        self.has_prior
            || (self.observations >= CALIBRATED_AFTER
                && self.observations_with_images >= CALIBRATED_AFTER_WITH_IMAGES)
    }

    /// The fit as it is.
    pub const fn coefficients(&self) -> CostCoefficients {
        self.coefficients
    }

    /// Batches observed.
    pub const fn observations(&self) -> u64 {
        self.observations
    }

    /// Seconds of a batch that do not depend on what is in it, the typical number of steps included.
    pub fn fixed_seconds(&self) -> f64 {
        self.coefficients.batch + self.coefficients.step * self.typical_steps
    }

    /// Seconds for a batch of so many images to encode and so many questions, with the typical number of steps.
    pub fn seconds(&self, images: usize, questions: usize) -> f64 {
        self.fixed_seconds()
            + self.coefficients.image * images as f64
            + self.coefficients.question * questions as f64
    }

    /// [`seconds`](Self::seconds) as a duration.
    pub fn predict(&self, images: usize, questions: usize) -> Duration {
        duration(self.seconds(images, questions))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRUTH: CostCoefficients =
        CostCoefficients { batch: 0.010, image: 0.020, question: 0.002, step: 0.003 };

    fn shape(n: u64) -> BatchShape {
        // Coprime periods: every combination of sizes comes up.
        BatchShape { images: (n % 5) as f64, questions: (1 + n % 7) as f64, steps: (2 + n % 3) as f64 }
    }

    fn learn(model: &mut CostModel, truth: CostCoefficients, batches: std::ops::Range<u64>) {
        for n in batches {
            model.observe(shape(n), duration(truth.seconds(shape(n))));
        }
    }

    fn error(model: &CostModel, truth: CostCoefficients) -> f64 {
        (0..35)
            .map(|n| (model.coefficients().seconds(shape(n)) / truth.seconds(shape(n)) - 1.0).abs())
            .fold(0.0, f64::max)
    }

    #[test]
    fn the_fit_finds_the_coefficients_that_made_the_data() {
        let mut model = CostModel::new(None);
        learn(&mut model, TRUTH, 0..200);
        assert!(error(&model, TRUTH) < 0.02, "{:?}", model.coefficients());
        assert!((model.coefficients().image - TRUTH.image).abs() < 0.002, "{:?}", model.coefficients());
    }

    #[test]
    fn one_stray_batch_does_not_bend_the_fit() {
        let mut model = CostModel::new(None);
        learn(&mut model, TRUTH, 0..200);
        model.observe(shape(3), Duration::from_secs(30));
        assert!(error(&model, TRUTH) < 0.10, "{}", error(&model, TRUTH));
        learn(&mut model, TRUTH, 200..260);
        assert!(error(&model, TRUTH) < 0.03, "{}", error(&model, TRUTH));
    }

    #[test]
    fn a_device_that_becomes_three_times_slower_is_followed() {
        let mut model = CostModel::new(None);
        learn(&mut model, TRUTH, 0..200);
        let slow = CostCoefficients::from_array(TRUTH.as_array().map(|coefficient| 3.0 * coefficient));
        learn(&mut model, slow, 0..200);
        assert!(error(&model, slow) < 0.05, "{}", error(&model, slow));
    }

    #[test]
    fn batches_that_are_all_alike_are_predicted_though_they_teach_no_proportions() {
        let mut model = CostModel::new(None);
        for _ in 0..50 {
            model.observe(BatchShape { images: 1.0, questions: 1.0, steps: 4.0 }, Duration::from_millis(100));
        }
        assert!((model.seconds(1, 1) - 0.1).abs() < 0.002, "{}", model.seconds(1, 1));
        assert!(model.seconds(2, 1) > model.seconds(1, 1));
    }

    #[test]
    fn no_coefficient_is_ever_negative() {
        let mut model = CostModel::new(None);
        for n in 0..100 {
            // More questions, less time: nonsense that would pull a coefficient below zero.
            let questions = 1 + n % 10;
            model.observe(
                BatchShape { images: 1.0, questions: questions as f64, steps: 4.0 },
                Duration::from_millis(100 - 5 * questions),
            );
            assert!(model.coefficients().as_array().iter().all(|coefficient| *coefficient >= 0.0));
        }
    }

    #[test]
    fn a_prior_is_not_forgotten_over_one_batch() {
        let mut model = CostModel::new(Some(TRUTH));
        model.observe(shape(3), Duration::from_secs(1));
        assert!(error(&model, TRUTH) < 0.35, "{}", error(&model, TRUTH));
    }

    #[test]
    fn a_model_without_a_prior_is_believed_after_eight_batches() {
        let mut model = CostModel::new(None);
        learn(&mut model, TRUTH, 0..7);
        assert!(!model.is_calibrated());
        learn(&mut model, TRUTH, 7..8);
        assert!(model.is_calibrated());
        assert!(CostModel::new(Some(TRUTH)).is_calibrated());
    }

    #[test]
    fn slow_first_batches_are_forgotten_soon_after_the_model_is_believed() {
        let mut model = CostModel::new(None);
        for n in 0..2 {
            model.observe(shape(n), duration(100.0 * TRUTH.seconds(shape(n))));
        }
        learn(&mut model, TRUTH, 2..40);
        assert!(error(&model, TRUTH) < 0.10, "{}", error(&model, TRUTH));
    }

    #[test]
    fn what_an_image_takes_is_not_believed_of_a_first_batch_alone() {
        let mut model = CostModel::new(None);
        model.observe(BatchShape { images: 1.0, questions: 1.0, steps: 3.0 }, Duration::from_secs(2));
        let cached = BatchShape { images: 0.0, questions: 1.0, steps: 3.0 };
        for _ in 0..50 {
            model.observe(cached, Duration::from_millis(2));
        }
        assert!(!model.is_calibrated());
        for _ in 0..3 {
            model.observe(BatchShape { images: 1.0, ..cached }, Duration::from_millis(10));
        }
        assert!(model.is_calibrated());
        assert!(model.seconds(1, 1) < 0.020, "{}", model.seconds(1, 1));
    }
}
