//! The handle: start, submit, watch, shut down.

use std::fmt;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::config::SchedulerConfig;
use crate::engine::{Engine, EngineError, EngineErrorKind, EngineFactory};
use crate::engine_thread;
use crate::error::{JobError, Refused};
use crate::health::EngineState;
use crate::job::Job;
use crate::queue::{JobSpec, Queue, Waiting};
use crate::snapshot::Snapshot;
use crate::ticket::{Cancel, JobId, Reply, Ticket};

/// What travels with a job to the engine.
pub(crate) struct Payload<E: Engine> {
    pub(crate) image: Arc<E::Image>,
    pub(crate) question: Arc<E::Question>,
}

struct Locked<E: Engine> {
    queue: Queue<Payload<E>, Reply<E::Answer>>,
    running: usize,
    alive: usize,
}

/// What the handle, the engine threads and the timer have in common.
pub(crate) struct Shared<E: Engine> {
    locked: Mutex<Locked<E>>,
    work: Condvar,
    earlier_deadline: Notify,
    health: watch::Sender<EngineState>,
}

impl<E: Engine> Shared<E> {
    fn lock(&self) -> MutexGuard<'_, Locked<E>> {
        // A panic while the lock is held would be a fault of this crate; the state is still whole enough to drain.
        self.locked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks until there is a batch; none when the scheduler has closed and all is done.
    pub(crate) fn wait_for_batch(&self) -> Option<Vec<Waiting<Payload<E>, Reply<E::Answer>>>> {
        let mut locked = self.lock();
        loop {
            let expired = locked.queue.expire(Instant::now());
            settle(expired, &JobError::DeadlineExceeded);
            let batch = locked.queue.next_batch();
            if !batch.is_empty() {
                locked.running += 1;
                return Some(batch);
            }
            if locked.queue.is_closed() {
                return None;
            }
            locked = self.work.wait(locked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn batch_ended(&self) {
        self.lock().running -= 1;
    }

    pub(crate) fn declare_dead(&self, error: EngineError) {
        let mut locked = self.lock();
        locked.alive -= 1;
        if locked.alive == 0 {
            let rest = locked.queue.declare_dead(error.clone());
            settle(rest, &JobError::Engine(error.clone()));
            self.health.send_replace(EngineState::Dead(error));
        }
    }

    fn close(&self) {
        self.lock().queue.close();
        self.work.notify_all();
        self.earlier_deadline.notify_one();
    }
}

impl<E: Engine> Cancel for Shared<E> {
    fn cancel(&self, job: JobId) {
        drop(self.lock().queue.cancel(job));
    }
}

fn settle<P, A>(jobs: Vec<Waiting<P, Reply<A>>>, error: &JobError) {
    for job in jobs {
        drop(job.waiter.send(Err(error.clone())));
    }
}

/// Answers expired jobs on time, whether or not an engine is busy.
async fn expire_on_time<E: Engine>(shared: Arc<Shared<E>>) {
    loop {
        let next = {
            let mut locked = shared.lock();
            let expired = locked.queue.expire(Instant::now());
            settle(expired, &JobError::DeadlineExceeded);
            if locked.queue.is_closed() && locked.queue.len() == 0 {
                return;
            }
            locked.queue.next_deadline()
        };
        let changed = shared.earlier_deadline.notified();
        match next {
            Some(deadline) => {
                tokio::select! { () = sleep_until(deadline) => (), () = changed => () }
            }
            None => changed.await,
        }
    }
}

/// A thread, and the word that it is about to end (the sender is dropped).
struct EngineThread {
    thread: JoinHandle<()>,
    ended: oneshot::Receiver<()>,
}

/// Closes the queue when the last handle is dropped, so that the engine threads end.
struct LastHandle<E: Engine> {
    shared: Arc<Shared<E>>,
    threads: Mutex<Vec<EngineThread>>,
}

impl<E: Engine> Drop for LastHandle<E> {
    fn drop(&mut self) {
        self.shared.close();
    }
}

/// Gathers the jobs of all clients into batches and runs them on its engines.
///
/// A cheap handle: clone it freely. When the last one is dropped, what is queued is still finished.
pub struct Scheduler<E: Engine> {
    shared: Arc<Shared<E>>,
    last: Arc<LastHandle<E>>,
}

impl<E: Engine> Clone for Scheduler<E> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), last: Arc::clone(&self.last) }
    }
}

