//! The reasons why a call has no answer.

use std::time::Duration;

/// The reason why a call has no answer. Each but the last two ended the process.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The call used more CPU time than allowed.
    #[error("too much CPU time: more than {limit:?}")]
    CpuLimit {
        /// The CPU time allowed.
        limit: Duration,
    },
    /// The process needed more memory than allowed.
    #[error("too much memory: more than {limit} bytes")]
    MemoryLimit {
        /// The memory allowed, in bytes.
        limit: u64,
    },
    /// The deadline of the call has passed.
    #[error("the deadline has passed")]
    Deadline,
    /// The caller has left, or the server stops.
    #[error("the caller has left")]
    Cancelled,
    /// The process ended by itself, or another process ended it.
    #[error("the worker process ended: {how}")]
    Crashed {
        /// The exit status.
        how: String,
    },
    /// The input does not fit in the shared memory.
    #[error("input too large: {bytes} bytes, {limit} bytes allowed")]
    InputTooLarge {
        /// The size of the input.
        bytes: usize,
        /// The largest allowed input.
        limit: usize,
    },
    /// No process is running, and none can be started now.
    #[error("no worker process: {cause}")]
    Unavailable {
        /// The reason.
        cause: String,
    },
}

impl CallError {
    /// Returns the stable, machine-readable name of this error.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::CpuLimit { .. } => "cpu_limit",
            Self::MemoryLimit { .. } => "memory_limit",
            Self::Deadline => "deadline",
            Self::Cancelled => "hang_up",
            Self::Crashed { .. } => "crash",
            Self::InputTooLarge { .. } => "input_too_large",
            Self::Unavailable { .. } => "start_failed",
        }
    }
}
