//! Batches of questions of similar length, without a change of turns.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "test helpers fail by panicking; the figure is of interest within the bound too"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use scheduler::state_machine::{Effects, JobSpec, StateMachine};
use scheduler::{BatchLimits, ClientId, Priority, SchedulerConfig};
use tokio::time::Instant;

/// A question: its client, its number, and its length.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Question {
    client: u64,
    number: u64,
    tokens: u32,
}

/// Returns all batches of a trace whose jobs arrive at the start, about one image.
fn batches(trace: &[Question], max_questions: usize) -> Vec<Vec<Question>> {
    let batch = BatchLimits { max_questions, max_padded_tokens: usize::MAX, ..BatchLimits::default() };
    let mut machine: StateMachine<(), Question, ()> =
        StateMachine::new(SchedulerConfig { batch, ..SchedulerConfig::default() }, 1);
    let mut now = Instant::now();
    let mut effects = Effects::default();
    for question in trace {
        let mut question_key = [0; 32];
        question_key[..8].copy_from_slice(&question.client.to_le_bytes());
        question_key[8..16].copy_from_slice(&question.number.to_le_bytes());
        let spec = JobSpec {
            client: ClientId(question.client),
            priority: Priority::Normal,
            weight: 1,
            deadline: None,
            image_digest: [1; 32],
            image_bytes: 1,
            question_key,
            tokens: question.tokens,
            decode_steps: 0,
        };
        machine.submit(now, &spec, Arc::new(()), Arc::new(*question), (), &mut effects).unwrap();
    }
    let mut batches = Vec::new();
    while let Some(batch) = machine.next_batch(now, 0, &mut effects) {
        now += Duration::from_millis(10);
        machine.image_cached(0, [1; 32]);
        for row in 0..batch.questions.len() {
            machine.finish_row(now, 0, row);
        }
        machine.end_batch(now, 0, Ok(()), 3, &mut effects);
        batches.push(batch.questions.iter().map(|question| *question.payload).collect());
    }
    batches
}

/// Returns the fraction of the padded tokens that is padding.
fn padding_fraction(batches: &[Vec<Question>]) -> f64 {
    let longest =
        |batch: &Vec<Question>| batch.iter().map(|question| question.tokens).max().unwrap() as usize;
    let padded: usize = batches.iter().map(|batch| batch.len() * longest(batch)).sum();
    let tokens: u32 = batches.iter().flatten().map(|question| question.tokens).sum();
    1.0 - f64::from(tokens) / padded as f64
}

/// Returns for each batch its clients with their numbers of rows.
fn turns(batches: &[Vec<Question>]) -> Vec<BTreeMap<u64, usize>> {
    let count = |batch: &Vec<Question>| {
        let mut rows = BTreeMap::new();
        batch.iter().for_each(|question| *rows.entry(question.client).or_default() += 1);
        rows
    };
    batches.iter().map(count).collect()
}

/// Returns the batches without a choice by length: planned with equal lengths, padded with the
/// real ones.
fn in_strict_order(trace: &[Question], max_questions: usize) -> Vec<Vec<Question>> {
    let alike: Vec<_> = trace.iter().map(|question| Question { tokens: 8, ..*question }).collect();
    let tokens: BTreeMap<_, _> =
        trace.iter().map(|question| ((question.client, question.number), question.tokens)).collect();
    let mut strict = batches(&alike, max_questions);
    for question in strict.iter_mut().flatten() {
        question.tokens = tokens[&(question.client, question.number)];
    }
    strict
}

fn mixed_trace(clients: u64, questions: u64) -> Vec<Question> {
    // Each client has short and long questions in pseudo-random order.
    let question_of = |client: u64, number: u64| {
        let draw = (client * 7919 + number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let tokens = if draw.is_multiple_of(2) { 5 + draw % 4 } else { 30 + draw % 10 };
        Question { client, number, tokens: tokens as u32 }
    };
    (0..questions).flat_map(|number| (0..clients).map(move |client| question_of(client, number))).collect()
}

#[test]
fn padding_falls_by_half_without_change_of_turns() {
    for clients in [1, 3] {
        let trace = mixed_trace(clients, 480 / clients);
        let (strict, chosen) = (in_strict_order(&trace, 16), batches(&trace, 16));
        assert_eq!(turns(&chosen), turns(&strict));
        let (strict, chosen) = (padding_fraction(&strict), padding_fraction(&chosen));
        println!("{clients} clients: padding {strict:.3} in strict order, {chosen:.3} with choice by length");
        assert!(chosen <= 0.5 * strict, "{chosen:.3} of {strict:.3}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn oldest_job_is_in_every_batch_of_its_client(
        lengths in prop::collection::vec((0..4u64, 1..60u32), 1..300),
        max_questions in 1..20usize,
    ) {
        let numbered = lengths.iter().zip(0..);
        let trace: Vec<_> =
            numbered.map(|((client, tokens), number)| Question { client: *client, number, tokens: *tokens }).collect();
        let chosen = batches(&trace, max_questions);
        prop_assert_eq!(turns(&chosen), turns(&in_strict_order(&trace, max_questions)));
        let mut waiting = trace.clone();
        for batch in &chosen {
            for question in batch {
                let oldest = waiting.iter().find(|other| other.client == question.client).unwrap();
                prop_assert!(batch.contains(oldest), "{oldest:?} is missing in {batch:?}");
            }
            waiting.retain(|question| !batch.contains(question));
        }
        prop_assert!(waiting.is_empty());
    }
}
