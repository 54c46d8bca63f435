//! Basic behaviour of a scheduler.

use std::time::Duration;

use crate::fake_engine::{Harness, job};
use scheduler::{BatchLimits, ClientId, JobError, QueueLimits, SchedulerConfig, SubmitError};
use tokio::time::{Instant, advance};

#[tokio::test(start_paused = true)]
async fn single_job_runs_immediately() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let ticket = harness.ask(1, "what");
    harness.batch().await.complete();
    let completion = ticket.await.unwrap();
    assert_eq!(completion.answer, "answer to what");
    assert_eq!((completion.queue, completion.batch_questions), (Duration::ZERO, 1));
}

#[tokio::test(start_paused = true)]
async fn waiting_jobs_become_one_batch_with_distinct_images() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let first = harness.ask(1, "first");
    let running = harness.batch().await;
    let rest = [harness.ask(2, "a"), harness.ask(3, "b"), harness.ask(2, "c")];
    running.complete();
    first.await.unwrap();
    let second = harness.batch().await;
    assert_eq!(second.contents.images.len(), 2);
    assert_eq!(second.contents.rows.len(), 3);
    second.complete();
    for ticket in rest {
        assert_eq!(ticket.await.unwrap().batch_images, 2);
    }
}

#[tokio::test(start_paused = true)]
async fn expired_job_fails_on_time_and_is_not_computed() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let first = harness.ask(1, "first");
    let running = harness.batch().await;
    let mut late = job(2, "late");
    late.deadline = Some(Instant::now() + Duration::from_millis(50));
    let late = harness.submit(late).unwrap();
    advance(Duration::from_millis(50)).await;
    assert_eq!(late.await, Err(JobError::DeadlineExceeded));
    let next = harness.ask(3, "next");
    running.complete();
    let second = harness.batch().await;
    assert_eq!(second.contents.questions(), ["next"]);
    second.complete();
    first.await.unwrap();
    next.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn full_queue_rejects_immediately() {
    let queue = QueueLimits { max_jobs: 2, ..QueueLimits::default() };
    let mut harness = Harness::new(SchedulerConfig { queue, ..SchedulerConfig::default() }).await;
    let _running = harness.ask(1, "running");
    let _batch = harness.batch().await;
    let mut taken = Vec::new();
    let refused = loop {
        let mut next = job(1, &format!("question {}", taken.len()));
        next.client = ClientId(taken.len() as u64 + 2);
        match harness.submit(next) {
            Ok(ticket) => taken.push(ticket),
            Err(refused) => break refused,
        }
    };
    assert!(taken.len() <= 2);
    assert!(matches!(refused, SubmitError::QueueFull { held: 2, limit: 2, .. }), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn new_client_finds_a_place_beside_clients_that_fill_the_queue() {
    let queue = QueueLimits { max_jobs: 90, ..QueueLimits::default() };
    let harness = Harness::new(SchedulerConfig { queue, ..SchedulerConfig::default() }).await;
    let submit = |client: u64, number: usize| {
        let mut next = job(1, &format!("question {number} of {client}"));
        next.client = ClientId(client);
        harness.submit(next)
    };
    let mut taken = Vec::new();
    for client in 1..4 {
        taken.extend((0..90).map_while(|number| submit(client, number).ok()));
    }
    let refused = submit(1, 90).unwrap_err();
    assert!(matches!(refused, SubmitError::ClientShare { held: 80, limit: 80, .. }), "{refused:?}");
    assert!(submit(4, 0).is_ok());
}

#[tokio::test(start_paused = true)]
async fn batch_never_exceeds_limits() {
    let batch = BatchLimits { max_images: 2, max_questions: 3, max_padded_tokens: 1000 };
    let mut harness = Harness::new(SchedulerConfig { batch, ..SchedulerConfig::default() }).await;
    let first = harness.ask(9, "first");
    let running = harness.batch().await;
    let rest: Vec<_> = (0..9).map(|n| harness.ask(n % 5, &format!("q{n}"))).collect();
    running.complete();
    first.await.unwrap();
    let mut rows = 0;
    while rows < 9 {
        let next = harness.batch().await;
        assert!(next.contents.images.len() <= 2 && next.contents.rows.len() <= 3, "{:?}", next.contents);
        rows += next.contents.rows.len();
        next.complete();
    }
    for ticket in rest {
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn shutdown_completes_queued_jobs_and_rejects_new_ones() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let first = harness.ask(1, "first");
    let running = harness.batch().await;
    let second = harness.ask(2, "second");
    let scheduler = harness.scheduler.clone();
    let shutdown = tokio::spawn(async move { scheduler.shutdown().await });
    tokio::task::yield_now().await;
    assert_eq!(harness.submit(job(3, "third")).unwrap_err(), SubmitError::ShuttingDown);
    running.complete();
    harness.batch().await.complete();
    first.await.unwrap();
    second.await.unwrap();
    shutdown.await.unwrap();
}
