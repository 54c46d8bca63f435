//! Questions of like length go together when that costs no one their turn.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test says what is wrong by panicking; the waste is of interest also when it is within the bound"
)]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use scheduler::state_machine::{Effects, JobSpec, StateMachine};
use scheduler::{BatchLimits, ClientId, Priority, SchedulerConfig};
use tokio::time::Instant;

/// One question: who asked, which of its own it is, and how long it is.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Asked {
    client: u64,
    number: u64,
    tokens: u32,
}

/// All batches of a trace in which each client asks everything at the start, about one image.
fn batches(trace: &[Asked], max_questions: usize) -> Vec<Vec<Asked>> {
    let batch = BatchLimits { max_questions, max_padded_tokens: usize::MAX, ..BatchLimits::default() };
    let mut machine: StateMachine<(), Asked, ()> =
        StateMachine::new(SchedulerConfig { batch, ..SchedulerConfig::default() }, 1);
    let mut now = Instant::now();
    let mut effects = Effects::default();
    for asked in trace {
        let mut question_key = [0; 32];
        question_key[..8].copy_from_slice(&asked.client.to_le_bytes());
        question_key[8..16].copy_from_slice(&asked.number.to_le_bytes());
        let spec = JobSpec {
            client: ClientId(asked.client),
            priority: Priority::Normal,
            weight: 1,
            deadline: None,
            image_digest: [1; 32],
            image_bytes: 1,
            question_key,
            tokens: asked.tokens,
        };
        machine.submit(now, &spec, Arc::new(()), Arc::new(*asked), (), &mut effects).unwrap();
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

/// Part of the padded tokens that is padding.
fn waste(batches: &[Vec<Asked>]) -> f64 {
    let longest = |batch: &Vec<Asked>| batch.iter().map(|asked| asked.tokens).max().unwrap() as usize;
    let padded: usize = batches.iter().map(|batch| batch.len() * longest(batch)).sum();
    let tokens: u32 = batches.iter().flatten().map(|asked| asked.tokens).sum();
    1.0 - f64::from(tokens) / padded as f64
}

/// Clients by the batch that they have a row in, in order, and how many.
fn turns(batches: &[Vec<Asked>]) -> Vec<BTreeMap<u64, usize>> {
    let count = |batch: &Vec<Asked>| {
        let mut rows = BTreeMap::new();
        batch.iter().for_each(|asked| *rows.entry(asked.client).or_default() += 1);
        rows
    };
    batches.iter().map(count).collect()
}

/// What the same turns would be without a choice: all questions equally long, padded as they really are.
fn in_strict_order(trace: &[Asked], max_questions: usize) -> Vec<Vec<Asked>> {
    let alike: Vec<_> = trace.iter().map(|asked| Asked { tokens: 8, ..*asked }).collect();
    let tokens: BTreeMap<_, _> =
        trace.iter().map(|asked| ((asked.client, asked.number), asked.tokens)).collect();
    let mut strict = batches(&alike, max_questions);
    for asked in strict.iter_mut().flatten() {
        asked.tokens = tokens[&(asked.client, asked.number)];
    }
    strict
}

fn mixed_trace(clients: u64, questions: u64) -> Vec<Asked> {
    // Short questions and long ones in no particular order, from each client.
    let ask = |client: u64, number: u64| {
        let draw = (client * 7919 + number).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        let tokens = if draw.is_multiple_of(2) { 5 + draw % 4 } else { 30 + draw % 10 };
        Asked { client, number, tokens: tokens as u32 }
    };
    (0..questions).flat_map(|number| (0..clients).map(move |client| ask(client, number))).collect()
}

#[test]
fn padding_falls_by_half_when_a_client_has_many_questions_and_nobodys_turn_changes() {
    for clients in [1, 3] {
        let trace = mixed_trace(clients, 480 / clients);
        let (strict, ours) = (in_strict_order(&trace, 16), batches(&trace, 16));
        assert_eq!(turns(&ours), turns(&strict));
        let (strict, ours) = (waste(&strict), waste(&ours));
        println!("{clients} clients: waste {strict:.3} in strict order, {ours:.3} with like length");
        assert!(ours <= 0.5 * strict, "{ours:.3} of {strict:.3}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_clients_oldest_question_is_in_every_batch_that_it_has_a_part_in(
        lengths in prop::collection::vec((0..4u64, 1..60u32), 1..300),
        max_questions in 1..20usize,
    ) {
        let numbered = lengths.iter().zip(0..);
        let trace: Vec<_> =
            numbered.map(|((client, tokens), number)| Asked { client: *client, number, tokens: *tokens }).collect();
        let ours = batches(&trace, max_questions);
        prop_assert_eq!(turns(&ours), turns(&in_strict_order(&trace, max_questions)));
        let mut waiting = trace.clone();
        for batch in &ours {
            for asked in batch {
                let oldest = waiting.iter().find(|other| other.client == asked.client).unwrap();
                prop_assert!(batch.contains(oldest), "{oldest:?} was left out of {batch:?}");
            }
            waiting.retain(|asked| !batch.contains(asked));
        }
        prop_assert!(waiting.is_empty());
    }
}
