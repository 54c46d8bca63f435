//! Predicted times of batches, and costs of jobs.

mod job_cost;
mod decode_limit;
mod model;
mod coefficients;

pub(crate) use coefficients::duration;
pub use coefficients::{BatchShape, CostCoefficients};
pub(crate) use decode_limit::DecodeLimit;
pub(crate) use job_cost::{JobCost, MAX_COST, QUESTION_COST};
pub use model::CostModel;
