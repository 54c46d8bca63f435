//! Lock and condition variable of [`EngineWaiters`](super::engine_waiters): those of the standard
//! library, or in unit tests those of the model checker. The latter work only inside a check.

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
