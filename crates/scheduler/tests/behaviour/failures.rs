//! Failures of rows, batches and engines.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use scheduler::{
    EngineError, EngineErrorKind, EngineState, JobError, Scheduler, SchedulerConfig, SubmitError,
};
use tokio::time::advance;

use crate::fake_engine::{FakeEngine, Harness, job};

fn kind(outcome: Result<scheduler::Completion<String>, JobError>) -> Result<String, EngineErrorKind> {
    match outcome {
        Ok(completion) => Ok(completion.answer),
        Err(JobError::Engine(error)) => Err(error.kind),
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn row_error_fails_only_its_row() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _hold = harness.ask(9, "hold");
    let hold = harness.batch().await;
    let (bad, good) = (harness.ask(1, "bad"), harness.ask(1, "good"));
    hold.complete();
    let running = harness.batch().await;
    running.with_rows(|rows| rows.finish(0, Err(EngineError::new(EngineErrorKind::Row, "broken")))).await;
    running.complete();
    assert_eq!(kind(bad.await), Err(EngineErrorKind::Row));
    good.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failed_batch_is_bisected_to_the_failing_row() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _hold = harness.ask(9, "hold");
    let hold = harness.batch().await;
    let tickets: Vec<_> = (0..8)
        .map(|n| harness.ask(1, if n == 5 { "poison".into() } else { format!("q{n}") }.as_str()))
        .collect();
    hold.complete();
    let outcomes = tokio::spawn(async move {
        let mut outcomes = Vec::new();
        for ticket in tickets {
            outcomes.push(kind(ticket.await));
        }
        outcomes
    });
    let mut batches = 0;
    while !outcomes.is_finished() {
        tokio::select! {
            running = harness.batch() => {
                batches += 1;
                if running.contents.questions().contains(&"poison") {
                    running.fail(EngineErrorKind::Batch);
                } else {
                    running.complete();
                }
            }
            () = tokio::task::yield_now() => {}
        }
    }
    let outcomes = outcomes.await.unwrap();
    let failed: Vec<_> = (0..8).filter(|n| outcomes[*n].is_err()).collect();
    assert_eq!(failed, [5]);
    assert!(batches <= 1 + 2 * 3, "{batches}");
}

#[tokio::test(start_paused = true)]
async fn rows_finished_before_failure_are_not_recomputed() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _hold = harness.ask(9, "hold");
    let hold = harness.batch().await;
    let (done, open) = (harness.ask(1, "done"), harness.ask(1, "open"));
    hold.complete();
    let running = harness.batch().await;
    running.answer(0).await;
    running.fail(EngineErrorKind::Batch);
    done.await.unwrap();
    let again = harness.batch().await;
    assert_eq!(again.contents.questions(), ["open"]);
    again.complete();
    open.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn parts_of_failed_batch_alternate_with_other_jobs() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _hold = harness.ask(9, "hold");
    let hold = harness.batch().await;
    let _failing = [harness.ask(1, "a"), harness.ask(1, "b")];
    hold.complete();
    let running = harness.batch().await;
    let _other = harness.ask(2, "other");
    running.fail(EngineErrorKind::Batch);
    let mut order = Vec::new();
    for _ in 0..3 {
        let batch = harness.batch().await;
        order.push(batch.contents.questions().join(" "));
        batch.complete();
    }
    assert_eq!(order, ["a", "other", "b"]);
}

#[tokio::test(start_paused = true)]
async fn out_of_memory_halves_batch_and_limit_without_failures() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _hold = harness.ask(9, "hold");
    let hold = harness.batch().await;
    let tickets: Vec<_> = (0..8).map(|n| harness.ask(n, "q")).collect();
    hold.complete();
    let running = harness.batch().await;
    assert_eq!(running.contents.rows.len(), 8);
    running.fail(EngineErrorKind::OutOfMemory);
    for _ in 0..2 {
        let half = harness.batch().await;
        assert_eq!(half.contents.rows.len(), 4);
        half.complete();
    }
    for ticket in tickets {
        ticket.await.unwrap();
    }
    assert_eq!(harness.scheduler.snapshot().engines[0].limits.max_questions, 4);
}

