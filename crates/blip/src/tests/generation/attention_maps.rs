//! Compares attention maps with `transformers` 5.17, and with those of other batches.
//!
//! `tests/reference/generate/goldens_attention.py` writes the goldens.

use std::{cell::RefCell, fs, path::PathBuf};

use proptest::prelude::*;
use tch::{Device, Tensor};

use crate::{
    AttentionMap, Checkpoint, CpuKernels, Dtype, Generation, ImageInput, LoadOptions, ModelFiles, Ranking,
    RowError, RowInput, RowOutput, RowTask,
    model::Model,
    tests::{
        generation::{
            batch_invariance::{CancellingSink, assert_same, rows_of_every_strategy},
            goldens::{TestRow, captioning_model, run_rows, run_single},
        },
        golden_files::{Golden, RowCollector, golden, goldens, pixels, tensor, test_digest},
    },
};

/// What a weight may differ by, relative to the largest weight of its map.
const TOLERANCE: f64 = 1e-4;

/// The map of one answer, as the reference computes it.
struct ExpectedMap {
    case: usize,
    answer: Vec<i64>,
    /// `[rows, columns]`.
    weights: Tensor,
}

/// Reads the file of the checkpoint `name`.
fn read(name: &str) -> Vec<u8> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/attention");
    fs::read(folder.join(format!("{name}.safetensors"))).unwrap()
}

/// Returns the maps of answers to the questions of `golden`.
fn expected_maps(golden: &Golden) -> Vec<ExpectedMap> {
    let file = read(&golden.name);
    let ids = |name: String| Vec::<i64>::try_from(tensor(&file, &name)).unwrap();
    // Two answers to each question.
    let map = |map: usize| ExpectedMap {
        case: ids(format!("map{map}.case"))[0] as usize,
        answer: ids(format!("map{map}.answer")),
        weights: tensor(&file, &format!("map{map}.weights")),
    };
    (0..2 * golden.cases.len()).map(map).collect()
}

/// Returns a task that generates or ranks `task`, with the map of its best answer.
fn explained(task: &RowTask) -> RowTask {
    match task.clone() {
        RowTask::Generate(generation) => RowTask::Generate(Generation { explain: true, ..generation }),
        RowTask::Rank(ranking) => RowTask::Rank(Ranking { explain: true, ..ranking }),
        other => panic!("no map of {other:?}"),
    }
}

/// Returns a task that chooses `answer`, because it has no other candidate.
fn only_candidate(answer: &[i64]) -> RowTask {
    RowTask::Rank(Ranking {
        candidates: [answer.to_vec()].into(),
        shortlist: 1,
        num_answers: 1,
        explain: true,
    })
}

fn split(output: RowOutput) -> (RowOutput, AttentionMap) {
    match output {
        RowOutput::Explained(explained) => *explained,
        other => panic!("no map: {other:?}"),
    }
}

/// Returns the largest difference of two maps, relative to the largest weight.
fn difference(found: &AttentionMap, expected: &Tensor) -> f64 {
    let shape = [i64::from(found.rows), i64::from(found.columns)];
    assert_eq!(shape, expected.size()[..]);
    let found = Tensor::from_slice(&found.weights).view(shape);
    (found - expected).abs().max().double_value(&[]) / expected.max().double_value(&[])
}

fn weights(map: &AttentionMap) -> Tensor {
    Tensor::from_slice(&map.weights).view([i64::from(map.rows), i64::from(map.columns)])
}

/// The map of a generated answer, and of a candidate with the same or other tokens.
#[test]
fn attention_maps_equal_the_reference() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        let mut generated = 0;
        for expected in expected_maps(&golden) {
            let case = &golden.cases[expected.case];
            let mut tasks = vec![only_candidate(&expected.answer)];
            if expected.answer == case.generated_ids[1..] {
                tasks.push(explained(&RowTask::GREEDY));
                generated += 1;
            }
            for task in tasks {
                let (_, map) = split(run_single(&mut model, &TestRow::question(case, task.clone())));
                let error = difference(&map, &expected.weights);
                assert!(error < TOLERANCE, "{} {:?} {task:?}: {error:e}", golden.name, case.question);
            }
        }
        assert!(generated >= golden.cases.len(), "{}: {generated} generated answers", golden.name);
    }
}

#[test]
fn attention_maps_of_the_demo_model_equal_the_reference() {
    let file = read("demo");
    let pixels = pixels(&tensor(&file, "pixels"));
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
    let checkpoint = Checkpoint::open(&ModelFiles::Folder(folder)).unwrap();
    for cpu_kernels in [CpuKernels::Native, CpuKernels::LibTorch] {
        let options = LoadOptions { cpu_kernels, ..LoadOptions::for_device(Device::Cpu) };
        let mut model = Model::load(&checkpoint, Device::Cpu, Dtype::F32, options).unwrap();
        let image = ImageInput { digest: test_digest(&pixels), pixels: &pixels };
        let task = explained(&RowTask::GREEDY);
        for map in 0..5 {
            let ids = |name: &str| Vec::<i64>::try_from(tensor(&file, &format!("map{map}.{name}"))).unwrap();
            let question = ids("input_ids");
            let row = RowInput { image: Some(0), token_ids: &question, task: &task };
            let mut rows = RowCollector::for_rows(1);
            model.run(&[image], &[row], &mut rows).unwrap();
            let (output, found) = split(rows.outcomes.remove(0).unwrap().unwrap().output);
            assert_eq!(output.best().unwrap().token_ids, ids("answer"), "{map}");
            assert_eq!((found.rows, found.columns), (8, 8));
            let error = difference(&found, &tensor(&file, &format!("map{map}.weights")));
            assert!(error < TOLERANCE, "{cpu_kernels:?} {map}: {error:e}");
        }
    }
}

