//! Where threads meet: the state under its lock, and a bell for each engine.
//!
//! `super::sync` names the lock and the bell: the standard library's, or those of the model checker
//! that tries the interleavings (see `interleavings`).

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Gate<S> {
    state: Mutex<S>,
    bells: Vec<Condvar>,
}

impl<S> Gate<S> {
    pub(crate) fn new(state: S, engines: usize) -> Self {
        Self { state: Mutex::new(state), bells: (0..engines).map(|_| Condvar::new()).collect() }
    }

    /// The state. No code of the engine or of an asker ever runs under this lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes an engine. What it is woken for has been written to the state before.
    pub(crate) fn ring(&self, engine: usize) {
        if let Some(bell) = self.bells.get(engine) {
            bell.notify_one();
        }
    }

    /// Blocks an engine's thread until `look` finds something in the state. It looks again whenever
    /// the engine's bell rings; between a look in vain and the wait the lock is not given up, so no
    /// ring is missed.
    pub(crate) fn wait_until<T>(
        &self,
        engine: usize,
        mut look: impl FnMut(&mut S) -> Option<T>,
    ) -> Option<T> {
        let bell = self.bells.get(engine)?;
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            state = bell.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