#[tokio::test(start_paused = true)]
async fn panic_fails_rows_and_engine_is_rebuilt() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let ticket = harness.ask(1, "first");
    harness.batch().await.end(|_| panic!("made to panic"));
    let Err(JobError::Engine(error)) = ticket.await else { panic!("no error") };
    assert!(error.message.contains("made to panic"), "{error}");
    let next = harness.ask(2, "next");
    harness.batch().await.complete();
    next.await.unwrap();
    assert_eq!(*harness.scheduler.engine_state().borrow(), EngineState::Ready);
}

#[tokio::test(start_paused = true)]
async fn repeated_panics_make_engine_dead() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let mut health = harness.scheduler.engine_state();
    for n in 0..3 {
        let ticket = harness.ask(n, "q");
        harness.batch().await.end(|_| panic!("made to panic"));
        assert!(ticket.await.is_err());
    }
    let state = health.wait_for(|state| !state.is_serving()).await.unwrap().clone();
    assert!(matches!(state, EngineState::Dead(_)), "{state:?}");
    assert!(matches!(harness.submit(job(1, "after")), Err(SubmitError::EngineDead(_))));
}

#[tokio::test(start_paused = true)]
async fn fatal_error_of_only_engine_fails_all_jobs() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let mut health = harness.scheduler.engine_state();
    let running_job = harness.ask(1, "running");
    let running = harness.batch().await;
    let queued = harness.ask(2, "queued");
    running.fail(EngineErrorKind::Fatal);
    assert_eq!(kind(running_job.await), Err(EngineErrorKind::Fatal));
    assert_eq!(kind(queued.await), Err(EngineErrorKind::Fatal));
    health.wait_for(|state| matches!(state, EngineState::Dead(_))).await.unwrap();
    assert!(matches!(harness.submit(job(1, "after")), Err(SubmitError::EngineDead(_))));
    harness.scheduler.shutdown().await;
}

#[tokio::test(start_paused = true)]
async fn remaining_engine_takes_over_after_engine_death() {
    let mut harness = Harness::with_engines(SchedulerConfig::default(), 2).await;
    let mut health = harness.scheduler.engine_state();
    let _victim = harness.ask(1, "victim");
    let dying = harness.batch().await;
    let dead = dying.contents.engine;
    dying.fail(EngineErrorKind::Fatal);
    health.wait_for(|state| *state == EngineState::Degraded { alive: 1, total: 2 }).await.unwrap();
    for n in 0..3 {
        let ticket = harness.ask(2, &format!("q{n}"));
        let batch = harness.batch().await;
        assert_ne!(batch.contents.engine, dead);
        batch.complete();
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn row_without_outcome_fails() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let ticket = harness.ask(1, "forgotten");
    harness.batch().await.end(|_| Ok(()));
    assert_eq!(kind(ticket.await), Err(EngineErrorKind::Row));
}

#[tokio::test(start_paused = true)]
async fn stalled_engine_is_reported_until_its_batch_ends() {
    let stall_after = Duration::from_secs(10);
    let mut harness = Harness::new(SchedulerConfig { stall_after, ..SchedulerConfig::default() }).await;
    let mut health = harness.scheduler.engine_state();
    let ticket = harness.ask(1, "slow");
    let running = harness.batch().await;
    advance(stall_after).await;
    health.wait_for(|state| *state == EngineState::Stalled).await.unwrap();
    running.complete();
    ticket.await.unwrap();
    health.wait_for(|state| *state == EngineState::Ready).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn engine_that_cannot_be_built_fails_start() {
    let attempts = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&attempts);
    let started = Scheduler::<FakeEngine>::start(
        SchedulerConfig::default(),
        vec![Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
            Err(EngineError::new(EngineErrorKind::Fatal, "no such device"))
        })],
    )
    .await;
    assert_eq!(started.unwrap_err().message, "no such device");
    assert_eq!(attempts.load(Ordering::Relaxed), 1);
    let none = Scheduler::<FakeEngine>::start(SchedulerConfig::default(), Vec::new()).await;
    assert_eq!(none.unwrap_err().message, "invalid number of engines: 0, 1 to 64 allowed");
}

#[tokio::test(start_paused = true)]
async fn dropped_last_handle_completes_queued_jobs() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let first = harness.ask(1, "first");
    let running = harness.batch().await;
    let second = harness.ask(2, "second");
    let mut batches = harness.into_batches();
    running.complete();
    batches.recv().await.unwrap().complete();
    first.await.unwrap();
    second.await.unwrap();
    assert!(batches.recv().await.is_none(), "engine thread still runs");
}
