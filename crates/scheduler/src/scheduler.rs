//! The public handle: start, submit, observe, shut down.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};
use tokio::time::Instant;

use crate::{
    config::SchedulerConfig,
    engine::{Engine, EngineError, EngineErrorKind, EngineFactory},
    engine_state::EngineState,
    error::SubmitError,
    job::Job,
    runtime::{engine_thread, inner::Inner, timer::run_timer},
    snapshot::Snapshot,
    state_machine::{JobSpec, MAX_ENGINES, StateMachine},
    ticket::{Cancel, Ticket},
};

/// An engine thread. `ended` resolves when the thread is about to end.
struct EngineThread {
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

/// Closes the scheduler when the last handle is dropped, so that the engine threads end.
struct LastHandle<E: Engine> {
    inner: Arc<Inner<E>>,
    threads: Mutex<Vec<EngineThread>>,
}

impl<E: Engine> Drop for LastHandle<E> {
    fn drop(&mut self) {
        self.inner.close();
    }
}

/// Collects the jobs of all clients into batches and runs them on its engines.
///
/// Clones share one scheduler. When the last clone is dropped, the engines still run all queued
/// jobs.
pub struct Scheduler<E: Engine> {
    inner: Arc<Inner<E>>,
    last: Arc<LastHandle<E>>,
}

impl<E: Engine> Clone for Scheduler<E> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), last: Arc::clone(&self.last) }
    }
}

impl<E: Engine> fmt::Debug for Scheduler<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").finish_non_exhaustive()
    }
}

impl<E: Engine> Scheduler<E> {
    /// Starts a thread for each factory and returns when every engine is built.
    ///
    /// Metrics go to the recorder that is installed at this time.
    ///
    /// # Errors
    /// Returns the error of the first engine that could not be built. The other engines stop.
    pub async fn start(config: SchedulerConfig, engines: Vec<EngineFactory<E>>) -> Result<Self, EngineError> {
        if engines.is_empty() || engines.len() > MAX_ENGINES {
            let message = format!("invalid number of engines: {}, 1 to {MAX_ENGINES} allowed", engines.len());
            return Err(EngineError::new(EngineErrorKind::Fatal, message));
        }
        let inner = Arc::new(Inner::new(StateMachine::new(config, engines.len()), engines.len()));
        let last = Arc::new(LastHandle { inner: Arc::clone(&inner), threads: Mutex::new(Vec::new()) });
        let mut built = Vec::new();
        for (index, factory) in engines.into_iter().enumerate() {
            let (ready, is_ready) = oneshot::channel();
            let thread = spawn(Arc::clone(&inner), index, factory, ready).map_err(|error| {
                EngineError::new(EngineErrorKind::Fatal, format!("cannot start an engine thread: {error}"))
            })?;
            last.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
            built.push(is_ready);
        }
        for is_ready in built {
            is_ready.await.unwrap_or_else(|_| {
                Err(EngineError::new(EngineErrorKind::Fatal, "engine thread ended while it started"))
            })?;
        }
        // Ends when the scheduler is closed and every job is settled.
        tokio::spawn(run_timer(Arc::clone(&inner)));
        Ok(Self { inner, last })
    }

    /// Queues a job or rejects it.
    ///
    /// # Errors
    /// See [`SubmitError`].
    pub fn submit(&self, job: Job<E::Image, E::Question>) -> Result<Ticket<E::Answer>, SubmitError> {
        let (sender, receiver) = oneshot::channel();
        let spec = JobSpec {
            client: job.client,
            priority: job.priority,
            weight: job.weight,
            deadline: job.deadline,
            image_digest: job.image_digest,
            image_bytes: job.image_bytes,
            question_key: job.question_key,
            tokens: job.tokens,
            decode_steps: job.decode_steps,
        };
        let id = self.inner.apply(|machine, now, effects| {
            machine.submit(now, &spec, job.image, job.question, sender, effects)
        })?;
        Ok(Ticket::new(receiver, id, Arc::clone(&self.inner) as Arc<dyn Cancel>))
    }

    /// Accepts no more jobs, runs the queued ones, and ends the engine threads.
    ///
    /// Has no time limit. To end sooner, drop the future and end the process.
    pub async fn shutdown(&self) {
        self.inner.close();
        let threads = std::mem::take(&mut *self.last.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for EngineThread { thread, ended } in threads {
            // Await first: joining would block the runtime.
            drop(ended.await);
            drop(thread.join());
        }
    }

    /// Returns a receiver of the engines' combined state and its changes.
    pub fn engine_state(&self) -> watch::Receiver<EngineState> {
        self.inner.engine_state.subscribe()
    }

    /// Returns the current state for reports and tests.
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        self.inner.inspect(|machine| machine.snapshot(now))
    }
}

fn spawn<E: Engine>(
    inner: Arc<Inner<E>>,
    index: usize,
    factory: EngineFactory<E>,
    ready: oneshot::Sender<Result<(), EngineError>>,
) -> std::io::Result<EngineThread> {
    let runtime = Handle::current();
    let (alive, ended) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name(format!("engine-{index}")).spawn(move || {
        // Gives this thread the runtime's clock, which tests pause.
        let _clock = runtime.enter();
        let served = catch_unwind(AssertUnwindSafe(|| engine_thread::serve(&inner, index, factory, ready)));
        if served.is_err() {
            // Reached only if an engine panics while it is dropped.
            let error = EngineError::new(EngineErrorKind::Fatal, "engine panicked outside of a batch");
            inner.apply(|machine, _, effects| machine.engine_died(index, error, effects));
            inner.publish_state();
        }
        drop(alive);
    })?;
    Ok(EngineThread { thread, ended })
}
