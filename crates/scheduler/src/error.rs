//! Why a job was not taken, and why a job that was taken has no answer.

use std::time::Duration;

use crate::engine::EngineError;

/// A job was refused at the door: nothing of it is kept, nothing of it will be computed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// As many jobs wait as may.
    #[error("queue is full: limit {limit} jobs")]
    QueueFull {
        /// `max_jobs` of the configuration.
        limit: usize,
        /// When room is to be expected.
        retry_after: Duration,
    },
    /// The images of waiting jobs take as much memory as they may.
    #[error("queued images are full: limit {limit} bytes")]
    BytesFull {
        /// `max_bytes` of the configuration.
        limit: usize,
        /// When room is to be expected.
        retry_after: Duration,
    },
    /// This client has as many jobs waiting as one client may.
    #[error("client's share of the queue is full: limit {limit} jobs")]
    ClientShare {
        /// `max_jobs_per_client` of the configuration.
        limit: usize,
        /// When room is to be expected.
        retry_after: Duration,
    },
    /// The deadline has passed, or by the fitted service model would pass before the answer is there.
    #[error("deadline cannot be met: retry after {} ms", .retry_after.as_millis())]
    TooLate {
        /// When the same job with the same allowance would be taken.
        retry_after: Duration,
    },
    /// The scheduler takes no more work.
    #[error("scheduler is shutting down")]
    ShuttingDown,
    /// No engine is left alive.
    #[error("no engine is alive: {0}")]
    EngineDead(EngineError),
}

impl SubmitError {
    /// The reason as a label of a metric.
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

    /// How long to wait before trying again, where trying again makes sense.
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

/// A job that was taken ended without an answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The deadline passed before the answer was there.
    #[error("deadline exceeded")]
    DeadlineExceeded,
    /// The engine failed on this row, or died with it.
    #[error("engine failed: {0}")]
    Engine(#[from] EngineError),
    /// The scheduler ended before the job's turn came.
    #[error("scheduler is shutting down")]
    ShuttingDown,
}
