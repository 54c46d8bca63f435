//! Priorities, fairness, batches, single flight, affinity: who is served when, and with whom.

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
async fn no_delay_is_added_while_the_engine_is_free() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    for n in 0..3 {
        let ticket = harness.ask(1, &format!("q{n}"));
        harness.batch().await.complete();
        assert_eq!(ticket.await.unwrap().queue, Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn with_a_queue_delay_a_batch_is_held_for_company_until_it_is_full_or_the_delay_is_over() {
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
    assert_eq!(harness.batch().await.contents.rows.len(), 2, "a full batch is not held");
}

#[tokio::test(start_paused = true)]
async fn padded_tokens_bound_a_batch() {
    let batch = BatchLimits { max_padded_tokens: 40, ..BatchLimits::default() };
    let mut harness = Harness::new(with_batch(batch)).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let _tickets: Vec<_> = [10, 10, 30, 10]
        .into_iter()
        .enumerate()
        .map(|(n, tokens)| {
            let mut question = job(1, &format!("{n}: {tokens} tokens"));
            question.tokens = tokens;
            harness.submit(question).unwrap()
        })
        .collect();
    running.complete();
    let second = harness.batch().await;
    // The long one would pad the others beyond the bound: it is passed over, and first next time.
    assert_eq!(second.contents.questions(), ["0: 10 tokens", "1: 10 tokens", "3: 10 tokens"]);
    second.complete();
    assert_eq!(harness.batch().await.contents.questions(), ["2: 30 tokens"]);
}

#[tokio::test(start_paused = true)]
async fn questions_of_others_about_an_image_of_the_batch_are_taken_along() {
    let batch = BatchLimits { max_images: 1, ..BatchLimits::default() };
    let mut harness = Harness::new(with_batch(batch)).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let mut tickets = Vec::new();
    for (client, image, question) in
        [(1, 1, "mine"), (2, 2, "other image"), (3, 1, "same image, other client")]
    {
        let mut asked = job(image, question);
        asked.client = ClientId(client);
        tickets.push(harness.submit(asked).unwrap());
    }
    running.complete();
    let second = harness.batch().await;
    assert_eq!(second.contents.images, [1]);
    assert_eq!(second.contents.questions(), ["mine", "same image, other client"]);
}

#[tokio::test(start_paused = true)]
async fn of_those_who_ride_along_the_ones_that_are_padded_least_are_taken() {
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
        let mut asked = job(image, question);
        (asked.client, asked.tokens) = (ClientId(client), tokens);
        tickets.push(harness.submit(asked).unwrap());
    }
    running.complete();
    assert_eq!(harness.batch().await.contents.questions(), ["head", "20", "19", "18"]);
}

#[tokio::test(start_paused = true)]
async fn an_image_in_the_engines_cache_takes_no_image_slot() {
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
async fn the_same_question_of_many_is_computed_once_and_answered_to_all() {
    let mut harness = Harness::new(SchedulerConfig::default()).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let mut asking: Vec<_> = (0..5)
        .map(|client| {
            let mut asked = job(1, "what");
            asked.client = ClientId(client);
            harness.submit(asked).unwrap()
        })
        .collect();
    // One of them hangs up: the others are not concerned, not even when it was the first.
    drop(asking.remove(0));
    running.complete();
    let second = harness.batch().await;
    assert_eq!(second.contents.questions(), ["what"]);
    let late = harness.ask(1, "what");
    second.complete();
    for ticket in asking {
        let completion = ticket.await.unwrap();
        assert_eq!((completion.answer.as_str(), completion.is_shared), ("answer to what", true));
    }
    assert!(late.await.unwrap().is_shared, "joined while it was running");
}

#[tokio::test(start_paused = true)]
async fn one_clients_ten_thousand_questions_do_not_hold_back_anothers_single_one() {
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
async fn a_higher_class_goes_first_and_the_lowest_is_still_served() {
    let batch = BatchLimits { max_questions: 2, ..BatchLimits::default() };
    let mut harness = Harness::new(with_batch(batch)).await;
    let _first = harness.ask(9, "first");
    let running = harness.batch().await;
    let mut tickets = Vec::new();
    for (priority, question) in
        [(Priority::Low, "low"), (Priority::Normal, "normal"), (Priority::High, "high")]
    {
        let mut asked = job(1, question);
        asked.priority = priority;
        tickets.push(harness.submit(asked).unwrap());
    }
    running.complete();
    let second = harness.batch().await;
    assert_eq!(second.contents.questions(), ["high", "normal"]);
    second.complete();
    assert_eq!(harness.batch().await.contents.questions(), ["low"]);
}

#[tokio::test(start_paused = true)]
async fn an_image_goes_to_the_engine_that_has_its_features() {
    let mut harness = Harness::with_engines(slow_images(), 2).await;
    let first = harness.ask(1, "first");
    let running = harness.batch().await;
    let home = running.contents.engine;
    running.with_rows(|rows| rows.image_cached(image_digest(1), 100)).await;
    advance(Duration::from_millis(102)).await;
    running.complete();
    first.await.unwrap();
    for n in 0..5 {
        let ticket = harness.ask(1, &format!("again {n}"));
        let again = harness.batch().await;
        assert_eq!(again.contents.engine, home);
        advance(Duration::from_millis(2)).await;
        again.complete();
        ticket.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn engines_that_share_features_leave_no_image_to_the_one_that_encoded_it() {
    let config = SchedulerConfig { engines_share_features: true, ..slow_images() };
    let mut harness = Harness::with_engines(config, 2).await;
    let _busy = harness.ask(1, "first");
    let running = harness.batch().await;
    running.with_rows(|rows| rows.image_cached(image_digest(1), 100)).await;
    // Its engine will be free sooner than encoding takes, but nothing is left to encode.
    let _waits_for_nobody = harness.ask(1, "second");
    assert_ne!(harness.batch().await.contents.engine, running.contents.engine);
}

/// Two engines: the first to run has image 1 in its cache and five more images to encode, which takes
/// half a second; the other is idle. Gives back the busy one's batch.
async fn busy_home_of_image_1(harness: &mut Harness) -> RunningBatch {
    let _first = harness.ask(1, "hold");
    let home = harness.batch().await;
    let _second = harness.ask(2, "hold");
    let other = harness.batch().await;
    home.with_rows(|rows| rows.image_cached(image_digest(1), 100)).await;
    let tickets: Vec<_> = (10..15).map(|image| harness.ask(image, "long")).collect();
    // The tickets are of no further use, but dropping them would take the work away.
    std::mem::forget(tickets);
    // As long as the model says, so that it is not taught otherwise.
    advance(Duration::from_millis(102)).await;
    home.complete();
    let busy = harness.batch().await;
    assert_eq!(busy.contents.rows.len(), 5);
    other.complete();
    harness.nothing_starts().await;
    busy
}

#[tokio::test(start_paused = true)]
async fn an_idle_engine_steals_an_image_whose_engine_is_busy_for_longer_than_encoding_takes() {
    let mut harness = Harness::with_engines(slow_images(), 2).await;
    let busy = busy_home_of_image_1(&mut harness).await;
    let _ticket = harness.ask(1, "stolen");
    let stolen = harness.batch().await;
    assert_ne!(stolen.contents.engine, busy.contents.engine);
}

#[tokio::test(start_paused = true)]
async fn an_image_is_left_to_its_engine_when_that_is_free_sooner_than_encoding_takes() {
    let mut harness = Harness::with_engines(slow_images(), 2).await;
    let busy = busy_home_of_image_1(&mut harness).await;
    advance(Duration::from_millis(450)).await;
    let _ticket = harness.ask(1, "left to it");
    harness.nothing_starts().await;
    let home = busy.contents.engine;
    busy.complete();
    assert_eq!(harness.batch().await.contents.engine, home);
}

#[tokio::test(start_paused = true)]
async fn an_image_left_to_an_engine_that_does_not_become_free_as_predicted_is_stolen_after_all() {
    let mut harness = Harness::with_engines(slow_images(), 2).await;
    let busy = busy_home_of_image_1(&mut harness).await;
    advance(Duration::from_millis(450)).await;
    let _ticket = harness.ask(1, "not for ever");
    harness.nothing_starts().await;
    // Half as long again as predicted.
    advance(Duration::from_millis(310)).await;
    assert_ne!(harness.batch().await.contents.engine, busy.contents.engine);
}

#[tokio::test(start_paused = true)]
async fn work_is_spread_over_engines_that_are_free() {
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
async fn a_batch_leaves_at_once_when_there_is_more_than_fits_into_it() {
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