impl<E: Engine> fmt::Debug for Scheduler<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scheduler").finish_non_exhaustive()
    }
}

impl<E: Engine> Scheduler<E> {
    /// Starts a thread for each factory and is ready when every engine has been built.
    ///
    /// # Errors
    /// The error of the first engine that could not be built; the others are let go again.
    pub async fn start(config: SchedulerConfig, engines: Vec<EngineFactory<E>>) -> Result<Self, EngineError> {
        let (health, _) = watch::channel(EngineState::Ready);
        let shared = Arc::new(Shared {
            locked: Mutex::new(Locked { queue: Queue::new(config), running: 0, alive: engines.len() }),
            work: Condvar::new(),
            earlier_deadline: Notify::new(),
            health,
        });
        let last = Arc::new(LastHandle { shared: Arc::clone(&shared), threads: Mutex::new(Vec::new()) });
        let mut built = Vec::new();
        for (index, factory) in engines.into_iter().enumerate() {
            let (ready, is_ready) = oneshot::channel();
            let (alive, ended) = oneshot::channel::<()>();
            let (shared, runtime) = (Arc::clone(&shared), Handle::current());
            let thread = std::thread::Builder::new()
                .name(format!("engine-{index}"))
                .spawn(move || {
                    // Gives this thread the runtime's clock, paused in tests.
                    let _clock = runtime.enter();
                    engine_thread::serve(&shared, factory, ready);
                    drop(alive);
                })
                .map_err(|error| {
                    EngineError::new(
                        EngineErrorKind::Fatal,
                        format!("cannot start an engine thread: {error}"),
                    )
                })?;
            last.threads.lock().unwrap_or_else(PoisonError::into_inner).push(EngineThread { thread, ended });
            built.push(is_ready);
        }
        for is_ready in built {
            is_ready.await.unwrap_or_else(|_| {
                Err(EngineError::new(EngineErrorKind::Fatal, "engine thread ended while it started"))
            })?;
        }
        tokio::spawn(expire_on_time(Arc::clone(&shared)));
        Ok(Self { shared, last })
    }

    /// Queues a job, or refuses it at once.
    ///
    /// # Errors
    /// See [`Refused`].
    pub fn submit(&self, job: Job<E::Image, E::Question>) -> Result<Ticket<E::Answer>, Refused> {
        let (reply, outcome) = oneshot::channel();
        let spec = JobSpec {
            client: job.client,
            deadline: job.deadline,
            image: job.image,
            image_bytes: job.image_bytes,
            tokens: job.tokens,
        };
        let payload = Payload { image: job.image_payload, question: job.question };
        let has_deadline = job.deadline.is_some();
        let id = self.shared.lock().queue.submit(Instant::now(), spec, payload, reply)?;
        self.shared.work.notify_one();
        if has_deadline {
            self.shared.earlier_deadline.notify_one();
        }
        Ok(Ticket::new(outcome, id, Arc::clone(&self.shared) as Arc<dyn Cancel>))
    }

    /// Takes no more jobs, finishes those that are queued, and ends the engine threads.
    pub async fn shutdown(&self) {
        self.shared.close();
        let threads = std::mem::take(&mut *self.last.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for EngineThread { thread, ended } in threads {
            // Awaited first, so that joining does not block the runtime.
            drop(ended.await);
            drop(thread.join());
        }
    }

    /// Whether the engines can work, now and in the future.
    pub fn engine_health(&self) -> watch::Receiver<EngineState> {
        self.shared.health.subscribe()
    }

    /// The state of the queue at this moment.
    pub fn snapshot(&self) -> Snapshot {
        let locked = self.shared.lock();
        Snapshot { queued_jobs: locked.queue.len(), running_batches: locked.running }
    }
}
