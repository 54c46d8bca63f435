//! Outputs of all generation strategies do not depend on the batch composition.
//!
//! A search stops when its client cancels it.

use std::cell::{Cell, RefCell};

use proptest::prelude::*;

use crate::{
    Dtype, Generation, ImageInput, RowAnswer, RowError, RowInput, RowOutput, RowSink, RowTask, Sampling,
    tests::{
        generation::goldens::{GenerationGoldens, PLAIN_SAMPLING, TestRow, run_rows, run_single, sampled},
        golden_files::{Golden, golden, goldens, test_digest},
    },
};

/// Returns rows of every strategy: greedy, search, sampling and ranking.
pub(super) fn rows_of_every_strategy<'a>(golden: &'a Golden) -> Vec<TestRow<'a>> {
    let expected = GenerationGoldens::of(golden);
    let samplings = [
        PLAIN_SAMPLING,
        Sampling { temperature: 0.6, top_k: 20, top_p: 1.0, seed: 2 },
        Sampling { temperature: 1.4, top_k: 0, top_p: 0.8, seed: 3 },
    ];
    let greedy = golden.cases.iter().map(|case| TestRow::question(case, RowTask::GREEDY));
    let sampled_rows = golden.cases.iter().flat_map(|case| {
        (1..).zip(samplings).map(move |(count, sampling)| {
            let options = Generation { repetition_penalty: 1.2, min_length: 3, ..sampled(sampling, count) };
            TestRow::question(case, RowTask::Generate(options))
        })
    });
    let searched = expected.answers.iter().map(|expected| expected.row(golden));
    let ranked = expected.rankings.iter().map(|expected| expected.row(golden));
    greedy.chain(sampled_rows).chain(searched).chain(ranked).collect()
}

pub(super) fn assert_same(batched: &RowOutput, alone: &RowOutput) -> Result<(), TestCaseError> {
    match (batched, alone) {
        (RowOutput::Generated(batched), RowOutput::Generated(alone)) => {
            prop_assert_eq!(batched.len(), alone.len());
            for (batched, alone) in batched.iter().zip(alone) {
                prop_assert_eq!(&batched.token_ids, &alone.token_ids);
                prop_assert!((batched.score - alone.score).abs() < 1e-3);
            }
        }
        (RowOutput::Ranked(batched), RowOutput::Ranked(alone)) => {
            prop_assert_eq!(batched.len(), alone.len());
            for (batched, alone) in batched.iter().zip(alone) {
                prop_assert_eq!(batched.candidate, alone.candidate);
                prop_assert!((batched.score - alone.score).abs() < 1e-3);
            }
        }
        other => prop_assert!(false, "outputs of different kinds: {other:?}"),
    }
    Ok(())
}

