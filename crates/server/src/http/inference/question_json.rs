//! A question in JSON: a string, or an object with candidate answers.

use std::fmt;

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use utoipa::ToSchema;

use crate::request::item::TextInput;

/// A question as a string or as an object.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QuestionJson(pub(crate) TextInput);

/// The two forms of a question.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "describes the two forms in the OpenAPI document; QuestionJson decodes them with better errors"
)]
pub(crate) enum QuestionSchema {
    /// The question.
    Text(String),
    /// A question with candidate answers.
    Object(CandidateQuestion),
}

/// A question with candidate answers. The response is the best candidate.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CandidateQuestion {
    /// The question.
    text: String,
    /// The candidate answers.
    #[serde(default)]
    #[schema(example = json!(["yes", "no"]))]
    candidates: Vec<String>,
    /// The name of a candidate list of the server, in place of `candidates`.
    #[serde(default)]
    candidate_list: String,
}

impl<'de> Deserialize<'de> for QuestionJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct QuestionVisitor;

        impl<'de> Visitor<'de> for QuestionVisitor {
            type Value = QuestionJson;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an object with text and candidates")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<QuestionJson, E> {
                Ok(QuestionJson(text.to_owned().into()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<QuestionJson, E> {
                Ok(QuestionJson(text.into()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<QuestionJson, A::Error> {
                let CandidateQuestion { text, candidates, candidate_list } =
                    CandidateQuestion::deserialize(MapAccessDeserializer::new(map))?;
                Ok(QuestionJson(TextInput { text, candidates, candidate_list }))
            }
        }

        deserializer.deserialize_any(QuestionVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<TextInput, String> {
        serde_json::from_str::<QuestionJson>(json)
            .map(|question| question.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn question_is_a_string_or_an_object_with_candidates() {
        assert_eq!(read(r#""what?""#), Ok("what?".to_owned().into()));
        let question = read(r#"{"text": "is it?", "candidates": ["yes", "no"]}"#).unwrap();
        assert_eq!((question.text.as_str(), question.candidates.len()), ("is it?", 2));
        let question = read(r#"{"text": "is it?", "candidate_list": "vqa"}"#).unwrap();
        assert_eq!(question.candidate_list, "vqa");
        assert!(read(r#"{"candidates": []}"#).unwrap_err().contains("missing field `text`"));
        assert!(read(r#"{"text": "a", "answers": []}"#).unwrap_err().contains("unknown field `answers`"));
        assert!(read("5").unwrap_err().contains("expected a string, or an object"));
    }
}
