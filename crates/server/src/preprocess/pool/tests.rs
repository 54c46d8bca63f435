use std::sync::{
    atomic::{AtomicUsize, Ordering},
    mpsc,
};

use std::time::Duration;

use scheduler::{ClientId, Flow, Priority};
use tokio::sync::oneshot;

use super::*;

/// A worker that counts the interruptions of its work.
#[derive(Clone, Debug, Default)]
struct Counting(Arc<Interruptions>);

#[derive(Debug, Default)]
struct Interruptions {
    abandoned: AtomicUsize,
    stopped: AtomicUsize,
}

impl PoolWorker for Counting {
    fn interrupt(&self) -> Arc<dyn Interrupt> {
        Arc::clone(&self.0) as Arc<dyn Interrupt>
    }
}

impl Interrupt for Interruptions {
    fn reset(&self) {}
    fn abandon(&self) {
        self.abandoned.fetch_add(1, Ordering::Relaxed);
    }
    fn stop(&self) {
        self.stopped.fetch_add(1, Ordering::Relaxed);
    }
}

fn pool(threads: usize, queue_limit: usize) -> CpuPool<Counting> {
    CpuPool::new(vec![Counting::default(); threads], queue_limit).unwrap()
}

const ESTIMATE: Duration = Duration::from_millis(5);

fn origin(client: u64) -> Origin {
    let flow = Flow { client: ClientId(client), priority: Priority::Normal, weight: 1 };
    Origin { flow, deadline: None }
}

