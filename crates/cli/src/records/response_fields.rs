//! The fields of a record's result: the values of a response, or an error.

use blip_server::error::code_name;
use bulk::Fields;
use proto::{Alternative, Answer, Caption, MatchScores, Timing};
use serde_json::{Value, json};
use tonic::Code;

/// All fields of results besides `error`. A failed record keeps none of an earlier run.
pub(crate) const RESULT_FIELDS: &[&str] = &[
    "answer",
    "caption",
    "score",
    "margin",
    "token_ids",
    "probability",
    "candidate_index",
    "alternatives",
    "cosine",
    "logits",
    "embedding",
    "scored_texts",
    "passed_texts",
    "timing",
];

/// Returns the fields of an error that the client found.
pub(crate) fn error_fields(reason: &str, message: &str) -> Fields {
    object(json!({ "error": { "reason": reason, "message": message } }))
}

/// Returns the fields of an error of the server.
pub(crate) fn status_fields(code: Code, reason: &str, message: &str) -> Fields {
    object(json!({ "error": { "code": code_name(code), "reason": reason, "message": message } }))
}

pub(crate) fn answer_fields(answer: &Answer) -> Fields {
    let mut fields = object(json!({
        "answer": answer.text, "score": answer.score, "margin": answer.margin, "token_ids": answer.token_ids,
    }));
    add_choice(&mut fields, answer.probability, answer.candidate_index);
    add_alternatives(&mut fields, &answer.alternatives);
    with_timing(fields, answer.timing)
}

pub(crate) fn caption_fields(caption: &Caption) -> Fields {
    let mut fields = object(json!({
        "caption": caption.text, "score": caption.score, "margin": caption.margin, "token_ids": caption.token_ids,
    }));
    add_alternatives(&mut fields, &caption.alternatives);
    with_timing(fields, caption.timing)
}

pub(crate) fn score_fields(scores: &MatchScores) -> Fields {
    let fields = json!({
        "probability": scores.probability, "cosine": scores.cosine, "logits": scores.logits,
    });
    with_timing(object(fields), scores.timing)
}

pub(crate) fn embedding_fields(embedding: &proto::Embedding) -> Fields {
    with_timing(object(json!({ "embedding": embedding.values })), embedding.timing)
}

fn object(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

fn add_choice(fields: &mut Fields, probability: Option<f32>, candidate: Option<u32>) {
    if let Some(probability) = probability {
        fields.insert("probability".to_owned(), json!(probability));
    }
    if let Some(candidate) = candidate {
        fields.insert("candidate_index".to_owned(), json!(candidate));
    }
}

fn add_alternatives(fields: &mut Fields, alternatives: &[Alternative]) {
    let alternatives = alternatives.iter().map(|other| {
        let mut fields =
            object(json!({ "text": other.text, "score": other.score, "token_ids": other.token_ids }));
        add_choice(&mut fields, other.probability, other.candidate_index);
        Value::Object(fields)
    });
    if alternatives.len() > 0 {
        fields.insert("alternatives".to_owned(), alternatives.collect());
    }
}

fn with_timing(mut fields: Fields, timing: Option<Timing>) -> Fields {
    let timing = timing.unwrap_or_default();
    let timing = json!({
        "queue_ms": timing.queue_ms, "fetch_ms": timing.fetch_ms, "preprocess_ms": timing.preprocess_ms,
        "vision_ms": timing.vision_ms, "text_ms": timing.text_ms, "decode_ms": timing.decode_ms,
        "total_ms": timing.total_ms, "batch_images": timing.batch_images,
        "batch_questions": timing.batch_questions, "image_reused": timing.image_reused,
        "answer_shared": timing.answer_shared, "answer_reused": timing.answer_reused,
    });
    fields.insert("timing".to_owned(), timing);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_fields_hold_all_values() {
        let timing = Timing { total_ms: 41.6, batch_images: 2, ..Timing::default() };
        let fields = answer_fields(&Answer {
            text: "two".into(),
            token_ids: vec![7, 3],
            timing: Some(timing),
            probability: Some(0.5),
            alternatives: vec![Alternative { text: "three".into(), ..Alternative::default() }],
            ..Answer::default()
        });
        assert_eq!((&fields["answer"], &fields["token_ids"]), (&json!("two"), &json!([7, 3])));
        assert_eq!((&fields["timing"]["batch_images"], &fields["probability"]), (&json!(2), &json!(0.5)));
        assert_eq!(fields["alternatives"][0]["text"], "three");
        assert_eq!(fields.get("candidate_index"), None);
    }
}
