//! The cost of a job, which fair queueing charges to its client.
//!
//! The unit is one question, not a second. A question about a cached image costs 1. A question
//! whose image must be encoded costs as many questions as the engine could answer in that time, by
//! the cost model, and at most [`MAX_COST`].
//!
//! So a device that is slow at first, or a wrong model, displaces a job only by a stated number of
//! jobs. Costs of the past remain comparable when the device becomes slower or faster.

use super::model::CostModel;
use crate::limits::BatchLimits;

/// Cost units of one question.
pub(crate) const QUESTION_COST: u64 = 1000;

/// Maximum cost of a job, in questions.
pub(crate) const MAX_COST: u64 = 16;

/// Questions of an ordinary request. The credit of a client is their cost, with one new image.
const REQUEST_QUESTIONS: u64 = 10;

/// The costs of jobs at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobCost {
    with_image: u64,
}

impl JobCost {
    /// Compares the engine time of a job in a full batch of jobs with and without a new image.
    ///
    /// Each job carries its share of the batch's fixed time, which is most of the time of small
    /// batches.
    pub(crate) fn from_model(model: &CostModel, limits: BatchLimits) -> Self {
        let jobs = limits.max_questions.max(1);
        let images = limits.max_images.clamp(1, jobs);
        let each = |fresh: usize, jobs: usize| model.seconds(fresh, jobs) / jobs as f64;
        let (plain, with_image) = (each(0, jobs), each(images, images));
        let questions = (with_image / plain).min(MAX_COST as f64);
        // NaN, if nothing takes any time, becomes the minimum.
        Self { with_image: QUESTION_COST.max((questions * QUESTION_COST as f64) as u64) }
    }

    /// Returns the cost of a job, by whether its image must be encoded.
    pub(crate) const fn of_job(self, encodes: bool) -> u64 {
        if encodes { self.with_image } else { QUESTION_COST }
    }

    /// Returns the cost of an ordinary request.
    pub(crate) const fn of_request(self) -> u64 {
        self.with_image + (REQUEST_QUESTIONS - 1) * QUESTION_COST
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::CostCoefficients;

    const LIMITS: BatchLimits = BatchLimits { max_images: 16, max_questions: 64, max_padded_tokens: 2048 };

    fn cost(batch: f64, image: f64, question: f64, limits: BatchLimits) -> JobCost {
        let prior = CostCoefficients { batch, image, question, step: 0.0 };
        JobCost::from_model(&CostModel::new(Some(prior)), limits)
    }

    #[test]
    fn job_cost_of_new_image_follows_engine_time() {
        let cost = cost(0.0, 0.003, 0.001, LIMITS);
        assert_eq!((cost.of_job(false), cost.of_job(true)), (QUESTION_COST, 4 * QUESTION_COST));
        assert_eq!(cost.of_request(), 13 * QUESTION_COST);
    }

    #[test]
    fn job_cost_stays_in_range_for_any_cost_model() {
        for image in [0.0, 1e-9, 1e-3, 1e6, f64::INFINITY, f64::NAN] {
            for question in [0.0, 1e-9, 1e-3] {
                let cost = cost(0.0, image, question, LIMITS);
                assert!(
                    (QUESTION_COST..=MAX_COST * QUESTION_COST).contains(&cost.of_job(true)),
                    "{image} {question} {cost:?}"
                );
            }
        }
    }

    #[test]
    fn job_cost_includes_share_of_fixed_time() {
        let alone = BatchLimits { max_questions: 1, ..LIMITS };
        // A batch takes 20 ms. An image takes 100 times as long as a question, and is still
        // negligible.
        assert_eq!(cost(0.020, 1e-4, 1e-6, alone).of_job(true) / QUESTION_COST, 1);
        assert_eq!(cost(0.020, 1e-4, 1e-6, LIMITS).of_job(true) / QUESTION_COST, 4);
    }
}
