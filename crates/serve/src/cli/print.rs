//! What `blip-serve ask` prints: a line for each answer, for people or for programs.

use std::io::{self, Write as _};

use serde_json::{Value, json};
use tonic::Code;
use tonic_types::{RpcStatusExt as _, pb};

use crate::{
    errors::code_name,
    proto::{Answer, AskResponse, ask_response::Outcome},
};

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// For people; errors go to standard error.
    Text,
    /// One JSON object a line.
    Json,
}

/// Prints responses as they come, and counts.
pub(super) struct Printer<'a> {
    format: Format,
    images: &'a [String],
    questions: &'a [String],
    answered: usize,
}

impl<'a> Printer<'a> {
    /// Every one of `questions` was asked about every one of `images`.
    pub(super) fn new(format: Format, images: &'a [String], questions: &'a [String]) -> Self {
        Self { format, images, questions, answered: 0 }
    }

    /// Whether every pair has had its answer.
    pub(super) fn all_answered(&self) -> bool {
        self.answered == self.images.len() * self.questions.len()
    }

    /// Prints one response at once.
    pub(super) fn print(&mut self, response: &AskResponse) -> io::Result<()> {
        let image = usize::try_from(response.image_index).ok().and_then(|index| self.images.get(index));
        let image = image.map(String::as_str).unwrap_or_default();
        let question =
            usize::try_from(response.question_index).ok().and_then(|index| self.questions.get(index));
        let question = question.map(String::as_str).unwrap_or_default();
        let is_answer = matches!(response.outcome, Some(Outcome::Answer(_)));
        self.answered += usize::from(is_answer);
        match self.format {
            Format::Json => writeln!(io::stdout(), "{}", json_line(image, question, response)),
            Format::Text if is_answer => writeln!(io::stdout(), "{}", text_line(image, question, response)),
            Format::Text => writeln!(io::stderr(), "{}", text_line(image, question, response)),
        }
    }
}

fn text_line(image: &str, question: &str, response: &AskResponse) -> String {
    match &response.outcome {
        Some(Outcome::Answer(answer)) => {
            let milliseconds = answer.timing.unwrap_or_default().total_ms;
            format!("{image}  {question}  -> {} ({:.3}, {milliseconds:.0} ms)", answer.text, answer.score)
        }
        Some(Outcome::Error(error)) => {
            format!("{image}  {question}  -> error: {} ({})", error.message, reason(error))
        }
        None => format!("{image}  {question}  -> error: the response is empty"),
    }
}

fn json_line(image: &str, question: &str, response: &AskResponse) -> Value {
    let mut line = json!({
        "image": image, "image_index": response.image_index,
        "question": question, "question_index": response.question_index,
    });
    let (key, value) = match &response.outcome {
        Some(Outcome::Answer(answer)) => ("answer", answer_json(answer)),
        Some(Outcome::Error(error)) => ("error", error_json(error)),
        None => ("error", json!({ "message": "the response is empty" })),
    };
    if let Some(fields) = line.as_object_mut() {
        match value {
            // An answer's fields stand beside the question's.
            Value::Object(answer) if key == "answer" => fields.extend(answer),
            value => drop(fields.insert(key.to_owned(), value)),
        }
    }
    line
}

fn answer_json(answer: &Answer) -> Value {
    let timing = answer.timing.unwrap_or_default();
    json!({
        "answer": answer.text, "score": answer.score, "margin": answer.margin, "token_ids": answer.token_ids,
        "timing": {
            "queue_ms": timing.queue_ms, "fetch_ms": timing.fetch_ms, "preprocess_ms": timing.preprocess_ms, "vision_ms": timing.vision_ms,
            "text_ms": timing.text_ms, "decode_ms": timing.decode_ms, "total_ms": timing.total_ms,
            "batch_images": timing.batch_images, "batch_questions": timing.batch_questions,
            "image_reused": timing.image_reused, "answer_shared": timing.answer_shared,
        },
    })
}

fn error_json(error: &pb::Status) -> Value {
    json!({ "code": code_name(Code::from_i32(error.code)), "reason": reason(error), "message": error.message })
}

fn reason(error: &pb::Status) -> String {
    error.get_details_error_info().map_or_else(|| code_name(Code::from_i32(error.code)), |info| info.reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        errors::{Reason, Refusal},
        proto::Timing,
    };

    fn answered() -> AskResponse {
        let timing = Timing { total_ms: 41.6, batch_images: 2, ..Timing::default() };
        let answer = Answer {
            text: "two".into(),
            score: -0.0125,
            margin: 3.5,
            token_ids: vec![7, 3],
            timing: Some(timing),
            ..Answer::default()
        };
        AskResponse {
            image_index: 0,
            question_index: 1,
            outcome: Some(Outcome::Answer(answer)),
            tag: String::new(),
        }
    }

    fn refused() -> AskResponse {
        let error = Refusal::new(Reason::ImageEmpty).field("inputs[1].image.data").to_rpc_status();
        AskResponse {
            image_index: 1,
            question_index: 0,
            outcome: Some(Outcome::Error(error)),
            tag: String::new(),
        }
    }

    #[test]
    fn an_answer_is_one_readable_line() {
        assert_eq!(text_line("a.png", "how many?", &answered()), "a.png  how many?  -> two (-0.013, 42 ms)");
    }

    #[test]
    fn an_error_names_its_reason() {
        let line = text_line("b.png", "what?", &refused());
        assert_eq!(line, "b.png  what?  -> error: inputs[1].image.data is empty (IMAGE_EMPTY)");
        let line = json_line("b.png", "what?", &refused());
        assert_eq!(line["error"]["reason"], "IMAGE_EMPTY");
        assert_eq!(line["error"]["code"], "INVALID_ARGUMENT");
        assert_eq!(line.get("answer"), None);
    }

    #[test]
    fn a_json_line_holds_the_answer_beside_its_question() {
        let line = json_line("a.png", "how many?", &answered());
        assert_eq!((&line["question"], &line["answer"]), (&json!("how many?"), &json!("two")));
        assert_eq!(line["token_ids"], json!([7, 3]));
        assert_eq!(line["timing"]["batch_images"], 2);
        assert!(!line.to_string().contains('\n'));
    }
}
