//! Errors of the pool.

/// The reason why a closure returned no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The queue is full.
    #[error("cpu pool queue is full: at most {limit} waiting closures allowed")]
    QueueFull {
        /// The largest number of waiting closures.
        limit: usize,
    },
    /// The closure panicked.
    #[error("closure on the cpu pool panicked")]
    Panicked,
}