#[test]
fn outputs_in_random_batches_equal_those_of_single_rows() {
    for (offset, golden) in goldens().into_iter().enumerate() {
        let mut model = golden.model(Dtype::F32);
        // Consecutive goldens test different thirds of the rows.
        let rows: Vec<TestRow<'_>> =
            rows_of_every_strategy(&golden).into_iter().skip(offset % 3).step_by(3).collect();
        let alone: Vec<RowOutput> = rows.iter().map(|row| run_single(&mut model, row)).collect();
        let model = RefCell::new(model);
        let picks = prop::collection::vec(0..rows.len(), 2..=40);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(6));
        let outcome = runner.run(&picks, |picks| {
            let picked: Vec<TestRow<'_>> = picks.iter().map(|&pick| rows[pick].clone()).collect();
            let batched = run_rows(&mut model.borrow_mut(), &picked, Vec::new());
            for (outcome, &pick) in batched.outcomes.iter().zip(&picks) {
                assert_same(&outcome.as_ref().unwrap().as_ref().unwrap().output, &alone[pick])?;
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{}: {outcome:?}", golden.name);
    }
}

#[test]
fn beams_beyond_max_hypotheses_do_not_change_outputs() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let options = Generation { num_beams: 16, num_sequences: 2, ..Generation::GREEDY };
    let rows: Vec<TestRow<'_>> = (0..40)
        .map(|index| TestRow::question(&golden.cases[index % golden.cases.len()], RowTask::Generate(options)))
        .collect();
    let batched = run_rows(&mut model, &rows, Vec::new());
    for (outcome, row) in batched.outcomes.iter().zip(&rows).step_by(7) {
        let alone = run_single(&mut model, row);
        assert_same(&outcome.as_ref().unwrap().as_ref().unwrap().output, &alone).unwrap();
    }
}

#[test]
fn cancelled_search_is_not_reported_and_changes_no_other_row() {
    let golden = golden("fifty_by_ten");
    let mut model = golden.model(Dtype::F32);
    let rows: Vec<TestRow<'_>> = rows_of_every_strategy(&golden).into_iter().step_by(11).collect();
    let alone: Vec<RowOutput> = rows.iter().map(|row| run_single(&mut model, row)).collect();
    for cancelled in 0..rows.len() {
        let batched = run_rows(&mut model, &rows, vec![cancelled]);
        for (row, outcome) in batched.outcomes.iter().enumerate() {
            match outcome {
                None => assert_eq!(row, cancelled),
                Some(outcome) => assert_same(&outcome.as_ref().unwrap().output, &alone[row]).unwrap(),
            }
        }
    }
}

/// A row sink that reports its row as cancelled after `max_checks` checks.
#[derive(Default)]
pub(super) struct CancellingSink {
    pub(super) max_checks: usize,
    pub(super) checks: Cell<usize>,
    pub(super) finished: usize,
    pub(super) tokens: Vec<i64>,
}

impl RowSink for CancellingSink {
    fn finish(&mut self, _row: usize, _outcome: Result<RowAnswer, RowError>) {
        self.finished += 1;
    }

    fn is_cancelled(&self, _row: usize) -> bool {
        self.checks.set(self.checks.get() + 1);
        self.checks.get() > self.max_checks
    }

    fn token(&mut self, _row: usize, index: usize, token: i64) {
        assert_eq!(index, self.tokens.len());
        self.tokens.push(token);
    }
}

#[test]
fn search_stops_after_cancellation_between_two_steps() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let case = &golden.cases[0];
    let image = ImageInput { digest: test_digest(&case.pixels), pixels: &case.pixels };
    let long = Generation { min_length: 12, ..Generation::GREEDY };
    let mut run = |options: Generation, max_checks| {
        let task = RowTask::Generate(options);
        let row = RowInput { image: Some(0), token_ids: &case.input_ids, task: &task };
        let mut sink = CancellingSink { max_checks, ..CancellingSink::default() };
        model.run(&[image], &[row], &mut sink).unwrap();
        sink
    };
    let beams = Generation { num_beams: 3, ..long };
    let reported = Generation { report_tokens: true, sampling: Some(PLAIN_SAMPLING), ..long };
    assert_eq!((run(beams, usize::MAX).finished, run(reported, usize::MAX).finished), (1, 1));
    let all_tokens = run(reported, usize::MAX).tokens;
    assert!(all_tokens.len() > 6);
    // The model checks before the batch, before the first step and after each step.
    for steps in 1..4 {
        let cancelled = run(reported, 1 + steps);
        assert_eq!((cancelled.finished, &cancelled.tokens[..]), (0, &all_tokens[..steps]));
        assert_eq!(run(beams, 1 + steps).finished, 0);
    }
}

#[test]
fn tokens_of_a_single_sequence_are_reported_when_chosen() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let reported = |options: Generation| RowTask::Generate(Generation { report_tokens: true, ..options });
    let tasks = [
        reported(sampled(PLAIN_SAMPLING, 1)),
        reported(sampled(PLAIN_SAMPLING, 2)),
        reported(Generation { min_length: 6, ..Generation::GREEDY }),
        reported(Generation { num_beams: 2, ..Generation::GREEDY }),
    ];
    let rows = tasks.map(|task| TestRow::question(&golden.cases[3], task));
    let batched = run_rows(&mut model, &rows, Vec::new());
    for (row, is_reported) in [true, false, true, false].into_iter().enumerate() {
        let tokens = batched.tokens.iter().filter(|(token_row, ..)| *token_row == row);
        let expected = batched.sequence(row).token_ids;
        let expected = expected.iter().enumerate().map(|(index, &token)| (row, index, token));
        let expected: Vec<_> = expected.filter(|_| is_reported).collect();
        assert_eq!(tokens.copied().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn decode_steps_are_the_sum_over_all_strategies() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let expected = GenerationGoldens::of(&golden);
    let case = &golden.cases[1];
    let (searched, ranked) = (expected.answers[0].row(&golden), expected.rankings[0].row(&golden));
    let rows = [TestRow::question(case, RowTask::GREEDY), searched, ranked];
    let alone: Vec<u32> =
        rows.iter().map(|row| run_rows(&mut model, std::slice::from_ref(row), Vec::new()).steps).collect();
    assert!(alone.iter().all(|&steps| steps > 0));
    assert_eq!(run_rows(&mut model, &rows, Vec::new()).steps, alone.iter().sum::<u32>());
}
