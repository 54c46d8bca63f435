//! Searching, drawing and ranking against what `transformers` 5.17 computes (`tools/goldens_generation.py`).

pub(crate) mod batch_invariance;
pub(crate) mod goldens;
pub(crate) mod limits;

use crate::{
    Dtype, Generation, RankedCandidate, Ranking, RowOutput, RowTask, Sampling,
    model::Model,
    tests::{
        generation::goldens::{
            Ask, GenerationGoldens, PLAIN_SAMPLING, Searched, ask_alone, ask_together, captioner, drawn,
            sequences,
        },
        golden_files::{Golden, golden, goldens},
    },
};

fn near(found: f32, expected: f32) -> bool {
    (found - expected).abs() < 1e-4 * expected.abs().max(1.0)
}

/// Asks for everything alone, then for everything together.
fn assert_searches_equal(golden: &Golden, model: &mut Model, expected: &[Searched]) {
    let asks: Vec<Ask<'_>> = expected.iter().map(|expected| expected.ask(golden)).collect();
    let together = ask_together(model, &asks, Vec::new()).outcomes;
    for ((ask, together), expected) in asks.iter().zip(together).zip(expected) {
        for output in [together.unwrap().unwrap().output, ask_alone(model, ask)] {
            let found = sequences(&output);
            let ids: Vec<&[i64]> = found.iter().map(|sequence| &sequence.token_ids[..]).collect();
            let expected_ids: Vec<&[i64]> =
                expected.sequences.iter().map(|sequence| &sequence.token_ids[..]).collect();
            assert_eq!(ids, expected_ids, "{} {:?}", golden.name, ask.task);
            for (found, expected) in found.iter().zip(&expected.sequences) {
                assert!(near(found.score, expected.score), "{} {}", found.score, expected.score);
            }
        }
    }
}

#[test]
fn every_search_for_an_answer_equals_the_references() {
    for golden in goldens() {
        let expected = GenerationGoldens::of(&golden).answers;
        assert_searches_equal(&golden, &mut golden.model(Dtype::F32), &expected);
    }
}

#[test]
fn every_search_for_a_caption_equals_the_references_whatever_its_prompt() {
    for golden in goldens() {
        let expected = GenerationGoldens::of(&golden).captions;
        assert_searches_equal(&golden, &mut captioner(&golden), &expected);
    }
}

fn ranked(output: RowOutput) -> Vec<RankedCandidate> {
    match output {
        RowOutput::Ranked(candidates) => candidates,
        other => panic!("nothing was ranked: {other:?}"),
    }
}

#[test]
fn every_ranking_equals_the_originals_measure() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        for expected in GenerationGoldens::of(&golden).rankings {
            let found = ranked(ask_alone(&mut model, &expected.ask(&golden)));
            assert_eq!(found.len(), expected.ranked.len(), "the shortlist is as long");
            for (found, expected) in found.iter().zip(&expected.ranked) {
                assert_eq!(found.candidate, expected.candidate, "{}", golden.name);
                assert!(near(found.score, expected.score), "{} {}", found.score, expected.score);
                assert!((found.probability - expected.probability).abs() < 1e-4);
            }
        }
    }
}

/// As many answers as VQA is ranked over, of one to three tokens.
fn many_candidates() -> Vec<Vec<i64>> {
    let token = |number: usize| 5 + (number * 7919 % 97) as i64;
    (0..3128)
        .map(|number| (0..1 + number % 3).map(|place| token(number / (1 + place * 31))).collect())
        .collect()
}

