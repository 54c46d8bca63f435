//! The cost model: `batch + image * images + question * questions + step * steps`, fitted online.
//!
//! The fit is a weighted least squares with these properties:
//!
//! - Old observations decay, so the fit follows a device that warms up or slows down.
//! - Huber weights limit the effect of outliers.
//! - No coefficient is negative, so a larger batch never has a shorter prediction.
//! - Coordinate descent starts from the last fit. Coefficients that the data do not determine stay
//!   close to their last values. For example, constant step counts do not determine `step`.
//!
//! The first batches on a device often take many times longer than later ones. So a fit without a
//! prior restarts after four batches, and counts as calibrated only after further images were
//! encoded.

use std::time::Duration;

use super::coefficients::{BatchShape, CostCoefficients, dot, duration};

/// Weight of an observation when the next one is added.
const MEMORY: f64 = 0.97;
/// A residual of more than this many typical residuals loses weight.
const HUBER: f64 = 2.0;
/// A residual counts for at most this many typical ones, when the typical one is updated.
const CLIP: f64 = 4.0;
/// Rounds of coordinate descent for each observation.
const SWEEPS: usize = 24;
/// First observations, which are discarded because the device warms up.
const WARM_UP: u64 = 4;
/// Observations before a fit without a prior is calibrated.
const CALIBRATED_AFTER: u64 = 8;
/// How many of those after the warm-up must have encoded an image.
const CALIBRATED_AFTER_WITH_IMAGES: u64 = 3;

/// A prior weighs as much as one batch each with these images, questions and steps.
const PRIOR_SHAPES: [(f64, f64, f64); 5] =
    [(1.0, 1.0, 4.0), (4.0, 4.0, 4.0), (1.0, 8.0, 4.0), (2.0, 4.0, 2.0), (0.0, 4.0, 6.0)];

/// The fitted prediction of a batch's time.
#[derive(Clone, Debug)]
pub struct CostModel {
    coefficients: CostCoefficients,
    /// Decayed sum of `x * x^T`, where `x` are the features.
    gram: [[f64; 4]; 4],
    /// Decayed sum of `x * seconds`.
    moment: [f64; 4],
    /// Typical absolute residual in seconds.
    spread: f64,
    typical_steps: f64,
    observations: u64,
    /// Observations after the warm-up that encoded an image.
    observations_with_images: u64,
    has_prior: bool,
}

impl CostModel {
    /// Creates a model. With a prior it is calibrated from the start.
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

