//! Matching and vectors against `transformers` 5.17, each text alone (`tools/goldens_retrieval.py`), and in company.

use proptest::prelude::*;
use serde::Deserialize;

use crate::{
    CheckpointOptions, Conventions, MatchScores, RowError, RowInput, RowOutput, RowTask,
    model::Head,
    tests::{golden_files::Collected, task_goldens::TaskGolden},
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

fn run(golden: &mut Golden, rows: &[RowInput<'_>]) -> Vec<RowOutput> {
    golden.run(rows).outcomes.into_iter().map(|outcome| outcome.unwrap().unwrap().output).collect()
}

fn matched(output: &RowOutput) -> MatchScores {
    let RowOutput::Matched(scores) = output else { panic!("{output:?}") };
    *scores
}

fn embedding(output: &RowOutput) -> &[f32] {
    let RowOutput::Embedding(vector) = output else { panic!("{output:?}") };
    vector
}

fn near(found: &[f32], expected: &[f32], limit: f32) -> bool {
    found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() < limit)
}

fn is_as_expected(found: MatchScores, expected: &Scores) -> bool {
    near(&found.logits, &expected.logits, 1e-4) && (found.cosine - expected.cosine).abs() < 1e-4
}

#[test]
fn every_match_equals_the_references_in_both_flavours() {
    for name in FOLDERS {
        for conventions in [Conventions::Hf, Conventions::Salesforce] {
            let mut golden = golden(name, conventions);
            for index in 0..golden.cases.len() {
                let ids = golden.cases[index].input_ids.clone();
                let image = Some(golden.cases[index].image);
                let outputs = run(&mut golden, &[RowInput { image, token_ids: &ids, task: &RowTask::Match }]);
                let case = &golden.cases[index];
                let expected = if conventions == Conventions::Hf { &case.hf } else { &case.salesforce };
                assert!(is_as_expected(matched(&outputs[0]), expected), "{name} {case:?}: {outputs:?}");
            }
        }
        let golden = golden(name, Conventions::Hf);
        for case in &golden.cases {
            assert_eq!(golden.tokenizer.encode(&case.text).unwrap(), case.input_ids);
        }
    }
}

#[test]
fn vectors_of_texts_and_images_equal_the_references_and_their_product_is_the_cosine() {
    for name in FOLDERS {
        let mut golden = golden(name, Conventions::Hf);
        let cases = std::mem::take(&mut golden.cases);
        for (index, case) in cases.iter().enumerate() {
            // A batch of one text, without any image; then one of an image, without any text.
            let text = RowInput { image: None, token_ids: &case.input_ids, task: &RowTask::EmbedText };
            let text = run(&mut golden, &[text]).remove(0);
            let image = RowInput { image: Some(case.image), token_ids: &[], task: &RowTask::EmbedImage };
            let image = run(&mut golden, &[image]).remove(0);
            let (text, image) = (embedding(&text), embedding(&image));
            assert_eq!(text.len() as i64, golden.model.config().embedding_size().unwrap());
            for (found, name) in
                [(text, format!("case{index}.embedding")), (image, format!("image{}.embedding", case.image))]
            {
                let expected = Vec::<f32>::try_from(golden.folder.tensor(&name)).unwrap();
                assert!(near(found, &expected, 1e-4), "{name}: {found:?} is not {expected:?}");
            }
            let cosine: f32 = text.iter().zip(image).map(|(text, image)| text * image).sum();
            assert!((cosine - case.hf.cosine).abs() < 1e-4);
        }
    }
}

#[test]
fn rows_of_every_kind_in_one_batch_are_what_they_are_alone() {
    for name in FOLDERS {
        let mut golden = golden(name, Conventions::Hf);
        let cases = std::mem::take(&mut golden.cases);
        let kind = prop_oneof![Just(RowTask::Match), Just(RowTask::EmbedText), Just(RowTask::EmbedImage)];
        let picks = prop::collection::vec((0..cases.len(), 0..2usize, kind), 1..=24);
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
            let together = run(&mut golden, &rows);
            for (row, together) in rows.iter().zip(&together) {
                let alone = run(&mut golden, &[*row]).remove(0);
                match (together, &alone) {
                    (RowOutput::Matched(together), RowOutput::Matched(alone)) => {
                        prop_assert!(near(&together.logits, &alone.logits, 1e-4));
                        prop_assert!((together.cosine - alone.cosine).abs() < 1e-4);
                    }
                    _ => prop_assert!(near(embedding(together), embedding(&alone), 1e-4)),
                }
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{name}: {outcome:?}");
    }
}

#[test]
fn a_cancelled_row_is_not_reported_and_another_task_is_refused_alone() {
    let mut golden = golden(FOLDERS[0], Conventions::Hf);
    let ids = golden.cases[1].input_ids.clone();
    let row = |task| RowInput { image: Some(0), token_ids: &ids, task };
    let rows = [row(&RowTask::Match), row(&RowTask::GREEDY), row(&RowTask::Match)];
    let mut sink = Collected { cancelled: vec![0], ..Collected::for_rows(3) };
    golden.run_into(&rows, &mut sink);
    assert!(sink.outcomes[0].is_none());
    let refused = sink.outcomes[1].clone().unwrap().unwrap_err();
    assert_eq!(refused, RowError::Unsupported { task: "generation" });
    assert!(sink.outcomes[2].clone().unwrap().is_ok());
}

#[test]
fn a_model_whose_numbers_overflow_fails_the_row_and_not_the_batch() {
    let mut golden = golden(FOLDERS[0], Conventions::Hf);
    let Head::Retrieval(head) = &mut golden.model.head else { panic!("no retrieval") };
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
