//! How long batches take, and what a job is charged for.

pub(crate) mod job_cost;
pub(crate) mod model;
