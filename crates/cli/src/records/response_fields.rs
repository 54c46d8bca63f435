//! What a server's responses say, as values of a record.

use std::time::Duration;

use bulk::{Fields, RecordResult};
use proto::{Alternative, Answer, Caption, MatchScores, Timing};
use serde_json::{Value, json};
use server::error::{ErrorReason, code_name};
use tonic::{Code, Status};
use tonic_types::{RetryInfo, RpcStatusExt as _, StatusExt as _, pb};

/// The values of `more` beside those of `fields`.
pub(crate) fn merge(mut fields: Fields, more: Fields) -> Fields {
    fields.extend(more);
    fields
}

fn object(value: Value) -> Fields {
    match value {
        Value::Object(fields) => fields,
        _ => Fields::new(),
    }
}

/// Why a record has no answer, where no server was asked.
pub(crate) fn error(reason: &str, message: &str) -> Fields {
    object(json!({ "error": { "reason": reason, "message": message } }))
}

pub(crate) fn answer(answer: &Answer) -> Fields {
    let mut fields = object(json!({
        "answer": answer.text, "score": answer.score, "margin": answer.margin, "token_ids": answer.token_ids,
    }));
    choice(&mut fields, answer.probability, answer.candidate_index);
    rest(&mut fields, &answer.alternatives, answer.timing);
    fields
}

pub(crate) fn caption(caption: &Caption) -> Fields {
    let mut fields = object(json!({
        "caption": caption.text, "score": caption.score, "margin": caption.margin, "token_ids": caption.token_ids,
    }));
    rest(&mut fields, &caption.alternatives, caption.timing);
    fields
}

pub(crate) fn scores(scores: &MatchScores) -> Fields {
    let mut fields = object(json!({
        "probability": scores.probability, "cosine": scores.cosine, "logits": scores.logits,
    }));
    rest(&mut fields, &[], scores.timing);
    fields
}

pub(crate) fn vector(vector: &proto::Embedding) -> Fields {
    let mut fields = object(json!({ "embedding": vector.values }));
    rest(&mut fields, &[], vector.timing);
    fields
}

fn choice(fields: &mut Fields, probability: Option<f32>, candidate: Option<u32>) {
    if let Some(probability) = probability {
        fields.insert("probability".to_owned(), json!(probability));
    }
    if let Some(candidate) = candidate {
        fields.insert("candidate_index".to_owned(), json!(candidate));
    }
}

fn rest(fields: &mut Fields, alternatives: &[Alternative], timing: Option<Timing>) {
    if !alternatives.is_empty() {
        let told = alternatives.iter().map(|other| {
            let mut fields =
                object(json!({ "text": other.text, "score": other.score, "token_ids": other.token_ids }));
            choice(&mut fields, other.probability, other.candidate_index);
            Value::Object(fields)
        });
        fields.insert("alternatives".to_owned(), told.collect());
    }
    let timing = timing.unwrap_or_default();
    let ledger = json!({
        "queue_ms": timing.queue_ms, "fetch_ms": timing.fetch_ms, "preprocess_ms": timing.preprocess_ms,
        "vision_ms": timing.vision_ms, "text_ms": timing.text_ms, "decode_ms": timing.decode_ms,
        "total_ms": timing.total_ms, "batch_images": timing.batch_images,
        "batch_questions": timing.batch_questions, "image_reused": timing.image_reused,
        "answer_shared": timing.answer_shared, "answer_reused": timing.answer_reused,
    });
    fields.insert("timing".to_owned(), ledger);
}

/// What became of a pair that has an error.
///
/// # Errors
/// No pair will ever be answered: there is no such model.
pub(crate) fn refused(status: &pb::Status) -> Result<RecordResult, String> {
    let code = Code::from_i32(status.code);
    let reason = status.get_details_error_info().map_or_else(|| code_name(code), |info| info.reason);
    if code == Code::NotFound && reason == "MODEL_UNKNOWN" {
        return Err(format!("the server answered {}: {}", code_name(code), status.message));
    }
    if AWAY.iter().any(|away| away.spec().name == reason) {
        return Ok(RecordResult::ConnectionLost(format!(
            "the server answered {}: {}",
            code_name(code),
            status.message
        )));
    }
    let retry = status.get_details_retry_info();
    Ok(not_answered(code, &reason, &status.message, retry))
}

