//! A piece of work on the pool, from its caller to a thread.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::oneshot;

/// What a thread of a pool owns and passes to the work that it runs.
pub trait PoolWorker: Send + 'static {
    /// Returns what interrupts the work of this worker.
    fn interrupt(&self) -> Arc<dyn Interrupt>;

    /// Prepares the worker on its thread, before the first piece of work.
    fn begin(&mut self) {}

    /// Returns the CPU time that other processes have used for the last piece of work.
    fn take_cpu_time(&mut self) -> Duration {
        Duration::ZERO
    }
}

/// Interrupts the work of one thread, from another thread.
pub trait Interrupt: fmt::Debug + Send + Sync {
    /// Prepares for the next piece of work.
    fn reset(&self);
    /// Interrupts the current piece of work: its caller has left.
    fn abandon(&self);
    /// Interrupts the current piece of work and all later ones.
    fn stop(&self);
}

/// The state of a piece of work, shared by its caller and its thread.
#[derive(Debug, Default)]
pub(super) struct JobSlot(Mutex<JobState>);

#[derive(Debug, Default)]
enum JobState {
    #[default]
    Waiting,
    Running(Arc<dyn Interrupt>),
    Abandoned,
    Ended,
}

impl JobSlot {
    pub(super) fn is_abandoned(&self) -> bool {
        matches!(*self.state(), JobState::Abandoned)
    }

    /// Begins the work on the thread of `interrupt`. Returns false if the caller has left.
    pub(super) fn begin(&self, interrupt: &Arc<dyn Interrupt>) -> bool {
        let mut state = self.state();
        let begins = matches!(*state, JobState::Waiting);
        if begins {
            interrupt.reset();
            *state = JobState::Running(Arc::clone(interrupt));
        }
        begins
    }

    /// Ends the work. Its thread can no longer be interrupted because of it.
    pub(super) fn end(&self) {
        *self.state() = JobState::Ended;
    }

    fn abandon(&self) {
        let mut state = self.state();
        match &*state {
            JobState::Ended => {}
            // Under the lock, so that the thread cannot begin other work meanwhile.
            JobState::Running(interrupt) => interrupt.abandon(),
            JobState::Waiting | JobState::Abandoned => *state = JobState::Abandoned,
        }
    }

    // Each change is one assignment, so a panic cannot leave the state inconsistent.
    fn state(&self) -> MutexGuard<'_, JobState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Abandons a piece of work when its caller drops it.
#[derive(Debug)]
pub(super) struct Abandon(pub(super) Arc<JobSlot>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// A piece of work.
pub(super) trait Work<W>: Send {
    fn slot(&self) -> &Arc<JobSlot>;

    /// Runs the work, calls `finished`, and sends the result to the caller.
    fn run(self: Box<Self>, worker: &mut W, finished: &dyn Fn());
}

pub(super) struct Closure<F, T> {
    pub(super) work: F,
    pub(super) sender: oneshot::Sender<T>,
    pub(super) slot: Arc<JobSlot>,
}

impl<F, T, W> Work<W> for Closure<F, T>
where
    F: FnOnce(&mut W) -> T + Send,
    T: Send + 'static,
{
    fn slot(&self) -> &Arc<JobSlot> {
        &self.slot
    }

    fn run(self: Box<Self>, worker: &mut W, finished: &dyn Fn()) {
        let Self { work, sender, slot } = *self;
        let result = work(worker);
        // A caller with a result must neither interrupt the thread nor miss the result in the
        // counters.
        slot.end();
        finished();
        // Sending fails only when the caller has left.
        let _ = sender.send(result);
    }
}
