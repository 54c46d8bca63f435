//! A bounded thread pool for blocking, CPU-bound work of async callers.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
};

use tokio::sync::oneshot;

/// A pool with a bounded number of threads and a bounded queue.
///
/// - The pool skips work whose caller has dropped its future.
/// - A panic of a closure is the error of its caller only.
/// - Clones share the pool. Dropping the last clone finishes the queued work and joins the threads.
#[derive(Clone, Debug)]
pub struct CpuPool {
    threads: Arc<WorkerThreads>,
}

/// The reason why a closure returned no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The queue is full.
    #[error("cpu pool queue is full: at most {limit} waiting closures allowed")]
    QueueFull {
        /// The largest number of waiting closures.
        limit: usize,
    },
    /// The closure panicked.
    #[error("closure on the cpu pool panicked")]
    Panicked,
}

/// The number of closures by outcome since the pool was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Closures that returned.
    pub finished: u64,
    /// Closures that never ran because their callers had left.
    pub skipped: u64,
    /// Closures that panicked.
    pub panicked: u64,
    /// Closures that were rejected because the queue was full.
    pub refused: u64,
    /// Closures that are waiting now.
    pub queued: u64,
}

impl CpuPool {
    /// Starts a pool of `threads` threads (at least one) and a queue of `queue_limit` closures.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub fn new(threads: usize, queue_limit: usize) -> std::io::Result<Self> {
        let inner = Arc::new(Inner {
            queue_limit,
            queue: Mutex::new(Queue { work: VecDeque::new(), idle: 0, closed: false }),
            work_available: Condvar::new(),
            counters: Counters::default(),
        });
        let mut pool = WorkerThreads { inner, handles: Vec::new() };
        for n in 0..threads.max(1) {
            let inner = Arc::clone(&pool.inner);
            let thread = thread::Builder::new().name(format!("images-cpu-{n}"));
            pool.handles.push(thread.spawn(move || inner.run_worker())?);
        }
        Ok(Self { threads: Arc::new(pool) })
    }

    /// Runs `work` on the pool and returns its result.
    ///
    /// Dropping the future drops work that has not started.
    ///
    /// # Errors
    /// [`PoolError`]. A full queue is reported at the first poll, without waiting.
    pub async fn run<T, F>(&self, work: F) -> Result<T, PoolError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.threads.inner.push(Box::new(Closure { work, sender }))?;
        // The sender is dropped without a message only when the closure panics.
        receiver.await.map_err(|_| PoolError::Panicked)
    }

    /// Returns the number of closures by outcome.
    #[must_use]
    pub fn counters(&self) -> PoolCounters {
        let inner = &self.threads.inner;
        let Counters { finished, skipped, panicked, refused } = &inner.counters;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolCounters {
            finished: read(finished),
            skipped: read(skipped),
            panicked: read(panicked),
            refused: read(refused),
            queued: inner.queue().work.len() as u64,
        }
    }
}

struct WorkerThreads {
    inner: Arc<Inner>,
    handles: Vec<JoinHandle<()>>,
}

impl fmt::Debug for WorkerThreads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerThreads").field("threads", &self.handles.len()).finish_non_exhaustive()
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.inner.queue().closed = true;
        self.inner.work_available.notify_all();
        let current = thread::current().id();
        for handle in self.handles.drain(..) {
            // A closure on the pool may drop the last clone. Its thread cannot join itself.
            if handle.thread().id() != current {
                // Workers catch all panics, so the result is always `Ok`.
                let _ = handle.join();
            }
        }
    }
}

struct Inner {
    queue_limit: usize,
    queue: Mutex<Queue>,
    work_available: Condvar,
    counters: Counters,
}

struct Queue {
    work: VecDeque<Box<dyn Work>>,
    /// Threads that wait for work.
    idle: usize,
    closed: bool,
}

#[derive(Default)]
struct Counters {
    finished: AtomicU64,
    skipped: AtomicU64,
    panicked: AtomicU64,
    refused: AtomicU64,
}

impl Inner {
    fn push(&self, work: Box<dyn Work>) -> Result<(), PoolError> {
        let mut queue = self.queue();
        // Abandoned work is removed before new work is rejected.
        if queue.work.len() >= self.queue_limit + queue.idle {
            let before = queue.work.len();
            queue.work.retain(|waiting| !waiting.is_abandoned());
            add(&self.counters.skipped, (before - queue.work.len()) as u64);
        }
        if queue.work.len() >= self.queue_limit + queue.idle {
            add(&self.counters.refused, 1);
            return Err(PoolError::QueueFull { limit: self.queue_limit });
        }
        queue.work.push_back(work);
        drop(queue);
        self.work_available.notify_one();
        Ok(())
    }

    fn run_worker(&self) {
        while let Some(work) = self.next() {
            if work.is_abandoned() {
                add(&self.counters.skipped, 1);
                continue;
            }
            match catch_unwind(AssertUnwindSafe(|| work.run(&self.counters))) {
                Ok(()) => {}
                Err(_) => add(&self.counters.panicked, 1),
            }
        }
    }

    /// Waits for the next closure. Returns `None` when the pool is closed and the queue is empty.
    fn next(&self) -> Option<Box<dyn Work>> {
        let mut queue = self.queue();
        loop {
            if let Some(work) = queue.work.pop_front() {
                return Some(work);
            }
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            queue = self.work_available.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }

    // Closures run without the lock, so a panic cannot leave the queue inconsistent.
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    counter.fetch_add(amount, Ordering::Relaxed);
}

trait Work: Send {
    fn is_abandoned(&self) -> bool;
    fn run(self: Box<Self>, counters: &Counters);
}

struct Closure<F, T> {
    work: F,
    sender: oneshot::Sender<T>,
}

impl<F, T> Work for Closure<F, T>
where
    F: FnOnce() -> T + Send,
    T: Send,
{
    fn is_abandoned(&self) -> bool {
        self.sender.is_closed()
    }

    fn run(self: Box<Self>, counters: &Counters) {
        let result = (self.work)();
        // Counts before it sends, so that a caller with a result sees it counted.
        add(&counters.finished, 1);
        // Sending fails only when the caller has left.
        let _ = self.sender.send(result);
    }
}

#[cfg(test)]
mod tests;
