//! Comparison with the official program.
//!
//! `tests/reference/generate/vqa_accuracy_goldens.py` writes the goldens.

use serde_json::Value;

use crate::{accuracy::answer_accuracy, counters::AccuracyCounters, normalise};

fn goldens() -> Value {
    serde_json::from_str(include_str!("../tests/official.json")).unwrap()
}

#[test]
fn normalised_answers_match_reference() {
    for (text, expected) in goldens()["normal"].as_object().unwrap() {
        let normalised = normalise::normalise_words(&normalise::strip_punctuation(text));
        assert_eq!(normalised, expected.as_str().unwrap(), "{text:?}");
    }
}

#[test]
fn accuracies_and_their_mean_match_reference() {
    let goldens = goldens();
    let mut counters = AccuracyCounters::default();
    for case in goldens["cases"].as_array().unwrap() {
        let answers = case["people"].as_array().unwrap();
        let human_answers: Vec<&str> = answers.iter().map(|answer| answer.as_str().unwrap()).collect();
        let accuracy = answer_accuracy(case["answer"].as_str().unwrap(), &human_answers).unwrap();
        assert!((100.0 * accuracy - case["percent"].as_f64().unwrap()).abs() < 1e-8, "{case}: {accuracy}");
        counters.add(accuracy, "", "");
    }
    assert!((counters.overall.percent() - goldens["overall"].as_f64().unwrap()).abs() < 1e-8);
}
