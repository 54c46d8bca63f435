//! Comparison with `pycocoevalcap`.
//!
//! `tests/reference/generate/caption_metrics_goldens.py` writes the goldens.

use serde_json::Value;

use crate::{
    scores::{CaptionScores, ScoredImage},
    tokenizer::tokenize,
};

fn goldens() -> Value {
    serde_json::from_str(include_str!("../tests/pycocoevalcap.json")).unwrap()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
}

#[test]
fn tokens_match_reference() {
    let goldens = goldens();
    let (captions, expected) = (texts(&goldens["captions"]), texts(&goldens["tokens"]));
    assert!(captions.len() >= 3000);
    let tokens = tokenize(captions.iter().map(String::as_str)).unwrap();
    let wrong: Vec<_> = captions
        .iter()
        .zip(&tokens)
        .zip(&expected)
        .filter(|((_, tokens), expected)| tokens != expected)
        .collect();
    assert!(wrong.is_empty(), "{} differ: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}

#[test]
fn scores_match_reference() {
    for corpus in goldens()["corpora"].as_array().unwrap() {
        let images: Vec<ScoredImage> = corpus["images"]
            .as_array()
            .unwrap()
            .iter()
            .map(|image| ScoredImage {
                caption: image["caption"].as_str().unwrap().to_owned(),
                references: texts(&image["references"]),
            })
            .collect();
        let scores = CaptionScores::new(&images).unwrap();
        for (name, score) in scores.named() {
            let expected = corpus["scores"][name].as_f64().unwrap();
            assert!((score - expected).abs() < 1e-6, "{}: {name} is {score}, not {expected}", corpus["name"]);
        }
    }
}
