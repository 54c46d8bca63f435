//! Deadlines, rejections with retry times, and cancellation.

use std::time::Duration;

use scheduler::{
    BatchLimits, ClientId, CostCoefficients, JobError, QueueLimits, SchedulerConfig, SubmitError,
};
use tokio::time::{Instant, advance};

use crate::fake_engine::{Harness, job};

/// 10 ms for a batch, 100 ms for an image, 10 ms for a question.
fn known_device() -> SchedulerConfig {
    let prior = CostCoefficients { batch: 0.010, image: 0.100, question: 0.010, step: 0.0 };
    SchedulerConfig { cost_prior: Some(prior), ..SchedulerConfig::default() }
}

fn by(mut job: scheduler::Job<u8, String>, ms: u64) -> scheduler::Job<u8, String> {
    job.deadline = Some(Instant::now() + Duration::from_millis(ms));
    job
}

#[tokio::test(start_paused = true)]
async fn late_job_is_rejected_with_retry_time() {
    let mut harness = Harness::new(known_device()).await;
    let _running = harness.ask(1, "running");
    let _batch = harness.batch().await;
    // The running batch takes 120 ms, and the job's batch another 120 ms.
    assert_eq!(
        harness.submit(by(job(2, "too late"), 200)).unwrap_err(),
        SubmitError::TooLate { retry_after: Duration::from_millis(40) }
    );
    assert!(harness.submit(by(job(2, "in time"), 240)).is_ok());
    advance(Duration::from_millis(40)).await;
    // After the reported time, a job with the same time limit is accepted. The other job is gone.
    assert!(harness.submit(by(job(2, "too late"), 200)).is_ok());
}

#[tokio::test(start_paused = true)]
async fn idle_engine_runs_infeasible_job() {
    let mut harness = Harness::new(known_device()).await;
    let ticket = harness.submit(by(job(1, "infeasible"), 50)).unwrap();
    harness.batch().await.complete();
    ticket.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn passed_deadline_is_rejected_without_model() {
    let harness = Harness::new(SchedulerConfig::default()).await;
    assert!(matches!(harness.submit(by(job(1, "past"), 0)), Err(SubmitError::TooLate { .. })));
}

#[tokio::test(start_paused = true)]
async fn batch_shrinks_to_meet_earliest_deadline() {
    let mut harness = Harness::new(known_device()).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let _others = [harness.ask(1, "a"), harness.ask(2, "b"), harness.ask(3, "c")];
    let mut urgent = by(job(4, "urgent"), 370);
    urgent.client = ClientId(2);
    let _urgent = harness.submit(urgent).unwrap();
    advance(Duration::from_millis(120)).await;
    running.complete();
    // All four would take 450 ms. The urgent job has 250 ms left, and takes 230 ms with one other.
    let second = harness.batch().await;
    assert!(second.contents.questions().contains(&"urgent"));
    assert_eq!(second.contents.rows.len(), 2, "{:?}", second.contents);
}

#[tokio::test(start_paused = true)]
async fn infeasible_job_is_not_computed_while_others_wait() {
    let mut harness = Harness::new(known_device()).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let doomed = harness.submit(by(job(1, "doomed"), 300)).unwrap();
    let _other = harness.ask(2, "other");
    // The engine takes longer than predicted.
    advance(Duration::from_millis(250)).await;
    running.complete();
    let second = harness.batch().await;
    assert_eq!(second.contents.questions(), ["other"]);
    advance(Duration::from_millis(50)).await;
    assert_eq!(doomed.await, Err(JobError::DeadlineExceeded));
}

#[tokio::test(start_paused = true)]
async fn running_row_past_deadline_fails_and_is_cancelled() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let late = harness.submit(by(job(1, "late"), 50)).unwrap();
    let running = harness.batch().await;
    assert!(!running.with_rows(|rows| rows.is_cancelled(0)).await);
    advance(Duration::from_millis(50)).await;
    assert_eq!(late.await, Err(JobError::DeadlineExceeded));
    assert!(running.with_rows(|rows| rows.is_cancelled(0)).await);
}

