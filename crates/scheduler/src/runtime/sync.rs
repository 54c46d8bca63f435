//! The lock and the condition variables of [`EngineWaiters`](super::engine_waiters): the standard library's, or in unit
//! tests those of the model checker.

#[cfg(not(test))]
mod primitives {
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::thread::yield_now;
}

#[cfg(test)]
mod primitives {
    pub(crate) use shuttle::sync::{Condvar, Mutex, MutexGuard};
    pub(crate) use shuttle::thread::yield_now;
}

pub(crate) use primitives::{Condvar, Mutex, MutexGuard, yield_now};
pub(crate) use std::sync::PoisonError;
