//! The same numbers as the official program gives; `tools/vqa_accuracy_goldens.py` writes them.

use crate::{Tally, accuracy, normalise};
use serde_json::Value;

fn goldens() -> Value {
    serde_json::from_str(include_str!("../tests/official.json")).unwrap()
}

#[test]
fn every_answer_is_evened_out_as_by_the_official_program() {
    for (text, wanted) in goldens()["normal"].as_object().unwrap() {
        assert_eq!(normalise::words(&normalise::punctuation(text)), wanted.as_str().unwrap(), "{text:?}");
    }
}

#[test]
fn every_accuracy_and_their_mean_are_those_of_the_official_program() {
    let goldens = goldens();
    let mut tally = Tally::default();
    for case in goldens["cases"].as_array().unwrap() {
        let people: Vec<&str> =
            case["people"].as_array().unwrap().iter().map(|answer| answer.as_str().unwrap()).collect();
        let given = accuracy(case["answer"].as_str().unwrap(), &people).unwrap();
        assert!((100.0 * given - case["percent"].as_f64().unwrap()).abs() < 1e-8, "{case}: {given}");
        tally.add(given, "", "");
    }
    assert!((tally.overall.percent() - goldens["overall"].as_f64().unwrap()).abs() < 1e-8);
}
