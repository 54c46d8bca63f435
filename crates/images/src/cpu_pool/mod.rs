//! A bounded pool of threads for heavy, blocking work on behalf of async callers.

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

/// Threads and a queue, both bounded. Work whose caller has left is skipped, and a panic is the
/// error of its own caller only. Clones share the pool; the last one to go lets the queue run dry
/// and waits for the threads.
#[derive(Clone, Debug)]
pub struct CpuPool {
    threads: Arc<WorkerThreads>,
}

/// Why a closure did not give its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// As many closures wait as may.
    #[error("cpu pool queue is full, the limit is {limit}")]
    QueueFull {
        /// The most closures that may wait.
        limit: usize,
    },
    /// The closure panicked.
    #[error("work on the cpu pool panicked")]
    Panicked,
}

/// What has become of the closures so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolCounters {
    /// Ran to their end.
    pub finished: u64,
    /// Never ran: their callers had left.
    pub skipped: u64,
    /// Panicked.
    pub panicked: u64,
    /// Were refused because the queue was full.
    pub refused: u64,
    /// Wait now.
    pub queued: u64,
}

impl CpuPool {
    /// A pool of `threads` threads (at least one) before which at most `queue_limit` closures wait.
    ///
    /// # Errors
    /// The operating system's, if it gives no thread.
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
            pool.handles.push(thread.spawn(move || inner.work())?);
        }
        Ok(Self { threads: Arc::new(pool) })
    }

    /// Queues `work` and gives its result. Dropping the future drops work that has not begun.
    ///
    /// # Errors
    /// [`PoolError`]; a full queue is told at the first poll, without waiting.
    pub async fn run<T, F>(&self, work: F) -> Result<T, PoolError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.threads.inner.push(Box::new(Closure { work, sender }))?;
        // The sender goes without a word only if the closure's panic took it along.
        receiver.await.map_err(|_| PoolError::Panicked)
    }

    /// What has become of the closures so far.
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
        f.debug_struct("Threads").field("threads", &self.handles.len()).finish_non_exhaustive()
    }
}

impl Drop for WorkerThreads {
    fn drop(&mut self) {
        self.inner.queue().closed = true;
        self.inner.work_available.notify_all();
        let current = thread::current().id();
        for handle in self.handles.drain(..) {
            // The last handle may be dropped by the pool's own work, which cannot wait for itself.
            if handle.thread().id() != current {
                // A worker catches its work's panics; there is nothing left to report.
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
    /// Threads that wait for work and that no queued closure is meant for yet.
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
        // What callers have left makes room for those who have not.
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

    fn work(&self) {
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

    /// The next closure, as soon as there is one; `None` once the pool is closed and its queue dry.
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

    // Work runs outside of the lock, so a panic cannot leave the queue half-changed.
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
        // Counted before it is told, so that who has the result sees the count.
        add(&counters.finished, 1);
        // A caller who has just left does not need it.
        let _ = self.sender.send(result);
    }
}

#[cfg(test)]
mod tests;
