use std::sync::mpsc;

use super::*;

/// A pool of one thread, which is blocked until the returned sender is dropped.
async fn blocked_pool(queue_limit: usize) -> (CpuPool, mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let pool = CpuPool::new(1, queue_limit).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (started, has_started) = oneshot::channel();
    let blocker = pool.clone();
    let task = tokio::spawn(async move {
        let blocked = blocker.run(move || {
            let _ = started.send(());
            let _ = released.recv();
        });
        blocked.await.unwrap();
    });
    has_started.await.unwrap();
    (pool, release, task)
}

#[tokio::test]
async fn result_is_returned_to_its_caller() {
    let pool = CpuPool::new(2, 8).unwrap();
    let (two, three) = tokio::join!(pool.run(|| 2), pool.run(|| 3));
    assert_eq!((two, three), (Ok(2), Ok(3)));
    assert_eq!(pool.counters().finished, 2);
}

#[tokio::test]
async fn panic_is_an_error_of_its_caller_only() {
    let pool = CpuPool::new(1, 8).unwrap();
    assert_eq!(
        pool.run(|| std::panic::resume_unwind(Box::new("poison"))).await,
        Err::<(), _>(PoolError::Panicked)
    );
    assert_eq!(pool.run(|| 1).await, Ok(1));
    assert_eq!(pool.counters().panicked, 1);
}

#[tokio::test]
async fn full_queue_rejects_at_once_with_its_limit() {
    let (pool, release, task) = blocked_pool(1).await;
    let mut waiting = Box::pin(pool.run(|| 1));
    assert!(poll_once(&mut waiting).is_none());
    assert_eq!(pool.run(|| 2).await, Err(PoolError::QueueFull { limit: 1 }));
    drop(release);
    assert_eq!(waiting.await, Ok(1));
    task.await.unwrap();
    assert_eq!(pool.counters().refused, 1);
}

#[tokio::test]
async fn work_of_a_dropped_future_never_runs() {
    let (pool, release, task) = blocked_pool(1).await;
    let (ran, has_run) = mpsc::channel::<()>();
    let mut abandoned = Box::pin(pool.run(move || ran.send(())));
    assert!(poll_once(&mut abandoned).is_none());
    drop(abandoned);
    // Its queue slot is free again.
    let mut next = Box::pin(pool.run(|| 1));
    assert!(poll_once(&mut next).is_none());
    drop(release);
    assert_eq!(next.await, Ok(1));
    task.await.unwrap();
    assert!(has_run.recv().is_err());
    assert_eq!(pool.counters(), PoolCounters { finished: 2, skipped: 1, ..PoolCounters::default() });
}

#[tokio::test]
async fn dropped_pool_finishes_queued_work() {
    let (pool, release, task) = blocked_pool(4).await;
    let work = pool.clone();
    let mut queued = Box::pin(async move { work.run(|| 7).await });
    assert!(poll_once(&mut queued).is_none());
    drop(pool);
    drop(release);
    assert_eq!(queued.await, Ok(7));
    task.await.unwrap();
}

/// Polls `future` once.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
