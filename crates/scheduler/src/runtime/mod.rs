//! The threads of the scheduler: engine threads, the timer task, and the lock that they share.

pub(crate) mod engine_thread;
pub(crate) mod timer;
pub(crate) mod inner;
mod engine_waiters;
mod sync;
#[cfg(test)]
mod model_check;