#[test]
fn half_precision_maps_stay_near_the_reference() {
    for golden in goldens() {
        for (dtype, limit) in [(Dtype::F16, 0.02), (Dtype::Bf16, 0.2)] {
            let mut model = golden.model(dtype);
            for expected in expected_maps(&golden) {
                let row = TestRow::question(&golden.cases[expected.case], only_candidate(&expected.answer));
                let error = difference(&split(run_single(&mut model, &row)).1, &expected.weights);
                assert!(error < limit, "{} in {dtype}: {error}", golden.name);
            }
        }
    }
}

/// The map depends on the tokens of the best answer, and not on how they were chosen. Answers do
/// not depend on the map.
#[test]
fn explained_answers_of_every_strategy_equal_those_without_map() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    for row in rows_of_every_strategy(&golden) {
        let plain = run_single(&mut model, &row);
        let explained = TestRow { task: explained(&row.task), ..row.clone() };
        let (output, map) = split(run_single(&mut model, &explained));
        assert_same(&output, &plain).unwrap();
        let answer = match (&row.task, &plain) {
            (RowTask::Rank(ranking), RowOutput::Ranked(ranked)) => {
                ranking.candidates[ranked[0].candidate].clone()
            }
            _ => {
                let tokens = plain.best().unwrap().token_ids.clone();
                let stop = model.stopping.stop_token;
                tokens.strip_suffix(&[stop]).map(<[i64]>::to_vec).unwrap_or(tokens)
            }
        };
        if !answer.is_empty() {
            let same = TestRow { task: only_candidate(&answer), ..row.clone() };
            let expected = split(run_single(&mut model, &same)).1;
            assert!(difference(&map, &weights(&expected)) < TOLERANCE, "{:?}", row.task);
        }
    }
}

#[test]
fn maps_in_random_batches_equal_those_of_single_rows() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        // Each question with and without a map.
        let tasks = [RowTask::GREEDY, explained(&RowTask::GREEDY)];
        let rows: Vec<TestRow<'_>> = golden
            .cases
            .iter()
            .flat_map(|case| tasks.clone().map(|task| TestRow::question(case, task)))
            .collect();
        let alone: Vec<RowOutput> = rows.iter().map(|row| run_single(&mut model, row)).collect();
        let model = RefCell::new(model);
        let picks = prop::collection::vec(0..rows.len(), 2..=24);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::with_cases(6));
        let outcome = runner.run(&picks, |picks| {
            let picked: Vec<TestRow<'_>> = picks.iter().map(|&pick| rows[pick].clone()).collect();
            let batched = run_rows(&mut model.borrow_mut(), &picked, Vec::new());
            for (outcome, &pick) in batched.outcomes.into_iter().zip(&picks) {
                match (outcome.unwrap().unwrap().output, &alone[pick]) {
                    (RowOutput::Explained(found), RowOutput::Explained(expected)) => {
                        prop_assert!(difference(&found.1, &weights(&expected.1)) < TOLERANCE);
                    }
                    (found, expected) => {
                        let tokens = |output: &RowOutput| output.best().unwrap().token_ids.clone();
                        prop_assert_eq!(tokens(&found), tokens(expected));
                        prop_assert!(!matches!(found, RowOutput::Explained(_)));
                    }
                }
            }
            Ok(())
        });
        assert!(outcome.is_ok(), "{}: {outcome:?}", golden.name);
    }
}

#[test]
fn cancelled_row_has_no_map_and_changes_no_other() {
    for golden in [golden("thirty_by_six"), goldens().swap_remove(1)] {
        let mut model = golden.model(Dtype::F32);
        let task = explained(&RowTask::GREEDY);
        let rows: Vec<TestRow<'_>> =
            golden.cases.iter().map(|case| TestRow::question(case, task.clone())).collect();
        let outcomes = run_rows(&mut model, &rows, vec![1]).outcomes;
        let reported: Vec<usize> = (0..rows.len()).filter(|&row| outcomes[row].is_some()).collect();
        let expected: Vec<usize> = (0..rows.len()).filter(|&row| row != 1).collect();
        assert_eq!(reported, expected);
    }
}

#[test]
fn row_cancelled_after_its_answer_is_not_reported() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let case = &golden.cases[0];
    let image = ImageInput { digest: test_digest(&case.pixels), pixels: &case.pixels };
    let mut run = |task: RowTask, max_checks| {
        let row = RowInput { image: Some(0), token_ids: &case.input_ids, task: &task };
        let mut sink = CancellingSink { max_checks, ..CancellingSink::default() };
        model.run(&[image], &[row], &mut sink).unwrap();
        (sink.finished, sink.checks.get())
    };
    let (_, checks_of_answer) = run(RowTask::GREEDY, usize::MAX);
    let task = explained(&RowTask::GREEDY);
    assert_eq!(run(task.clone(), usize::MAX), (1, checks_of_answer + 1));
    assert_eq!(run(task, checks_of_answer), (0, checks_of_answer + 1));
}

#[test]
fn captions_have_no_map() {
    let golden = golden("thirty_by_six");
    let mut model = captioning_model(&golden);
    let start = model.stopping.start_token;
    let case = &golden.cases[0];
    let row = TestRow { case, token_ids: vec![start], task: explained(&RowTask::GREEDY) };
    let outcome = run_rows(&mut model, &[row], Vec::new()).outcomes.remove(0).unwrap();
    assert_eq!(outcome.unwrap_err(), RowError::Unsupported { task: "generation" });
}
