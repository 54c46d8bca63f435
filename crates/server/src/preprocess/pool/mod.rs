//! A bounded pool of threads for blocking, CPU-bound work of async callers.
//!
//! Each thread owns a [`PoolWorker`], such as the process that decodes its images.

mod waiting_line;
mod job;
mod cost;
mod counters;
mod origin;
mod error;
#[cfg(test)]
mod tests;

use std::{
    fmt, io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use cpu_time::ThreadTime;
use tokio::sync::oneshot;

use counters::Counters;
use job::{Abandon, Closure, JobSlot, Work};
use waiting_line::{Waiting, WaitingLine};

pub use counters::PoolCounters;
pub use error::PoolError;
pub use job::{Interrupt, PoolWorker};
pub use origin::Origin;

/// A pool with a bounded number of threads and a bounded queue.
///
/// - Waiting work is served in the order of the scheduler's queue: by class, and fairly among
///   clients by their weights. Its cost is CPU time. Clients share the places in the queue.
/// - While several clients send work, one of several threads takes no long work.
/// - The pool skips work whose caller has dropped its future, and interrupts it if it runs.
/// - A panic of a closure is the error of its caller only.
/// - Clones share the pool. Dropping the last clone interrupts all work, and waits for none.
pub struct CpuPool<W> {
    threads: Arc<Threads<W>>,
}

impl<W: PoolWorker> CpuPool<W> {
    /// Starts a pool with one thread for each of `workers` and a queue of `queue_limit` closures.
    ///
    /// # Errors
    /// The operating system cannot start a thread.
    pub fn new(workers: Vec<W>, queue_limit: usize) -> io::Result<Self> {
        let interrupts = workers.iter().map(PoolWorker::interrupt).collect();
        let inner = Arc::new(Inner {
            line: Mutex::new(WaitingLine::new(workers.len(), queue_limit)),
            work_available: Condvar::new(),
            counters: Counters::default(),
        });
        // Dropped on an error, which ends the threads that have started.
        let threads = Arc::new(Threads { inner: Arc::clone(&inner), interrupts });
        for (n, worker) in workers.into_iter().enumerate() {
            let inner = Arc::clone(&inner);
            let thread = thread::Builder::new().name(format!("preprocess-{n}"));
            thread.spawn(move || inner.run_thread(worker))?;
        }
        Ok(Self { threads })
    }

    /// Runs `work` on the pool and returns its result. The work takes about `estimate` CPU time.
    ///
    /// Dropping the future drops work that has not started, and interrupts work that has.
    ///
    /// # Errors
    /// [`PoolError`]. A full queue is reported at the first poll, without waiting.
    pub async fn run<T, F>(&self, origin: Origin, estimate: Duration, work: F) -> Result<T, PoolError>
    where
        T: Send + 'static,
        F: FnOnce(&mut W) -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let slot = Arc::new(JobSlot::default());
        let abandon = Abandon(Arc::clone(&slot));
        self.threads.inner.push(Box::new(Closure { work, sender, slot }), origin, estimate)?;
        // The sender is dropped without a message only when the closure panics.
        let result = receiver.await.map_err(|_| PoolError::Panicked);
        drop(abandon);
        result
    }

    /// Returns the number of closures by outcome.
    #[must_use]
    pub fn counters(&self) -> PoolCounters {
        let Inner { counters, .. } = &*self.threads.inner;
        counters.read(self.threads.inner.line().len())
    }
}

impl<W> Clone for CpuPool<W> {
    fn clone(&self) -> Self {
        Self { threads: Arc::clone(&self.threads) }
    }
}

impl<W> fmt::Debug for CpuPool<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CpuPool").field("threads", &self.threads.interrupts.len()).finish_non_exhaustive()
    }
}

struct Threads<W> {
    inner: Arc<Inner<W>>,
    interrupts: Vec<Arc<dyn Interrupt>>,
}

impl<W> Drop for Threads<W> {
    fn drop(&mut self) {
        // All futures are gone, so nobody waits for the work. It is dropped without the lock.
        let abandoned = self.inner.line().close();
        drop(abandoned);
        self.inner.work_available.notify_all();
        // The threads end by themselves. A decoder that cannot be interrupted must not delay the
        // end of the server.
        for interrupt in &self.interrupts {
            interrupt.stop();
        }
    }
}

struct Inner<W> {
    line: Mutex<WaitingLine<W>>,
    work_available: Condvar,
    counters: Counters,
}

impl<W> Inner<W> {
    fn push(&self, work: Box<dyn Work<W>>, origin: Origin, estimate: Duration) -> Result<(), PoolError> {
        let mut line = self.line();
        // Abandoned work is removed before new work is rejected.
        if line.is_full_for(origin.flow) {
            self.counters.skipped.add(line.remove_abandoned());
        }
        line.push(work, origin, estimate).inspect_err(|_| self.counters.refused.add(1))?;
        drop(line);
        self.work_available.notify_one();
        Ok(())
    }

    /// Waits for the next closure. Returns `None` when the pool is closed.
    fn next(&self) -> Option<Waiting<W>> {
        let mut line = self.line();
        loop {
            if let Some(work) = line.pop() {
                return Some(work);
            }
            if line.is_closed {
                return None;
            }
            line.idle += 1;
            line = self.work_available.wait(line).unwrap_or_else(PoisonError::into_inner);
            line.idle -= 1;
        }
    }

    // Closures run without the lock, so a panic cannot leave the line inconsistent.
    fn line(&self) -> MutexGuard<'_, WaitingLine<W>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: PoolWorker> Inner<W> {
    fn run_thread(&self, mut worker: W) {
        let interrupt = worker.interrupt();
        worker.begin();
        while let Some(Waiting { work, charge, .. }) = self.next() {
            if work.slot().begin(&interrupt) {
                let slot = Arc::clone(work.slot());
                let begin = ThreadTime::now();
                let finished = || self.counters.finished.add(1);
                if catch_unwind(AssertUnwindSafe(|| work.run(&mut worker, &finished))).is_err() {
                    slot.end();
                    self.counters.panicked.add(1);
                }
                let measured = begin.elapsed() + worker.take_cpu_time();
                self.line().settle(charge, measured);
            } else {
                self.counters.skipped.add(1);
            }
            if self.line().end(charge) {
                self.work_available.notify_one();
            }
        }
    }
}
