//! The scheduler's state at one moment, for people and for tests.

use std::time::Duration;

use crate::{cost::CostCoefficients, limits::BatchLimits};

/// What waits and what runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Jobs taken and not settled.
    pub jobs: usize,
    /// How many there may be.
    pub job_limit: usize,
    /// Jobs answered so far.
    pub answered: u64,
    /// Batches that ended in an error or a panic so far.
    pub failed_batches: u64,
    /// Pieces of work in the queue by class, high to low; jobs for the same count once.
    pub queued: [usize; 3],
    /// Pieces of work whose deadline cannot be met.
    pub infeasible: usize,
    /// RowSink of failed batches that are to be run again.
    pub to_retry: usize,
    /// Clients with jobs.
    pub clients: usize,
    /// Bytes of images that jobs hold.
    pub image_bytes: usize,
    /// Images known, with jobs or in an engine's cache.
    pub images: usize,
    /// The fitted service model.
    pub coefficients: CostCoefficients,
    /// Batches it was fitted to.
    pub batches_observed: u64,
    /// No more jobs are taken.
    pub is_closing: bool,
    /// Each engine.
    pub engines: Vec<EngineSnapshot>,
}

/// What an engine does.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineSnapshot {
    /// Whether it can work.
    pub is_alive: bool,
    /// How large its batches may be now.
    pub limits: BatchLimits,
    /// RowSink of the batch that runs; zero when none does.
    pub rows: usize,
    /// Those that are not finished.
    pub rows_left: usize,
    /// How long the batch has been running.
    pub running_for: Duration,
}
