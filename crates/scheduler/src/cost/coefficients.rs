//! Seconds that a batch takes, by what is in it.

use std::time::Duration;

/// Seconds that a batch takes, and each thing in it adds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CostCoefficients {
    /// Of any batch, in seconds.
    pub batch: f64,
    /// Of an image to encode, in seconds.
    pub image: f64,
    /// Of a question, in seconds.
    pub question: f64,
    /// Of a decode step of the whole batch, in seconds.
    pub step: f64,
}

impl CostCoefficients {
    /// Where nothing has been observed only the proportions of this matter: they divide the first
    /// observation among the coefficients, and weigh images against questions in fairness.
    pub const PROPORTIONS: Self = Self { batch: 0.001, image: 0.008, question: 0.001, step: 0.001 };

    pub(super) const fn as_array(self) -> [f64; 4] {
        [self.batch, self.image, self.question, self.step]
    }

    pub(super) const fn from_array([batch, image, question, step]: [f64; 4]) -> Self {
        Self { batch, image, question, step }
    }

    /// Seconds for a batch of this shape.
    pub fn seconds(&self, shape: BatchShape) -> f64 {
        dot(self.as_array(), shape.features())
    }
}

/// What the time of a batch depends on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BatchShape {
    /// Images that are encoded; those whose features are cached are not counted.
    pub images: f64,
    /// Questions answered.
    pub questions: f64,
    /// Decode steps of the batch.
    pub steps: f64,
}

impl BatchShape {
    pub(super) const fn features(self) -> [f64; 4] {
        [1.0, self.images, self.questions, self.steps]
    }
}

/// Seconds as a duration; what no duration can be (negative, not a number) is zero.
pub(crate) fn duration(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

pub(super) fn dot(a: [f64; 4], b: [f64; 4]) -> f64 {
    a.into_iter().zip(b).map(|(x, y)| x * y).sum()
}
