//! Errors of a submission and of an accepted job.

use std::time::Duration;

use crate::engine::EngineError;

/// Why the scheduler rejected a job. Nothing of the job is stored.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// The queue holds its maximum number of jobs.
    #[error("queue is full: {held} jobs held, {limit} allowed")]
    QueueFull {
        /// Jobs in the queue.
        held: usize,
        /// `max_jobs` of the configuration.
        limit: usize,
        /// Expected time until the queue has space.
        retry_after: Duration,
    },
    /// The images of the client's jobs occupy its share of the image memory.
    #[error("image memory of the queue is full: {held} bytes held by the client, {limit} allowed")]
    BytesFull {
        /// Bytes of the client's images.
        held: usize,
        /// The bytes that they may have at this time, at most `max_bytes` of the configuration.
        limit: usize,
        /// Expected time until the queue has space.
        retry_after: Duration,
    },
    /// The client's jobs occupy its share of the queue.
    #[error("client's share of the queue is full: {held} jobs held, {limit} allowed")]
    ClientShare {
        /// Jobs of the client.
        held: usize,
        /// The jobs that it may have at this time, at most `max_jobs_per_client` of the
        /// configuration.
        limit: usize,
        /// Expected time until the queue has space.
        retry_after: Duration,
    },
    /// The deadline has passed, or would pass before the answer by the cost model.
    #[error("deadline cannot be met: retry after {} ms", .retry_after.as_millis())]
    TooLate {
        /// Time after which a job with the same time limit would be accepted.
        retry_after: Duration,
    },
    /// The scheduler accepts no more jobs.
    #[error("scheduler is shutting down")]
    ShuttingDown,
    /// All engines are dead.
    #[error("no engine is alive: {0}")]
    EngineDead(EngineError),
}

impl SubmitError {
    /// Returns the reason as a metric label.
    pub const fn label(&self) -> &'static str {
        match self {
            Self::QueueFull { .. } => "queue_full",
            Self::BytesFull { .. } => "bytes_full",
            Self::ClientShare { .. } => "client_share",
            Self::TooLate { .. } => "too_late",
            Self::ShuttingDown => "shutting_down",
            Self::EngineDead(_) => "engine_dead",
        }
    }

    /// Returns the time before a retry, if a retry is useful.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::QueueFull { retry_after, .. }
            | Self::BytesFull { retry_after, .. }
            | Self::ClientShare { retry_after, .. }
            | Self::TooLate { retry_after } => Some(*retry_after),
            Self::ShuttingDown | Self::EngineDead(_) => None,
        }
    }
}

/// Why an accepted job ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The deadline passed before the answer was available.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// The engine failed on this row, or died while it ran the row.
    #[error("engine failed: {0}")]
    Engine(#[from] EngineError),
    /// The scheduler ended before it ran the job.
    #[error("scheduler is shutting down")]
    ShuttingDown,
}
