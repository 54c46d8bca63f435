//! Coefficients of the time of a batch.

use std::time::Duration;

/// The time of a batch in seconds, by what it contains.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostCoefficients {
    /// For the batch itself.
    pub batch: f64,
    /// For each image to encode.
    pub image: f64,
    /// For each question.
    pub question: f64,
    /// For each decode step of the batch.
    pub step: f64,
}

impl CostCoefficients {
    /// Coefficients before any observation. Only their proportions matter: they divide the first
    /// observed time, and they set the cost of an image relative to a question.
    pub const PROPORTIONS: Self = Self { batch: 0.001, image: 0.008, question: 0.001, step: 0.001 };

    pub(super) const fn as_array(self) -> [f64; 4] {
        [self.batch, self.image, self.question, self.step]
    }

    pub(super) const fn from_array([batch, image, question, step]: [f64; 4]) -> Self {
        Self { batch, image, question, step }
    }

    /// Returns the seconds for a batch of this shape.
    pub fn seconds(&self, shape: BatchShape) -> f64 {
        dot(self.as_array(), shape.features())
    }
}

/// The numbers of a batch that its time depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchShape {
    /// Images to encode. Cached images do not count.
    pub images: f64,
    /// Questions.
    pub questions: f64,
    /// Decode steps of the batch.
    pub steps: f64,
}

impl BatchShape {
    pub(super) const fn features(self) -> [f64; 4] {
        [1.0, self.images, self.questions, self.steps]
    }
}

/// Converts seconds to a duration. Negative numbers and NaN become zero.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

pub(super) fn dot(a: [f64; 4], b: [f64; 4]) -> f64 {
    a.into_iter().zip(b).map(|(x, y)| x * y).sum()
}