    /// Updates the fit with a batch that succeeded.
    pub fn observe(&mut self, shape: BatchShape, time: Duration) {
        let seconds = time.as_secs_f64();
        let is_warming_up = !self.is_calibrated();
        self.restart(shape, seconds);
        self.observations += 1;
        self.observations_with_images += u64::from(shape.images > 0.0 && self.observations > WARM_UP);
        self.typical_steps +=
            (shape.steps - self.typical_steps) * if self.observations == 1 { 1.0 } else { 0.1 };

        let residual = (seconds - self.coefficients.seconds(shape)).abs();
        let floor = 0.02 * seconds.max(1e-6);
        // No observation is an outlier before the typical residual is known.
        let is_outlier = !is_warming_up && residual > HUBER * self.spread;
        let weight = if is_outlier { HUBER * self.spread / residual } else { 1.0 };
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

    /// Scales the initial proportions to the observation, at the first one and after the warm-up.
    fn restart(&mut self, shape: BatchShape, seconds: f64) {
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

    /// Returns whether there are enough data for predictions to decide about jobs.
    pub const fn is_calibrated(&self) -> bool {
        self.has_prior
            || (self.observations >= CALIBRATED_AFTER
                && self.observations_with_images >= CALIBRATED_AFTER_WITH_IMAGES)
    }

    /// Returns the current coefficients.
    pub const fn coefficients(&self) -> CostCoefficients {
        self.coefficients
    }

    /// Returns the number of observed batches.
    pub const fn observations(&self) -> u64 {
        self.observations
    }

    /// Returns the seconds of a batch that do not depend on its size, with typical decode steps.
    pub fn fixed_seconds(&self) -> f64 {
        self.coefficients.batch + self.coefficients.step * self.typical_steps
    }

    /// Returns the seconds for a batch with these images to encode and questions.
    pub fn seconds(&self, images: usize, questions: usize) -> f64 {
        self.fixed_seconds()
            + self.coefficients.image * images as f64
            + self.coefficients.question * questions as f64
    }

    /// Returns [`seconds`](Self::seconds) as a duration.
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
        // Coprime periods: all combinations of sizes occur.
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
    fn fit_recovers_true_coefficients() {
        let mut model = CostModel::new(None);
        learn(&mut model, TRUTH, 0..200);
        assert!(error(&model, TRUTH) < 0.02, "{:?}", model.coefficients());
        assert!((model.coefficients().image - TRUTH.image).abs() < 0.002, "{:?}", model.coefficients());
    }

    #[test]
    fn fit_is_robust_to_one_outlier() {
        let mut model = CostModel::new(None);
        learn(&mut model, TRUTH, 0..200);
        model.observe(shape(3), Duration::from_secs(30));
        assert!(error(&model, TRUTH) < 0.10, "{}", error(&model, TRUTH));
        learn(&mut model, TRUTH, 200..260);
        assert!(error(&model, TRUTH) < 0.03, "{}", error(&model, TRUTH));
    }

    #[test]
    fn fit_follows_device_that_becomes_three_times_slower() {
        let mut model = CostModel::new(None);
        learn(&mut model, TRUTH, 0..200);
        let slow = CostCoefficients::from_array(TRUTH.as_array().map(|coefficient| 3.0 * coefficient));
        learn(&mut model, slow, 0..200);
        assert!(error(&model, slow) < 0.05, "{}", error(&model, slow));
    }

    #[test]
    fn equal_batches_are_predicted_without_known_proportions() {
        let mut model = CostModel::new(None);
        for _ in 0..50 {
            model.observe(BatchShape { images: 1.0, questions: 1.0, steps: 4.0 }, Duration::from_millis(100));
        }
        assert!((model.seconds(1, 1) - 0.1).abs() < 0.002, "{}", model.seconds(1, 1));
        assert!(model.seconds(2, 1) > model.seconds(1, 1));
    }

    #[test]
    fn coefficients_are_never_negative() {
        let mut model = CostModel::new(None);
        for n in 0..100 {
            // More questions in less time would make a coefficient negative.
            let questions = 1 + n % 10;
            model.observe(
                BatchShape { images: 1.0, questions: questions as f64, steps: 4.0 },
                Duration::from_millis(100 - 5 * questions),
            );
            assert!(model.coefficients().as_array().iter().all(|coefficient| *coefficient >= 0.0));
        }
    }

    #[test]
    fn prior_outweighs_one_batch() {
        let mut model = CostModel::new(Some(TRUTH));
        model.observe(shape(3), Duration::from_secs(1));
        assert!(error(&model, TRUTH) < 0.35, "{}", error(&model, TRUTH));
    }

    #[test]
    fn model_without_prior_is_calibrated_after_eight_batches() {
        let mut model = CostModel::new(None);
        learn(&mut model, TRUTH, 0..7);
        assert!(!model.is_calibrated());
        learn(&mut model, TRUTH, 7..8);
        assert!(model.is_calibrated());
        assert!(CostModel::new(Some(TRUTH)).is_calibrated());
    }

    #[test]
    fn slow_first_batches_lose_their_effect_after_calibration() {
        let mut model = CostModel::new(None);
        for n in 0..2 {
            model.observe(shape(n), duration(100.0 * TRUTH.seconds(shape(n))));
        }
        learn(&mut model, TRUTH, 2..40);
        assert!(error(&model, TRUTH) < 0.10, "{}", error(&model, TRUTH));
    }

    #[test]
    fn model_needs_several_new_images_for_calibration() {
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
