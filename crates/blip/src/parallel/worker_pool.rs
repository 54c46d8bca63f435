//! The compute threads of one engine.

use std::{cell::RefCell, sync::Arc};

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

thread_local! {
    /// The pool that has the current thread.
    static POOL: RefCell<Option<Arc<WorkerPool>>> = const { RefCell::new(None) };
}

/// A work-stealing thread pool. A pool of one thread is the calling thread.
#[derive(Debug)]
pub(crate) struct WorkerPool {
    pool: Option<ThreadPool>,
}

impl WorkerPool {
    /// Returns a pool of `threads` threads, the current one among them.
    ///
    /// A thread is in one pool, which its models share. A pool of another size has new threads
    /// only.
    pub(crate) fn with_current_thread(threads: usize) -> Result<Arc<Self>, ThreadPoolBuildError> {
        if threads <= 1 {
            return Ok(Arc::new(Self { pool: None }));
        }
        POOL.with_borrow_mut(|own| match own {
            Some(pool) if pool.threads() == threads => Ok(Arc::clone(pool)),
            Some(_) => Ok(Arc::new(Self::start(threads, false)?)),
            None => Ok(Arc::clone(own.insert(Arc::new(Self::start(threads, true)?)))),
        })
    }

    fn start(threads: usize, has_current_thread: bool) -> Result<Self, ThreadPoolBuildError> {
        let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|_| "engine-worker".into());
        let builder = if has_current_thread { builder.use_current_thread() } else { builder };
        Ok(Self { pool: Some(builder.build()?) })
    }

    /// Returns the number of threads.
    pub(crate) fn threads(&self) -> usize {
        self.pool.as_ref().map_or(1, ThreadPool::current_num_threads)
    }

    /// Runs `work` for each task. Returns when all are complete.
    pub(crate) fn each<T: Send>(&self, tasks: impl Iterator<Item = T>, work: impl Fn(T) + Sync) {
        match &self.pool {
            None => tasks.for_each(work),
            Some(pool) => pool.in_place_scope(|scope| {
                let work = &work;
                tasks.for_each(|task| scope.spawn(move |_| work(task)));
            }),
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
