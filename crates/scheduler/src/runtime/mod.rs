//! Engine threads, the timer task, and the lock that they share.

pub(crate) mod engine_thread;
pub(crate) mod engine_waiters;
pub(crate) mod inner;
#[cfg(test)]
mod model_check;
mod sync;
