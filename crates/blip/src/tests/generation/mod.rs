//! Compares search, sampling and ranking with `transformers` 5.17 and with the original ranking.
//!
//! `tests/reference/generate/goldens_generation.py` writes the goldens.

pub(crate) mod attention_maps;
pub(crate) mod batch_invariance;
pub(crate) mod goldens;
pub(crate) mod limits;

use crate::{
    Dtype, Generation, RankedCandidate, Ranking, RowOutput, RowTask, Sampling,
    model::Model,
    tests::{
        generation::goldens::{
            ExpectedSearch, GenerationGoldens, PLAIN_SAMPLING, TestRow, captioning_model, run_rows,
            run_single, sampled, sequences,
        },
        golden_files::{Golden, golden, goldens},
    },
};

fn is_near(found: f32, expected: f32) -> bool {
    (found - expected).abs() < 1e-4 * expected.abs().max(1.0)
}

/// Asserts that each search returns the expected sequences, in one batch with all and alone.
fn assert_searches_equal(golden: &Golden, model: &mut Model, expected: &[ExpectedSearch]) {
    let rows: Vec<TestRow<'_>> = expected.iter().map(|expected| expected.row(golden)).collect();
    let batched = run_rows(model, &rows, Vec::new()).outcomes;
    for ((row, batched), expected) in rows.iter().zip(batched).zip(expected) {
        for output in [batched.unwrap().unwrap().output, run_single(model, row)] {
            let found = sequences(&output);
            let ids: Vec<&[i64]> = found.iter().map(|sequence| &sequence.token_ids[..]).collect();
            let expected_ids: Vec<&[i64]> =
                expected.sequences.iter().map(|sequence| &sequence.token_ids[..]).collect();
            assert_eq!(ids, expected_ids, "{} {:?}", golden.name, row.task);
            for (found, expected) in found.iter().zip(&expected.sequences) {
                assert!(is_near(found.score, expected.score), "{} {}", found.score, expected.score);
            }
        }
    }
}

#[test]
fn searched_answers_equal_the_reference() {
    for golden in goldens() {
        let expected = GenerationGoldens::of(&golden).answers;
        assert_searches_equal(&golden, &mut golden.model(Dtype::F32), &expected);
    }
}

#[test]
fn searched_captions_equal_the_reference_for_every_prompt() {
    for golden in goldens() {
        let expected = GenerationGoldens::of(&golden).captions;
        assert_searches_equal(&golden, &mut captioning_model(&golden), &expected);
    }
}

fn ranked_candidates(output: RowOutput) -> Vec<RankedCandidate> {
    match output {
        RowOutput::Ranked(candidates) => candidates,
        other => panic!("output {other:?}, expected ranked candidates"),
    }
}

#[test]
fn rankings_equal_those_of_the_original() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        for expected in GenerationGoldens::of(&golden).rankings {
            let found = ranked_candidates(run_single(&mut model, &expected.row(&golden)));
            assert_eq!(found.len(), expected.ranked.len(), "length of the shortlist");
            for (found, expected) in found.iter().zip(&expected.ranked) {
                assert_eq!(found.candidate, expected.candidate, "{}", golden.name);
                assert!(is_near(found.score, expected.score), "{} {}", found.score, expected.score);
                assert!((found.probability - expected.probability).abs() < 1e-4);
            }
        }
    }
}

/// Returns 3128 candidates of one to three tokens, as many as the answer list of VQA has.
fn many_candidates() -> Vec<Vec<i64>> {
    let token = |number: usize| 5 + (number * 7919 % 97) as i64;
    (0..3128)
        .map(|number| (0..1 + number % 3).map(|place| token(number / (1 + place * 31))).collect())
        .collect()
}