#[test]
fn a_candidates_score_does_not_depend_on_how_many_others_there_are() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let mut rank = |candidates: &[Vec<i64>], shortlist| {
        let ranking = Ranking { candidates: candidates.into(), shortlist, num_answers: u32::MAX };
        ranked(ask_alone(&mut model, &Ask::question(&golden.cases[1], RowTask::Rank(ranking))))
    };
    let candidates = many_candidates();
    let all = rank(&candidates, u32::MAX);
    assert_eq!(all.len(), candidates.len());
    assert!((all.iter().map(|one| one.probability).sum::<f32>() - 1.0).abs() < 1e-3);
    let of_all = |candidate| all.iter().find(|one| one.candidate == candidate).unwrap().score;
    for short in rank(&candidates, 128) {
        assert!(near(short.score, of_all(short.candidate)));
    }
    for candidate in (0..candidates.len()).step_by(301) {
        let alone = rank(&candidates[candidate..=candidate], 1);
        assert!(near(alone[0].score, of_all(candidate)));
        assert_eq!(alone[0].probability, 1.0);
    }
}

#[test]
fn drawing_from_the_likeliest_token_alone_is_greedy() {
    for golden in goldens() {
        let mut model = golden.model(Dtype::F32);
        for case in &golden.cases {
            let options = drawn(Sampling { top_k: 1, ..PLAIN_SAMPLING }, 1);
            let output = ask_alone(&mut model, &Ask::question(case, RowTask::Generate(options)));
            assert_eq!(sequences(&output)[0].token_ids, case.generated_ids[1..], "{}", golden.name);
            assert!(near(sequences(&output)[0].score, case.score));
        }
    }
}

#[test]
fn first_tokens_are_drawn_as_often_as_the_references_logits_say() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let case = &golden.cases[2];
    let probabilities = case.step_logits.get(0).softmax(-1, tch::Kind::Double);
    let probabilities = Vec::<f64>::try_from(probabilities).unwrap();
    let mut counts = vec![0.0; probabilities.len()];
    for seed in 0..8 {
        let options = drawn(Sampling { seed, ..PLAIN_SAMPLING }, 512);
        let options = Generation { max_new_tokens: Some(1), ..options };
        let output = ask_alone(&mut model, &Ask::question(case, RowTask::Generate(options)));
        for sequence in sequences(&output) {
            counts[sequence.token_ids[0] as usize] += 1.0;
        }
    }
    let draws: f64 = counts.iter().sum();
    // Tokens that are expected less than ten times are one cell together.
    let (mut statistic, mut cells, mut rare) = (0.0, 0.0, (0.0, 0.0));
    for (count, expected) in counts.iter().zip(probabilities.iter().map(|p| p * draws)) {
        if expected < 10.0 {
            rare = (rare.0 + count, rare.1 + expected);
        } else {
            (statistic, cells) = (statistic + (count - expected).powi(2) / expected, cells + 1.0);
        }
    }
    let (count, expected): (f64, f64) = rare;
    statistic += (count - expected).powi(2) / expected;
    // Wilson and Hilferty's approximation of what is exceeded once in a thousand.
    let limit = cells * (1.0 - 2.0 / (9.0 * cells) + 3.09 * (2.0f64 / (9.0 * cells)).sqrt()).powi(3);
    assert!(cells > 10.0 && statistic < limit, "{statistic} of {cells} degrees of freedom");
}

#[test]
fn the_seed_decides_what_is_drawn_and_each_draw_is_its_own() {
    let golden = golden("thirty_by_six");
    let mut model = golden.model(Dtype::F32);
    let mut texts = |seed| {
        let options = Generation { min_length: 6, ..drawn(Sampling { seed, ..PLAIN_SAMPLING }, 3) };
        let output = ask_alone(&mut model, &Ask::question(&golden.cases[0], RowTask::Generate(options)));
        let found = sequences(&output);
        assert!(found.is_sorted_by(|one, next| one.score >= next.score), "the best first");
        found.iter().map(|sequence| sequence.token_ids.clone()).collect::<Vec<_>>()
    };
    let first = texts(1);
    assert_eq!(first, texts(1));
    assert_ne!(first, texts(2));
    assert!(first[0] != first[1] && first[1] != first[2] && first[0] != first[2]);
}
