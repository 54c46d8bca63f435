//! How long batches take, and what a job is charged for.

mod job_cost;
mod model;
mod coefficients;

pub(crate) use coefficients::duration;
pub use coefficients::{Coefficients, Shape};
pub(crate) use job_cost::{DEAREST, QUESTION, TurnPrice};
pub use model::ServiceModel;