#[test]
fn candidate_score_does_not_depend_on_other_candidates() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let mut rank = |candidates: &[Vec<i64>], shortlist| {
        let ranking =
            Ranking { candidates: candidates.into(), shortlist, num_answers: u32::MAX, explain: false };
        ranked_candidates(run_single(
            &mut model,
            &TestRow::question(&golden.cases[1], RowTask::Rank(ranking)),
        ))
    };
    let candidates = many_candidates();
    let all = rank(&candidates, u32::MAX);
    assert_eq!(all.len(), candidates.len());
    assert!((all.iter().map(|one| one.probability).sum::<f32>() - 1.0).abs() < 1e-3);
    let expected_score = |candidate| all.iter().find(|one| one.candidate == candidate).unwrap().score;
    for found in rank(&candidates, 128) {
        assert!(is_near(found.score, expected_score(found.candidate)));
    }
    for candidate in (0..candidates.len()).step_by(301) {
        let alone = rank(&candidates[candidate..=candidate], 1);
        assert!(is_near(alone[0].score, expected_score(candidate)));
        assert_eq!(alone[0].probability, 1.0);
    }
}

#[test]
fn sampling_with_top_k_1_equals_greedy_search() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        for case in &golden.cases {
            let options = sampled(Sampling { top_k: 1, ..PLAIN_SAMPLING }, 1);
            let output = run_single(&mut model, &TestRow::question(case, RowTask::Generate(options)));
            assert_eq!(sequences(&output)[0].token_ids, case.generated_ids[1..], "{}", golden.name);
            assert!(is_near(sequences(&output)[0].score, case.score));
        }
    }
}

#[test]
fn first_tokens_are_sampled_with_reference_probabilities() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let case = &golden.cases[2];
    let probabilities = case.step_logits.get(0).softmax(-1, tch::Kind::Double);
    let probabilities = Vec::<f64>::try_from(probabilities).unwrap();
    let mut counts = vec![0.0; probabilities.len()];
    for seed in 0..8 {
        let options = sampled(Sampling { seed, ..PLAIN_SAMPLING }, 512);
        let options = Generation { max_new_tokens: Some(1), ..options };
        let output = run_single(&mut model, &TestRow::question(case, RowTask::Generate(options)));
        for sequence in sequences(&output) {
            counts[sequence.token_ids[0] as usize] += 1.0;
        }
    }
    let samples: f64 = counts.iter().sum();
    // The chi-squared test has one common cell for all tokens with an expected count below ten.
    let (mut statistic, mut cells, mut rare) = (0.0, 0.0, (0.0, 0.0));
    for (count, expected) in counts.iter().zip(probabilities.iter().map(|p| p * samples)) {
        if expected < 10.0 {
            rare = (rare.0 + count, rare.1 + expected);
        } else {
            (statistic, cells) = (statistic + (count - expected).powi(2) / expected, cells + 1.0);
        }
    }
    let (count, expected): (f64, f64) = rare;
    statistic += (count - expected).powi(2) / expected;
    // Wilson and Hilferty's approximation of the limit that one test in a thousand exceeds.
    let limit = cells * (1.0 - 2.0 / (9.0 * cells) + 3.09 * (2.0f64 / (9.0 * cells)).sqrt()).powi(3);
    assert!(
        cells > 10.0 && statistic < limit,
        "chi-squared {statistic}, limit {limit}, {cells} degrees of freedom"
    );
}

#[test]
fn samples_depend_on_the_seed_and_differ_from_each_other() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let mut sample = |seed| {
        let options = Generation { min_length: 6, ..sampled(Sampling { seed, ..PLAIN_SAMPLING }, 3) };
        let output = run_single(&mut model, &TestRow::question(&golden.cases[0], RowTask::Generate(options)));
        let found = sequences(&output);
        assert!(found.is_sorted_by(|one, next| one.score >= next.score), "scores are not sorted");
        found.iter().map(|sequence| sequence.token_ids.clone()).collect::<Vec<_>>()
    };
    let samples = sample(1);
    assert_eq!(samples, sample(1));
    assert_ne!(samples, sample(2));
    assert!(samples[0] != samples[1] && samples[1] != samples[2] && samples[0] != samples[2]);
}
