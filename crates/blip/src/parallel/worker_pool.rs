//! The compute threads of one engine.

use std::{
    cell::RefCell,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

thread_local! {
    /// The pool that has the current thread.
    static POOL: RefCell<Option<Arc<WorkerPool>>> = const { RefCell::new(None) };
}

/// A work-stealing thread pool. A pool of one thread is the calling thread.
#[derive(Debug)]
pub(crate) struct WorkerPool {
    pool: Option<ThreadPool>,
    /// Number of threads that look for tasks, or will.
    awake: Arc<AtomicUsize>,
}

/// Number of times that a thread looks for tasks before it sleeps, 0.1 to 0.2 ms.
const MAX_IDLE_LOOKS: usize = 200;

impl WorkerPool {
    /// Returns a pool of `threads` threads, the current one among them.
    ///
    /// A thread is in one pool, which its models share. A pool of another size has new threads
    /// only.
    pub(crate) fn with_current_thread(threads: usize) -> Result<Arc<Self>, ThreadPoolBuildError> {
        if threads <= 1 {
            return Ok(Arc::new(Self::of_calling_thread()));
        }
        POOL.with_borrow_mut(|own| match own {
            Some(pool) if pool.threads() == threads => Ok(Arc::clone(pool)),
            Some(_) => Ok(Arc::new(Self::start(threads, false)?)),
            None => Ok(Arc::clone(own.insert(Arc::new(Self::start(threads, true)?)))),
        })
    }

    /// Returns a pool of one thread: the one that calls it.
    pub(crate) fn of_calling_thread() -> Self {
        Self { pool: None, awake: Arc::default() }
    }

    fn start(threads: usize, has_current_thread: bool) -> Result<Self, ThreadPoolBuildError> {
        let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|_| "engine-worker".into());
        let builder = if has_current_thread { builder.use_current_thread() } else { builder };
        Ok(Self { pool: Some(builder.build()?), awake: Arc::default() })
    }

    /// Returns the number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// Runs `work` for each task. Returns when all are complete.
    ///
    /// Each thread takes the next task when it has completed one.
    pub(crate) fn each<T: Send>(&self, tasks: impl Iterator<Item = T> + Send, work: impl Fn(T) + Sync) {
        let has_several = tasks.size_hint().1.is_none_or(|tasks| tasks > 1);
        let Some(pool) = self.pool.as_ref().filter(|_| has_several) else { return tasks.for_each(work) };
        let tasks = Mutex::new(tasks);
        let next = || tasks.lock().unwrap_or_else(PoisonError::into_inner).next();
        let run = || {
            while let Some(task) = next() {
                work(task);
            }
        };
        self.wake(pool);
        pool.in_place_scope(|scope| {
            for _ in 1..self.threads() {
                scope.spawn(|_| run());
            }
            run();
        });
    }

    /// Makes the other threads look for tasks for a while, unless they do.
    ///
    /// To wake a sleeping thread takes as long as many a product. A batch has hundreds of them.
    fn wake(&self, pool: &ThreadPool) {
        for _ in self.awake.load(Ordering::Relaxed)..self.threads() - 1 {
            self.awake.fetch_add(1, Ordering::Relaxed);
            let awake = Arc::clone(&self.awake);
            pool.spawn(move || {
                look_for_tasks();
                awake.fetch_sub(1, Ordering::Relaxed);
            });
        }
    }
}

/// Runs tasks of the current thread's pool until there have been none for a while.
fn look_for_tasks() {
    // The thread that adds tasks has other work.
    if rayon::current_thread_index() == Some(0) {
        return;
    }
    let mut idle = 0;
    while idle < MAX_IDLE_LOOKS {
        match rayon::yield_now() {
            Some(rayon::Yield::Executed) => idle = 0,
            _ => {
                idle += 1;
                std::thread::yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_with_any_number_of_threads_runs_every_task_once() {
        // The last pool does not have the thread of this test.
        for threads in [2, 1, 2, 3] {
            let workers = WorkerPool::with_current_thread(threads).unwrap();
            assert_eq!(workers.threads(), threads);
            let mut done = [0; 100];
            workers.each(done.iter_mut().enumerate(), |(number, done)| *done += number);
            assert!(done.iter().enumerate().all(|(number, done)| *done == number));
        }
    }
}