/// A pool of one thread, which is blocked until the returned sender is dropped.
async fn blocked_pool(
    queue_limit: usize,
) -> (CpuPool<Counting>, mpsc::Sender<()>, tokio::task::JoinHandle<()>) {
    let pool = pool(1, queue_limit);
    let (release, released) = mpsc::channel::<()>();
    let (started, has_started) = oneshot::channel();
    let blocker = pool.clone();
    let task = tokio::spawn(async move {
        let blocked = blocker.run(origin(1), ESTIMATE, move |_| {
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
    let pool = pool(2, 8);
    let (two, three) =
        tokio::join!(pool.run(origin(1), ESTIMATE, |_| 2), pool.run(origin(1), ESTIMATE, |_| 3));
    assert_eq!((two, three), (Ok(2), Ok(3)));
    assert_eq!(pool.counters().finished, 2);
}

#[tokio::test]
async fn panic_is_an_error_of_its_caller_only() {
    let pool = pool(1, 8);
    assert_eq!(
        pool.run(origin(1), ESTIMATE, |_| std::panic::resume_unwind(Box::new("poison"))).await,
        Err::<(), _>(PoolError::Panicked)
    );
    assert_eq!(pool.run(origin(1), ESTIMATE, |_| 1).await, Ok(1));
    assert_eq!(pool.counters().panicked, 1);
}

#[tokio::test]
async fn full_queue_rejects_at_once_with_its_limit() {
    let (pool, release, task) = blocked_pool(1).await;
    let mut waiting = Box::pin(pool.run(origin(1), ESTIMATE, |_| 1));
    assert!(poll_once(&mut waiting).is_none());
    assert_eq!(pool.run(origin(1), ESTIMATE, |_| 2).await, Err(PoolError::QueueFull { limit: 1 }));
    drop(release);
    assert_eq!(waiting.await, Ok(1));
    task.await.unwrap();
    assert_eq!(pool.counters().refused, 1);
}

#[tokio::test]
async fn work_of_a_dropped_future_never_runs() {
    let (pool, release, task) = blocked_pool(1).await;
    let (ran, has_run) = mpsc::channel::<()>();
    let mut abandoned = Box::pin(pool.run(origin(1), ESTIMATE, move |_| ran.send(())));
    assert!(poll_once(&mut abandoned).is_none());
    drop(abandoned);
    // Its queue slot is free again.
    let mut next = Box::pin(pool.run(origin(1), ESTIMATE, |_| 1));
    assert!(poll_once(&mut next).is_none());
    drop(release);
    assert_eq!(next.await, Ok(1));
    task.await.unwrap();
    assert!(has_run.recv().is_err());
    assert_eq!(pool.counters(), PoolCounters { finished: 2, skipped: 1, ..PoolCounters::default() });
}

#[tokio::test]
async fn dropped_future_interrupts_running_work_only() {
    let worker = Counting::default();
    let pool = CpuPool::new(vec![worker.clone()], 8).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (started, mut has_started) = oneshot::channel();
    let mut running = Box::pin(pool.run(origin(1), ESTIMATE, move |_| {
        let _ = started.send(());
        let _ = released.recv();
    }));
    while has_started.try_recv().is_err() {
        assert!(poll_once(&mut running).is_none());
        tokio::task::yield_now().await;
    }
    let mut waiting = Box::pin(pool.run(origin(1), ESTIMATE, |_| 1));
    assert!(poll_once(&mut waiting).is_none());
    drop(waiting);
    assert_eq!(worker.0.abandoned.load(Ordering::Relaxed), 0);
    drop(running);
    assert_eq!(worker.0.abandoned.load(Ordering::Relaxed), 1);
    drop(release);
    assert_eq!(pool.run(origin(1), ESTIMATE, |_| 2).await, Ok(2));
    assert_eq!(worker.0.abandoned.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn dropped_pool_stops_its_threads_and_waits_for_none() {
    let worker = Counting::default();
    let pool = CpuPool::new(vec![worker.clone()], 8).unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (started, has_started) = oneshot::channel();
    let (ended, has_ended) = oneshot::channel();
    let mut running = Box::pin(pool.run(origin(1), ESTIMATE, move |_| {
        let _ = started.send(());
        let _ = released.recv();
        let _ = ended.send(());
    }));
    assert!(poll_once(&mut running).is_none());
    has_started.await.unwrap();
    drop(running);
    drop(pool);
    assert_eq!(worker.0.stopped.load(Ordering::Relaxed), 1);
    drop(release);
    has_ended.await.unwrap();
}

#[tokio::test]
async fn one_client_leaves_places_and_turns_to_others() {
    let (pool, release, task) = blocked_pool(90).await;
    let (ran, order) = mpsc::channel();
    let (mut waiting, mut refused) = (Vec::new(), 0);
    let mut begin = |origin: Origin| {
        let ran = ran.clone();
        let client = origin.flow.client.0;
        let mut work = Box::pin(pool.run(origin, ESTIMATE, move |_| ran.send(client).unwrap()));
        match poll_once(&mut work) {
            None => waiting.push(work),
            Some(result) => {
                assert_eq!(result, Err(PoolError::QueueFull { limit: 90 }));
                refused += 1;
            }
        }
    };
    for _ in 0..200 {
        begin(origin(7));
    }
    begin(origin(8));
    begin(Origin { flow: Flow { priority: Priority::High, ..origin(9).flow }, ..origin(9) });
    assert_eq!(refused, 120);
    drop(release);
    for work in waiting {
        work.await.unwrap();
    }
    task.await.unwrap();
    let order: Vec<u64> = order.try_iter().collect();
    let turn = |client| order.iter().position(|other| *other == client).unwrap();
    // The request of an ordinary size that came first goes before the newcomer.
    assert!(turn(9) == 0 && turn(8) <= 12, "{} {}", turn(9), turn(8));
}

#[tokio::test]
async fn long_work_leaves_a_thread_to_other_clients() {
    const LONG: Duration = Duration::from_secs(1);
    let pool = pool(2, 8);
    let (ran, order) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (started, has_started) = oneshot::channel();
    assert_eq!(pool.run(origin(2), ESTIMATE, |_| 2).await, Ok(2));
    let mut first = Box::pin(pool.run(origin(1), LONG, move |_| {
        let _ = started.send(());
        let _ = released.recv();
    }));
    assert!(poll_once(&mut first).is_none());
    has_started.await.unwrap();
    let sender = ran.clone();
    let mut second = Box::pin(pool.run(origin(1), LONG, move |_| sender.send("long").unwrap()));
    assert!(poll_once(&mut second).is_none());
    for _ in 0..3 {
        let sender = ran.clone();
        pool.run(origin(2), ESTIMATE, move |_| sender.send("short").unwrap()).await.unwrap();
    }
    drop(release);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(order.try_iter().collect::<Vec<_>>(), ["short", "short", "short", "long"]);
}

#[tokio::test]
async fn single_client_uses_all_threads_for_long_work() {
    let (pool, both) = (pool(2, 8), Arc::new(std::sync::Barrier::new(2)));
    let wait = || {
        let both = Arc::clone(&both);
        pool.run(origin(1), Duration::from_secs(1), move |_| both.wait().is_leader())
    };
    let (first, second) = tokio::join!(wait(), wait());
    assert_ne!(first, second);
}

/// Polls `future` once.
fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::Pin::new(future).poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