/// What a server says of itself, not of a pair: it is not there yet, or no more.
const AWAY: [ErrorReason; 3] =
    [ErrorReason::ModelLoading, ErrorReason::ShuttingDown, ErrorReason::EngineBroken];

fn not_answered(code: Code, reason: &str, message: &str, retry: Option<RetryInfo>) -> RecordResult {
    let fields = object(json!({
        "error": { "code": code_name(code), "reason": reason, "message": message },
    }));
    match retry {
        Some(retry) => RecordResult::Busy(retry.retry_delay.unwrap_or(Duration::ZERO), fields),
        None => RecordResult::Failed(fields),
    }
}

/// What became of the pairs that a call did not answer before it ended with `status`.
///
/// # Errors
/// No call will ever be answered otherwise.
pub(crate) fn ended(status: &Status) -> Result<RecordResult, String> {
    let explained = status.get_details_error_info();
    match status.code() {
        Code::Unavailable => Ok(RecordResult::ConnectionLost(in_words(status))),
        // What a connection that breaks is told as, when the server says nothing itself.
        Code::Internal | Code::Unknown | Code::Cancelled if explained.is_none() => {
            Ok(RecordResult::ConnectionLost(in_words(status)))
        }
        Code::Unauthenticated
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::NotFound
        | Code::FailedPrecondition
        | Code::DeadlineExceeded => Err(in_words(status)),
        code => {
            let reason = explained.map_or_else(|| code_name(code), |info| info.reason);
            Ok(not_answered(code, &reason, status.message(), status.get_details_retry_info()))
        }
    }
}

/// The outcomes of a call: those that came, and for the others what its end says.
///
/// # Errors
/// No call will ever be answered otherwise.
pub(crate) fn with_rest(
    outcomes: Vec<Option<RecordResult>>,
    end: Result<(), Status>,
) -> Result<Vec<RecordResult>, String> {
    let rest = match end {
        Ok(()) => RecordResult::Failed(error("EMPTY_RESPONSE", "the server gave no answer")),
        Err(status) => ended(&status)?,
    };
    Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| rest.clone())).collect())
}

/// A call's status in one line.
fn in_words(status: &Status) -> String {
    format!("the server answered {}: {}", code_name(status.code()), status.message())
}

#[cfg(test)]
mod tests {
    use server::error::RequestError;

    use super::*;

    #[test]
    fn an_answer_has_its_values_beside_each_other() {
        let timing = Timing { total_ms: 41.6, batch_images: 2, ..Timing::default() };
        let fields = answer(&Answer {
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

    #[test]
    fn an_error_has_code_reason_and_message_and_is_asked_again_only_if_that_can_help() {
        let status = RequestError::new(ErrorReason::ImageEmpty).field("inputs[0].image.data").to_rpc_status();
        let Ok(RecordResult::Failed(fields)) = refused(&status) else { panic!("{status:?}") };
        assert_eq!(fields["error"]["code"], "INVALID_ARGUMENT");
        assert_eq!(fields["error"]["reason"], "IMAGE_EMPTY");
        assert_eq!(fields["error"]["message"], "inputs[0].image.data is empty");
        let status = RequestError::new(ErrorReason::ModelLoading).to_rpc_status();
        assert!(matches!(refused(&status), Ok(RecordResult::ConnectionLost(_))), "{status:?}");
        let wait = Duration::from_secs(2);
        let status = RequestError::new(ErrorReason::QueueFull).retry_after(wait).to_rpc_status();
        assert!(matches!(refused(&status), Ok(RecordResult::Busy(asked, _)) if asked == wait), "{status:?}");
    }

    #[test]
    fn the_end_of_a_call_is_a_loss_a_refusal_or_final() {
        assert!(matches!(ended(&Status::unavailable("gone")), Ok(RecordResult::ConnectionLost(_))));
        assert!(matches!(ended(&Status::unknown("transport error")), Ok(RecordResult::ConnectionLost(_))));
        assert_eq!(
            ended(&Status::unauthenticated("who?")).unwrap_err(),
            "the server answered UNAUTHENTICATED: who?"
        );
        let busy: Status =
            RequestError::new(ErrorReason::QueueFull).retry_after(Duration::from_secs(1)).into();
        let Ok(RecordResult::Busy(_, fields)) = ended(&busy) else { panic!("{busy:?}") };
        assert_eq!(fields["error"]["reason"], ErrorReason::QueueFull.spec().name);
    }
}
