//! The lock and the condition variables of [`EngineWaiters`](super::engine_waiters): the standard library's, or in unit
//! tests those of the model checker.

pub(super) use std::sync::PoisonError;
#[cfg(not(test))]
pub(super) use std::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::yield_now,
};

#[cfg(test)]
pub(super) use shuttle::{
    sync::{Condvar, Mutex, MutexGuard},
    thread::yield_now,
};
