//! Priorities, fairness, batch composition, identical jobs, and the choice of the engine.

use std::time::Duration;

use scheduler::{BatchLimits, ClientId, CostCoefficients, Priority, SchedulerConfig};
use tokio::time::advance;

use crate::fake_engine::{Harness, RunningBatch, image_digest, job};

fn with_batch(batch: BatchLimits) -> SchedulerConfig {
    SchedulerConfig { batch, ..SchedulerConfig::default() }
}

/// 1 ms for a batch, 100 ms for an image, 1 ms for a question.
fn slow_images() -> SchedulerConfig {
    let prior = CostCoefficients { batch: 0.001, image: 0.100, question: 0.001, step: 0.0 };
    SchedulerConfig { cost_prior: Some(prior), overhead_fraction: 0.0, ..SchedulerConfig::default() }
}

#[tokio::test(start_paused = true)]
async fn free_engine_starts_job_without_delay() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    for n in 0..3 {
        let ticket = harness.ask(1, &format!("q{n}"));
        harness.batch().await.complete();
        assert_eq!(ticket.await.unwrap().queue, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn batch_delay_ends_when_batch_is_full_or_time_is_over() {
    let batch = BatchLimits { max_questions: 2, ..BatchLimits::default() };
    let max_batch_delay = Duration::from_millis(20);
    let mut harness = Harness::new(SchedulerConfig { max_batch_delay, ..with_batch(batch) }).await;
    let alone = harness.ask(1, "alone");
    harness.nothing_starts().await;
    advance(max_batch_delay).await;
    let held = harness.batch().await;
    assert_eq!(held.contents.questions(), ["alone"]);
    held.complete();
    assert_eq!(alone.await.unwrap().queue, max_batch_delay);

    let _pair = [harness.ask(1, "a"), harness.ask(2, "b")];
    assert_eq!(harness.batch().await.contents.rows.len(), 2, "full batch waits");
}

#[tokio::test(start_paused = true)]
async fn slow_decoding_shortens_later_batches_of_two_clients() {
    let prior = CostCoefficients { batch: 0.001, image: 0.001, question: 0.001, step: 0.0 };
    // No batch is efficient enough, so only the limits end it.
    let config = SchedulerConfig { cost_prior: Some(prior), overhead_fraction: -1.0, ..Default::default() };
    let mut harness = Harness::new(config).await;
    let _hold = harness.ask(9, "hold");
    let hold = harness.batch().await;
    let costly = |n: usize| {
        let mut costly = job(1, &format!("costly {n}"));
        costly.decode_steps = 1000;
        harness.submit(costly).unwrap()
    };
    let _costly: Vec<_> = (0..200).map(costly).collect();
    let mut cheap = job(1, "cheap");
    cheap.client = ClientId(2);
    let _cheap = harness.submit(cheap).unwrap();
    hold.complete();
    let slow = harness.batch().await;
    // 4,000 steps and the cheap question, before anything is known.
    assert_eq!(slow.contents.rows.len(), 5);
    advance(Duration::from_secs(1)).await;
    slow.complete();
    // Half of the steps take half a second.
    assert_eq!(harness.batch().await.contents.rows.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn padded_tokens_limit_batch() {
    let batch = BatchLimits { max_padded_tokens: 40, ..BatchLimits::default() };
    let mut harness = Harness::new(with_batch(batch)).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let _tickets: Vec<_> = [10, 10, 30, 10]
        .into_iter()
        .enumerate()
        .map(|(n, tokens)| {
            let mut new_job = job(1, &format!("{n}: {tokens} tokens"));
            new_job.tokens = tokens;
            harness.submit(new_job).unwrap()
        })
        .collect();
    running.complete();
    let second = harness.batch().await;
    // The long question would pad the others beyond the limit. It is skipped, and first next time.
    assert_eq!(second.contents.questions(), ["0: 10 tokens", "1: 10 tokens", "3: 10 tokens"]);
    second.complete();
    assert_eq!(harness.batch().await.contents.questions(), ["2: 30 tokens"]);
}

#[tokio::test(start_paused = true)]
async fn jobs_about_image_of_batch_are_co_batched() {
    let batch = BatchLimits { max_images: 1, ..BatchLimits::default() };
    let mut harness = Harness::new(with_batch(batch)).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let mut tickets = Vec::new();
    for (client, image, question) in
        [(1, 1, "mine"), (2, 2, "other image"), (3, 1, "same image, other client")]
    {
        let mut new_job = job(image, question);
        new_job.client = ClientId(client);
        tickets.push(harness.submit(new_job).unwrap());
    }
    running.complete();
    let second = harness.batch().await;
    assert_eq!(second.contents.images, [1]);
    assert_eq!(second.contents.questions(), ["mine", "same image, other client"]);
}

#[tokio::test(start_paused = true)]
async fn co_batched_jobs_are_chosen_by_least_padding() {
    let batch = BatchLimits { max_images: 1, max_questions: 4, ..BatchLimits::default() };
    let mut harness = Harness::new(with_batch(batch)).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let mut tickets = Vec::new();
    let on_other_images = [(2, "b", 8), (3, "c", 8), (4, "d", 8)];
    let on_the_same = [(1, "3", 3), (1, "20", 20), (1, "4", 4), (1, "19", 19), (1, "18", 18), (1, "21", 21)];
    for (client, (image, question, tokens)) in
        (1..).zip([(1, "head", 20)].into_iter().chain(on_other_images).chain(on_the_same))
    {
        let mut new_job = job(image, question);
        (new_job.client, new_job.tokens) = (ClientId(client), tokens);
        tickets.push(harness.submit(new_job).unwrap());
    }
    running.complete();
    assert_eq!(harness.batch().await.contents.questions(), ["head", "20", "19", "18"]);
}

#[tokio::test(start_paused = true)]
async fn cached_image_does_not_count_toward_image_limit() {
    let batch = BatchLimits { max_images: 1, ..BatchLimits::default() };
    let mut harness = Harness::new(with_batch(batch)).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    running.with_rows(|rows| rows.image_cached(image_digest(5), 100)).await;
    let _tickets = [harness.ask(1, "new"), harness.ask(5, "cached"), harness.ask(2, "also new")];
    running.complete();
    let second = harness.batch().await;
    assert_eq!(second.contents.questions(), ["new", "cached"]);
    second.complete();
    assert_eq!(harness.batch().await.contents.questions(), ["also new"]);
}

#[tokio::test(start_paused = true)]
async fn identical_jobs_are_computed_once_and_all_answered() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let mut tickets: Vec<_> = (0..5)
        .map(|client| {
            let mut new_job = job(1, "what");
            new_job.client = ClientId(client);
            harness.submit(new_job).unwrap()
        })
        .collect();
    // One client cancels. The others still get the answer, although that client was first.
    drop(tickets.remove(0));
    running.complete();
    let second = harness.batch().await;
    assert_eq!(second.contents.questions(), ["what"]);
    let late = harness.ask(1, "what");
    second.complete();
    for ticket in tickets {
        let completion = ticket.await.unwrap();
        assert_eq!((completion.answer.as_str(), completion.is_shared), ("answer to what", true));
    }
    assert!(late.await.unwrap().is_shared, "did not join the running row");
}

#[tokio::test(start_paused = true)]
async fn backlog_of_10000_does_not_delay_single_job() {
    let batch = BatchLimits { max_questions: 4, max_images: 4, ..BatchLimits::default() };
    let mut harness = Harness::new(SchedulerConfig {
        queue: scheduler::QueueLimits { max_jobs_per_client: 20_000, ..Default::default() },
        ..with_batch(batch)
    })
    .await;
    let _bulk: Vec<_> = (0..10_000).map(|n| harness.ask((n % 200) as u8, &format!("bulk {n}"))).collect();
    let running = harness.batch().await;
    let first = running.contents.clone();
    let mut single = job(250, "single");
    single.client = ClientId(2);
    let single = harness.submit(single).unwrap();
    advance(Duration::from_millis(10)).await;
    running.complete();
    let next = harness.batch().await;
    assert!(next.contents.questions().contains(&"single"), "{:?} {:?}", first, next.contents);
    next.complete();
    single.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn higher_class_is_first_and_lowest_is_still_served() {
    let batch = BatchLimits { max_questions: 2, ..BatchLimits::default() };
    let mut harness = Harness::new(with_batch(batch)).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let mut tickets = Vec::new();
    for (priority, question) in
        [(Priority::Low, "low"), (Priority::Normal, "normal"), (Priority::High, "high")]
    {
        let mut new_job = job(1, question);
        new_job.priority = priority;
        tickets.push(harness.submit(new_job).unwrap());
    }
    running.complete();
    let second = harness.batch().await;
    assert_eq!(second.contents.questions(), ["high", "normal"]);
    second.complete();
    assert_eq!(harness.batch().await.contents.questions(), ["low"]);
}

#[tokio::test(start_paused = true)]
async fn job_goes_to_engine_with_cached_image() {
    let mut harness = Harness::with_engines(slow_images(), 2).await;
    let first = harness.ask(1, "first");
    let running = harness.batch().await;
    let owner = running.contents.engine;
    running.with_rows(|rows| rows.image_cached(image_digest(1), 100)).await;
    advance(Duration::from_millis(102)).await;
    running.complete();
    first.await.unwrap();
    for n in 0..5 {
        let ticket = harness.ask(1, &format!("again {n}"));
        let again = harness.batch().await;
        assert_eq!(again.contents.engine, owner);
        advance(Duration::from_millis(2)).await;
        again.complete();
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn engines_with_shared_cache_do_not_wait_for_owner() {
    let config = SchedulerConfig { engines_share_features: true, ..slow_images() };
    let mut harness = Harness::with_engines(config, 2).await;
    let _busy = harness.ask(1, "first");
    let running = harness.batch().await;
    running.with_rows(|rows| rows.image_cached(image_digest(1), 100)).await;
    // The owner is free before encoding would end. But the image needs no encoding.
    let _second = harness.ask(1, "second");
    assert_ne!(harness.batch().await.contents.engine, running.contents.engine);
}

/// Starts two engines. The first one has image 1 cached and encodes five more images, which takes
/// half a second. The other is idle. Returns the busy engine's batch.
async fn busy_owner_of_image_1(harness: &mut Harness) -> RunningBatch {
    let _first = harness.ask(1, "hold");
    let owner = harness.batch().await;
    let _second = harness.ask(2, "hold");
    let other = harness.batch().await;
    owner.with_rows(|rows| rows.image_cached(image_digest(1), 100)).await;
    let tickets: Vec<_> = (10..15).map(|image| harness.ask(image, "long")).collect();
    // Dropping the tickets would cancel the jobs.
    std::mem::forget(tickets);
    // As long as the model predicts, so that the fit does not change.
    advance(Duration::from_millis(102)).await;
    owner.complete();
    let busy = harness.batch().await;
    assert_eq!(busy.contents.rows.len(), 5);
    other.complete();
    harness.nothing_starts().await;
    busy
}

#[tokio::test(start_paused = true)]
async fn idle_engine_takes_image_when_owner_is_busy_for_long() {
    let mut harness = Harness::with_engines(slow_images(), 2).await;
    let busy = busy_owner_of_image_1(&mut harness).await;
    let _ticket = harness.ask(1, "taken over");
    let taken = harness.batch().await;
    assert_ne!(taken.contents.engine, busy.contents.engine);
}

#[tokio::test(start_paused = true)]
async fn image_is_left_to_owner_that_is_free_soon() {
    let mut harness = Harness::with_engines(slow_images(), 2).await;
    let busy = busy_owner_of_image_1(&mut harness).await;
    advance(Duration::from_millis(450)).await;
    let _ticket = harness.ask(1, "left to it");
    harness.nothing_starts().await;
    let owner = busy.contents.engine;
    busy.complete();
    assert_eq!(harness.batch().await.contents.engine, owner);
}

#[tokio::test(start_paused = true)]
async fn idle_engine_takes_image_when_owner_is_late() {
    let mut harness = Harness::with_engines(slow_images(), 2).await;
    let busy = busy_owner_of_image_1(&mut harness).await;
    advance(Duration::from_millis(450)).await;
    let _ticket = harness.ask(1, "taken late");
    harness.nothing_starts().await;
    // 1.5 times the predicted time.
    advance(Duration::from_millis(310)).await;
    assert_ne!(harness.batch().await.contents.engine, busy.contents.engine);
}

#[tokio::test(start_paused = true)]
async fn jobs_are_spread_over_free_engines() {
    let batch = BatchLimits { max_questions: 1, ..BatchLimits::default() };
    let mut harness = Harness::with_engines(with_batch(batch), 3).await;
    let _tickets: Vec<_> = (0..3).map(|n| harness.ask(n, "q")).collect();
    let mut engines = Vec::new();
    let mut running = Vec::new();
    for _ in 0..3 {
        let batch = harness.batch().await;
        engines.push(batch.contents.engine);
        running.push(batch);
    }
    engines.sort_unstable();
    assert_eq!(engines, [0, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn full_batch_starts_without_delay() {
    let batch = BatchLimits { max_questions: 4, ..BatchLimits::default() };
    let max_batch_delay = Duration::from_secs(1);
    let mut harness = Harness::new(SchedulerConfig { max_batch_delay, ..with_batch(batch) }).await;
    let _tickets: Vec<_> = (0..6).map(|n| harness.ask(1, &format!("q{n}"))).collect();
    let full = harness.batch().await;
    assert_eq!(full.contents.rows.len(), 4);
    full.complete();
    harness.nothing_starts().await;
    advance(max_batch_delay).await;
    assert_eq!(harness.batch().await.contents.rows.len(), 2);
}
