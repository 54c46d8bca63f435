//! The state of a scheduler at one time, for reports and tests.

use std::time::Duration;

use crate::{cost::CostCoefficients, limits::BatchLimits};

/// The state of a scheduler at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Accepted jobs that are not settled.
    pub jobs: usize,
    /// Maximum of `jobs`.
    pub job_limit: usize,
    /// Answered jobs so far.
    pub answered: u64,
    /// Batches so far that ended with an error or a panic.
    pub failed_batches: u64,
    /// Queued pending jobs by class, from high to low. Identical jobs count once.
    pub queued: [usize; 3],
    /// Pending jobs that cannot meet their deadline.
    pub infeasible: usize,
    /// Rows of failed batches that will be retried.
    pub to_retry: usize,
    /// Clients with jobs.
    pub clients: usize,
    /// Image bytes of all jobs.
    pub image_bytes: usize,
    /// Known images: those of jobs and those in an engine's cache.
    pub images: usize,
    /// Coefficients of the cost model.
    pub coefficients: CostCoefficients,
    /// Batches that the cost model was fitted to.
    pub batches_observed: u64,
    /// Whether the scheduler accepts no more jobs.
    pub is_closing: bool,
    /// The engines.
    pub engines: Vec<EngineSnapshot>,
}

/// The state of an engine.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSnapshot {
    /// Whether the engine can work.
    pub is_alive: bool,
    /// Current limits of its batches.
    pub limits: BatchLimits,
    /// Rows of the running batch, 0 if none runs.
    pub rows: usize,
    /// Rows of the running batch that are not finished.
    pub rows_left: usize,
    /// Time since the running batch started.
    pub running_for: Duration,
}
