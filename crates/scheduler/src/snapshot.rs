//! The scheduler's state at one moment, for people and for tests.

/// What waits and what runs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// Jobs that wait.
    pub queued_jobs: usize,
    /// Batches that run.
    pub running_batches: usize,
}