#[tokio::test(start_paused = true)]
async fn dropped_ticket_of_queued_job_frees_its_place() {
    let queue = QueueLimits { max_jobs: 3, ..QueueLimits::default() };
    let mut harness = Harness::new(SchedulerConfig { queue, ..SchedulerConfig::default() }).await;
    let _running = harness.ask(1, "running");
    let batch = harness.batch().await;
    let queued = harness.ask(2, "leaves");
    assert!(matches!(harness.submit(job(3, "no room")), Err(SubmitError::ClientShare { .. })));
    drop(queued);
    let _next = harness.submit(job(3, "room")).unwrap();
    batch.complete();
    assert_eq!(harness.batch().await.contents.questions(), ["room"]);
}

#[tokio::test(start_paused = true)]
async fn dropped_ticket_of_running_row_cancels_the_row() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _hold = harness.ask(9, "hold");
    let hold = harness.batch().await;
    let leaves = harness.ask(1, "leaves");
    let stays = harness.ask(1, "stays");
    hold.complete();
    let running = harness.batch().await;
    assert_eq!(running.contents.questions(), ["leaves", "stays"]);
    drop(leaves);
    let cancelled = running.with_rows(|rows| [rows.is_cancelled(0), rows.is_cancelled(1)]).await;
    assert_eq!(cancelled, [true, false]);
    running.complete();
    stays.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn finished_row_is_answered_before_batch_ends() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _hold = harness.ask(9, "hold");
    let hold = harness.batch().await;
    let (first, second) = (harness.ask(1, "short"), harness.ask(1, "long"));
    hold.complete();
    let running = harness.batch().await;
    advance(Duration::from_millis(5)).await;
    running.answer(0).await;
    assert_eq!(first.await.unwrap().engine, Duration::from_millis(5));
    advance(Duration::from_millis(5)).await;
    running.complete();
    assert_eq!(second.await.unwrap().engine, Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn client_limit_rejects_further_jobs_of_one_client() {
    let queue = QueueLimits { max_jobs_per_client: 2, ..QueueLimits::default() };
    let mut harness = Harness::new(SchedulerConfig { queue, ..SchedulerConfig::default() }).await;
    let _taken = [harness.ask(1, "a"), harness.ask(1, "b")];
    let _batch = harness.batch().await;
    assert!(matches!(harness.submit(job(1, "c")), Err(SubmitError::ClientShare { held: 2, limit: 2, .. })));
    let mut other = job(1, "d");
    other.client = ClientId(2);
    assert!(harness.submit(other).is_ok());
}

#[tokio::test(start_paused = true)]
async fn image_bytes_are_limited_and_counted_once() {
    let queue = QueueLimits { max_bytes: 2500, ..QueueLimits::default() };
    let harness = Harness::new(SchedulerConfig { queue, ..SchedulerConfig::default() }).await;
    let _taken = [harness.ask(1, "a"), harness.ask(1, "b"), harness.ask(2, "c"), harness.ask(2, "d")];
    assert_eq!(harness.scheduler.snapshot().image_bytes, 2000);
    assert!(matches!(
        harness.submit(job(3, "e")),
        Err(SubmitError::BytesFull { held: 2000, limit: 2222, .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn cost_model_is_fitted_to_paused_time() {
    let batch = BatchLimits { max_questions: 1, ..BatchLimits::default() };
    let mut harness = Harness::new(SchedulerConfig { batch, ..SchedulerConfig::default() }).await;
    for n in 0..20 {
        let ticket = harness.ask(n, "q");
        let running = harness.batch().await;
        advance(Duration::from_millis(70)).await;
        running.complete();
        ticket.await.unwrap();
    }
    let running = harness.ask(100, "running");
    let _batch = harness.batch().await;
    let refused = harness.submit(by(job(101, "q"), 100)).unwrap_err();
    let hint = refused.retry_after().unwrap();
    assert!((38..=42).contains(&hint.as_millis()), "{hint:?}");
    drop(running);
}
