//! The compute threads of one engine.

use rayon::{ThreadPool, ThreadPoolBuildError, ThreadPoolBuilder};

/// A work-stealing thread pool. A pool of one thread is the calling thread.
#[derive(Debug)]
pub(crate) struct WorkerPool {
    pool: Option<ThreadPool>,
}

impl WorkerPool {
    /// Starts a pool of `threads` threads.
    pub(crate) fn new(threads: usize) -> Result<Self, ThreadPoolBuildError> {
        let build =
            || ThreadPoolBuilder::new().num_threads(threads).thread_name(|_| "engine-worker".into()).build();
        Ok(Self { pool: (threads > 1).then(build).transpose()? })
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
        for threads in [1, 3] {
            let workers = WorkerPool::new(threads).unwrap();
            assert_eq!(workers.threads(), threads);
            let mut done = [0; 100];
            workers.each(done.iter_mut().enumerate(), |(number, done)| *done += number);
            assert!(done.iter().enumerate().all(|(number, done)| *done == number));
        }
    }
}
