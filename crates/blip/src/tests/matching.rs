//! Compares match scores and embeddings with those of `transformers` 5.17, in single rows and in
//! random batches.
//!
//! `tests/reference/generate/goldens_tasks.py` writes the goldens.

use proptest::prelude::*;
use serde::Deserialize;

use crate::{
    CheckpointOptions, Conventions, MatchScores, RowError, RowInput, RowOutput, RowTask,
    model::Head,
    tests::{golden_files::RowCollector, task_goldens::TaskGolden},
};

const FOLDERS: [&str; 2] = ["retrieval/wide_vision", "retrieval/narrow_vision"];

#[derive(Debug, Deserialize)]
struct Case {
    image: usize,
    text: String,
    input_ids: Vec<i64>,
    hf: Scores,
    salesforce: Scores,
}

#[derive(Debug, Deserialize)]
struct Scores {
    logits: [f32; 2],
    cosine: f32,
}

type Golden = TaskGolden<Case>;

fn golden(name: &str, conventions: Conventions) -> Golden {
    TaskGolden::open(name, CheckpointOptions { conventions, ..CheckpointOptions::default() })
}

fn run_batch(golden: &mut Golden, rows: &[RowInput<'_>]) -> Vec<RowOutput> {
    golden.run(rows).outcomes.into_iter().map(|outcome| outcome.unwrap().unwrap().output).collect()
}

fn match_scores(output: &RowOutput) -> MatchScores {
    let RowOutput::Matched(scores) = output else { panic!("{output:?}") };
    *scores
}

fn embedding(output: &RowOutput) -> &[f32] {
    let RowOutput::Embedding(vector) = output else { panic!("{output:?}") };
    vector
}

fn is_near(found: &[f32], expected: &[f32], limit: f32) -> bool {
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < limit)
}

fn scores_equal(found: MatchScores, expected: &Scores) -> bool {
    is_near(&found.logits, &expected.logits, 1e-4) && (found.cosine - expected.cosine).abs() < 1e-4
}

#[test]
fn match_scores_equal_the_reference_in_both_conventions() {
    for name in FOLDERS {
        for conventions in [Conventions::Hf, Conventions::Salesforce] {
            let mut golden = golden(name, conventions);
            for index in 0..golden.cases.len() {
                let ids = golden.cases[index].input_ids.clone();
                let image = Some(golden.cases[index].image);
                let outputs =
                    run_batch(&mut golden, &[RowInput { image, token_ids: &ids, task: &RowTask::Match }]);
                let case = &golden.cases[index];
                let expected = if conventions == Conventions::Hf { &case.hf } else { &case.salesforce };
                assert!(scores_equal(match_scores(&outputs[0]), expected), "{name} {case:?}: {outputs:?}");
            }
        }
        let golden = golden(name, Conventions::Hf);
        for case in &golden.cases {
            assert_eq!(golden.tokenizer.encode(&case.text).unwrap(), case.input_ids);
        }
    }
}

#[test]
fn embeddings_equal_the_reference_and_give_its_cosine() {
    for name in FOLDERS {
        let mut golden = golden(name, Conventions::Hf);
        let cases = std::mem::take(&mut golden.cases);
        for (index, case) in cases.iter().enumerate() {
            // The first batch has one text and no image. The second has one image and no text.
            let text = RowInput { image: None, token_ids: &case.input_ids, task: &RowTask::EmbedText };
            let text = run_batch(&mut golden, &[text]).remove(0);
            let image = RowInput { image: Some(case.image), token_ids: &[], task: &RowTask::EmbedImage };
            let image = run_batch(&mut golden, &[image]).remove(0);
            let (text, image) = (embedding(&text), embedding(&image));
            assert_eq!(text.len() as i64, golden.model.config().embedding_size().unwrap());
            for (found, name) in
                [(text, format!("case{index}.embedding")), (image, format!("image{}.embedding", case.image))]
            {
                let expected = Vec::<f32>::try_from(golden.folder.tensor(&name)).unwrap();
                assert!(is_near(found, &expected, 1e-4), "{name}: {found:?}, expected {expected:?}");
            }
            let cosine: f32 = text.iter().zip(image).map(|(text, image)| text * image).sum();
            assert!((cosine - case.hf.cosine).abs() < 1e-4);
        }
    }
}

#[test]
fn rows_of_mixed_tasks_equal_single_rows() {
    for name in FOLDERS {
        let mut golden = golden(name, Conventions::Hf);
        let cases = std::mem::take(&mut golden.cases);
        let task = prop_oneof![Just(RowTask::Match), Just(RowTask::EmbedText), Just(RowTask::EmbedImage)];
        let picks = prop::collection::vec((0..cases.len(), 0..2usize, task), 1..=24);
        let golden = std::cell::RefCell::new(&mut golden);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(16));
        let outcome = runner.run(&picks, |picks| {
            let rows: Vec<RowInput<'_>> = picks
                .iter()
                .map(|(case, image, task)| RowInput {
                    image: (*task != RowTask::EmbedText).then_some(*image),
                    token_ids: if *task == RowTask::EmbedImage { &[] } else { &cases[*case].input_ids },
                    task,
                })
                .collect();
            let mut golden = golden.borrow_mut();
            let batched = run_batch(&mut golden, &rows);
            for (row, batched) in rows.iter().zip(&batched) {
                let alone = run_batch(&mut golden, &[*row]).remove(0);
                match (batched, &alone) {
                    (RowOutput::Matched(batched), RowOutput::Matched(alone)) => {
                        prop_assert!(is_near(&batched.logits, &alone.logits, 1e-4));
                        prop_assert!((batched.cosine - alone.cosine).abs() < 1e-4);
                    }
                    _ => prop_assert!(is_near(embedding(batched), embedding(&alone), 1e-4)),
                }
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    }
}

#[test]
fn cancelled_row_and_unsupported_task_affect_no_other_row() {
    let mut golden = golden(FOLDERS[0], Conventions::Hf);
    let ids = golden.cases[1].input_ids.clone();
    let row = |task| RowInput { image: Some(0), token_ids: &ids, task };
    let rows = [row(&RowTask::Match), row(&RowTask::GREEDY), row(&RowTask::Match)];
    let mut sink = RowCollector { cancelled: vec![0], ..RowCollector::for_rows(3) };
    golden.run_into(&rows, &mut sink);
    assert!(sink.outcomes[0].is_none());
    let error = sink.outcomes[1].clone().unwrap().unwrap_err();
    assert_eq!(error, RowError::Unsupported { task: "generation" });
    assert!(sink.outcomes[2].clone().unwrap().is_ok());
}

#[test]
fn overflow_in_a_model_fails_the_row_and_not_the_batch() {
    let mut golden = golden(FOLDERS[0], Conventions::Hf);
    let Head::Retrieval(head) = &mut golden.model.head else { panic!("not a retrieval model") };
    head.break_matching();
    let ids = golden.cases[0].input_ids.clone();
    let rows = [
        RowInput { image: Some(0), token_ids: &ids, task: &RowTask::Match },
        RowInput { image: None, token_ids: &ids, task: &RowTask::EmbedText },
    ];
    let sink = golden.run(&rows);
    assert_eq!(sink.outcomes[0].clone().unwrap().unwrap_err(), RowError::NotFinite);
    assert!(sink.outcomes[1].clone().unwrap().is_ok());
}
