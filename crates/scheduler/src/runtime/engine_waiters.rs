//! Where threads meet: the state under its lock, and a condvar for each engine.
//!
//! `super::sync` names the lock and the condvar: the standard library's, or those of the model checker
//! that tries the interleavings (see `interleavings`).

use super::sync::{Condvar, Mutex, MutexGuard, PoisonError, yield_now};

#[derive(Debug)]
pub(crate) struct EngineWaiters<S> {
    state: Mutex<S>,
    condvars: Vec<Condvar>,
}

impl<S> EngineWaiters<S> {
    pub(crate) fn new(state: S, engines: usize) -> Self {
        Self { state: Mutex::new(state), condvars: (0..engines).map(|_| Condvar::new()).collect() }
    }

    /// The state. No code of the engine or of an asker ever runs under this lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, S> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes an engine. What it is woken for has been written to the state before.
    pub(crate) fn notify(&self, engine: usize) {
        if let Some(condvar) = self.condvars.get(engine) {
            condvar.notify_one();
        }
    }

    /// Blocks an engine's thread until `look` finds something in the state. It looks again whenever
    /// the engine's condvar rings; between a look in vain and the wait the lock is not given up, so no
    /// notify is missed.
    ///
    /// Before it sleeps the thread lets others go first, once. Where the processors are idle that
    /// costs less than a microsecond; where they are busy, the questions whose bytes wait to be read
    /// arrive meanwhile, are taken as one batch, and none of them has to wake the thread.
    pub(crate) fn wait_until<T>(
        &self,
        engine: usize,
        mut look: impl FnMut(&mut S) -> Option<T>,
    ) -> Option<T> {
        let condvar = self.condvars.get(engine)?;
        if let Some(found) = look(&mut self.lock()) {
            return Some(found);
        }
        yield_now();
        let mut state = self.lock();
        loop {
            if let Some(found) = look(&mut state) {
                return Some(found);
            }
            state = condvar.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
