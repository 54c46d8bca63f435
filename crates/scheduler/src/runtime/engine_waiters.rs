//! The lock on the state, and a condition variable for each engine.
//!
//! `super::sync` provides both: from the standard library, or in unit tests from the model checker
//! that explores thread interleavings (`super::model_check`).

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError, yield_now};

/// A state behind a lock, and the engine threads that wait for its changes.
#[derive(Debug)]
pub(crate) struct EngineWaiters<S> {
    state: Mutex<S>,
    condvars: Vec<Condvar>,
}

impl<S> EngineWaiters<S> {
    pub(crate) fn new(state: S, engines: usize) -> Self {
        Self { state: Mutex::new(state), condvars: (0..engines).map(|_| Condvar::new()).collect() }
    }

    /// Locks the state. Code of engines and clients never runs under this lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes an engine's thread. The caller has changed the state before.
    pub(crate) fn notify(&self, engine: usize) {
        if let Some(condvar) = self.condvars.get(engine) {
            condvar.notify_one();
        }
    }

    /// Blocks an engine's thread until `poll` returns something, and returns it.
    ///
    /// `poll` runs again after each notification. The lock is held from a `poll` without result to
    /// the wait, so no notification is lost.
    ///
    /// The thread yields once before it waits. On idle processors this costs less than a
    /// microsecond. On busy processors, questions that are still being read arrive meanwhile. They
    /// form one batch, and none of them has to wake the thread.
    pub(crate) fn wait_until<T>(
        &self,
        engine: usize,
        mut poll: impl FnMut(&mut S) -> Option<T>,
    ) -> Option<T> {
        let condvar = self.condvars.get(engine)?;
        if let Some(found) = poll(&mut self.lock()) {
            return Some(found);
        }
        yield_now();
        let mut state = self.lock();
        loop {
            if let Some(found) = poll(&mut state) {
                return Some(found);
            }
            state = condvar.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
