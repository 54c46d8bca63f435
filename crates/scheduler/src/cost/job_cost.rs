//! What a job's turn is charged in fair queueing.
//!
//! Counted in questions and not in seconds: a question about an image that need not be encoded is 1, and one
//! whose image has to be encoded is as many as it takes the engine time of, by the fitted service
//! model, but at most [`MAX_COST`]. So neither a device that is slow at first nor a model that is wrong
//! can put one client behind another by more than a stated number of jobs, and what was charged in
//! the past stays comparable when the device becomes slower or faster.

use super::model::CostModel;
use crate::limits::BatchLimits;

/// One question, in the unit of charges.
pub(crate) const QUESTION_COST: u64 = 1000;

/// Most that a job is charged, in questions.
pub(crate) const MAX_COST: u64 = 16;

/// Questions in an ordinary request: the credit of a client is the cost of so many about one new image.
const REQUEST_QUESTIONS: u64 = 10;

/// The cost of a turn, by the model's fit at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct JobCost {
    with_image: u64,
}

impl JobCost {
    /// Compares the engine time that each kind of job takes in a batch full of its kind. The fixed time of a
    /// batch is divided among its jobs: where batches are small it is most of what any job costs.
    pub(crate) fn from_model(model: &CostModel, limits: BatchLimits) -> Self {
        let jobs = limits.max_questions.max(1);
        let images = limits.max_images.clamp(1, jobs);
        let each = |fresh: usize, jobs: usize| model.seconds(fresh, jobs) / jobs as f64;
        let (plain, with_image) = (each(0, jobs), each(images, images));
        let questions = (with_image / plain).min(MAX_COST as f64);
        // Not a number, where nothing takes any time, counts as the least.
        Self { with_image: QUESTION_COST.max((questions * QUESTION_COST as f64) as u64) }
    }

    /// The cost of a job, which has its image encoded for it or not.
    pub(crate) const fn of_job(self, encodes: bool) -> u64 {
        if encodes { self.with_image } else { QUESTION_COST }
    }

    /// The cost of an ordinary request.
    pub(crate) const fn of_request(self) -> u64 {
        self.with_image + (REQUEST_QUESTIONS - 1) * QUESTION_COST
    }
}

#[cfg(test)]
mod tests {
    use super::{super::coefficients::CostCoefficients, *};

    const LIMITS: BatchLimits = BatchLimits { max_images: 16, max_questions: 64, max_padded_tokens: 2048 };

    fn cost(batch: f64, image: f64, question: f64, limits: BatchLimits) -> JobCost {
        let prior = CostCoefficients { batch, image, question, step: 0.0 };
        JobCost::from_model(&CostModel::new(Some(prior)), limits)
    }

    #[test]
    fn a_question_costs_one_and_its_image_what_it_takes_of_the_engine() {
        let cost = cost(0.0, 0.003, 0.001, LIMITS);
        assert_eq!((cost.of_job(false), cost.of_job(true)), (QUESTION_COST, 4 * QUESTION_COST));
        assert_eq!(cost.of_request(), 13 * QUESTION_COST);
    }

    #[test]
    fn no_belief_makes_a_turn_cheaper_than_a_question_or_dearer_than_sixteen() {
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
    fn where_a_batch_holds_one_job_its_fixed_time_is_part_of_the_price_of_each() {
        let alone = BatchLimits { max_questions: 1, ..LIMITS };
        // A batch takes 20 ms; an image a hundred times as long as a question, and still next to nothing.
        assert_eq!(cost(0.020, 1e-4, 1e-6, alone).of_job(true) / QUESTION_COST, 1);
        assert_eq!(cost(0.020, 1e-4, 1e-6, LIMITS).of_job(true) / QUESTION_COST, 4);
    }
}
