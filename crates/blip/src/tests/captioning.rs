//! Compares captions with those of `transformers` 5.17, in single rows and in random batches.
//!
//! `tests/reference/generate/goldens_tasks.py` writes the goldens.

use proptest::prelude::*;
use serde::Deserialize;
use tch::Tensor;

use crate::{
    CheckpointOptions, Generation, RowAnswer, RowError, RowInput, RowSink, RowTask,
    model::Head,
    tests::{golden_files::RowCollector, task_goldens::TaskGolden},
};

const FOLDERS: [&str; 2] = ["captions/wide_vision", "captions/narrow_vision"];

/// A caption of the reference.
#[derive(Debug, Deserialize)]
struct Case {
    image: usize,
    prompt: String,
    prompt_ids: Vec<i64>,
    written_ids: Vec<i64>,
    text: String,
    score: f32,
}

fn goldens() -> impl Iterator<Item = TaskGolden<Case>> {
    FOLDERS.into_iter().map(|name| TaskGolden::open(name, CheckpointOptions::default()))
}

fn row<'a>(case: &'a Case, task: &'a RowTask) -> RowInput<'a> {
    RowInput { image: Some(case.image), token_ids: &case.prompt_ids, task }
}

/// Generates the captions of the cases `picks` in one batch.
fn run_batch(golden: &mut TaskGolden<Case>, picks: &[usize]) -> RowCollector {
    let cases = std::mem::take(&mut golden.cases);
    let rows: Vec<RowInput<'_>> = picks.iter().map(|&pick| row(&cases[pick], &RowTask::GREEDY)).collect();
    let sink = golden.run(&rows);
    golden.cases = cases;
    sink
}

fn relative_error(found: &Tensor, expected: &Tensor) -> f64 {
    assert_eq!(found.size(), expected.size());
    (found - expected).abs().max().double_value(&[]) / expected.abs().max().double_value(&[])
}

#[test]
fn captions_equal_the_reference_with_and_without_prompt() {
    for mut golden in goldens() {
        for index in 0..golden.cases.len() {
            let rows = run_batch(&mut golden, &[index]);
            let (case, caption) = (&golden.cases[index], rows.sequence(0));
            assert_eq!(golden.tokenizer.encode_prompt(&case.prompt).unwrap(), case.prompt_ids);
            assert_eq!(caption.token_ids, case.written_ids, "{case:?}");
            assert!((caption.score - case.score).abs() < 1e-4 * case.score.abs().max(1.0), "{caption:?}");
            let text = golden.tokenizer.decode_caption(&case.prompt_ids, &caption.token_ids);
            assert_eq!(text, case.text, "text with its prompt");
        }
    }
}

#[test]
fn caption_logits_equal_the_reference_at_every_step() {
    for mut golden in goldens() {
        let features: Vec<Tensor> =
            golden.images.iter().map(|image| golden.model.features(&[image])).collect();
        let Head::Captioning(head) = &golden.model.head else { panic!("not a captioning model") };
        for (index, case) in golden.cases.iter().enumerate() {
            let features = features[case.image].shallow_clone();
            let expected = golden.folder.tensor(&format!("image{}.image_embeds", case.image));
            assert!(relative_error(&features.squeeze_dim(0), &expected) < 1e-4);
            let mut state = head.decoder.start(&features, None).unwrap();
            let expected = golden.folder.tensor(&format!("case{index}.step_logits"));
            let tokens = case.prompt_ids.iter().chain(&case.written_ids[..case.written_ids.len() - 1]);
            for (position, &token) in tokens.enumerate() {
                let logits = head.decoder.step(&[token], &mut state).unwrap().squeeze_dim(0);
                let Some(step) = (position + 1).checked_sub(case.prompt_ids.len()) else { continue };
                let error = relative_error(&logits, &expected.get(step as i64));
                assert!(error < 1e-4, "step {step} of {case:?}: {error:e}");
            }
        }
    }
}

#[test]
fn captions_in_random_batches_equal_those_of_single_rows() {
    for mut golden in goldens() {
        let picks = prop::collection::vec(0..golden.cases.len(), 1..=24);
        let golden = std::cell::RefCell::new(&mut golden);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(16));
        let outcome = runner.run(&picks, |picks| {
            let mut golden = golden.borrow_mut();
            let rows = run_batch(&mut golden, &picks);
            for (row, &pick) in picks.iter().enumerate() {
                let (case, caption) = (&golden.cases[pick], rows.sequence(row));
                prop_assert_eq!(&caption.token_ids, &case.written_ids);
                prop_assert!((caption.score - case.score).abs() < 1e-3, "{} {}", caption.score, case.score);
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{outcome:?}");
    }
}

/// A row sink that stores outcomes and the reported tokens of each row.
struct TokenCollector {
    rows: RowCollector,
    tokens: Vec<Vec<i64>>,
}

impl RowSink for TokenCollector {
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>) {
        self.rows.finish(row, outcome);
    }

    fn is_cancelled(&self, row: usize) -> bool {
        self.rows.is_cancelled(row)
    }

    fn token(&mut self, row: usize, index: usize, token: i64) {
        assert!(self.rows.outcomes[row].is_none(), "row {row} reports a token after its outcome");
        assert_eq!(index, self.tokens[row].len(), "row {row} skips a token");
        self.tokens[row].push(token);
    }
}

#[test]
fn requested_tokens_are_reported_singly_after_the_prompt() {
    for mut golden in goldens() {
        let with_tokens = RowTask::Generate(Generation { report_tokens: true, ..Generation::GREEDY });
        let tasks = [&with_tokens, &RowTask::GREEDY, &with_tokens];
        let cases = std::mem::take(&mut golden.cases);
        let rows: Vec<RowInput<'_>> =
            cases.iter().zip(tasks.iter().cycle()).map(|(case, task)| row(case, task)).collect();
        let mut sink =
            TokenCollector { rows: RowCollector::for_rows(rows.len()), tokens: vec![Vec::new(); rows.len()] };
        golden.run_into(&rows, &mut sink);
        for (index, case) in cases.iter().enumerate() {
            let expected = if index % 3 == 1 { &[][..] } else { &case.written_ids };
            assert_eq!(sink.tokens[index], expected, "row {index}");
        }
    }
}
