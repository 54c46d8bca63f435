//! Questions and options as JSON has them.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use utoipa::ToSchema;

use crate::request::item::TextInput;

/// A question: its text, or its text with answers to choose from.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct QuestionJson(pub(crate) TextInput);

/// How a question may be written.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "it is there to be described; a question is read by hand, which tells better what is wrong"
)]
pub(crate) enum TextOrChoice {
    /// The question.
    Text(String),
    /// A question with answers to choose from.
    Choice(Choice),
}

/// A question with answers to choose from: the best of them is the answer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Choice {
    /// The question.
    text: String,
    /// The answers.
    #[serde(default)]
    #[schema(example = json!(["yes", "no"]))]
    candidates: Vec<String>,
    /// The name of a list of answers that the server has, instead.
    #[serde(default)]
    candidate_list: String,
}

impl<'de> Deserialize<'de> for QuestionJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
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
                let Choice { text, candidates, candidate_list } =
                    Choice::deserialize(MapAccessDeserializer::new(map))?;
                Ok(QuestionJson(TextInput { text, candidates, candidate_list }))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Reads an object, and nothing else: where every field has a default, an empty list would do as well.
///
/// # Errors
/// Those of the deserializer.
pub(crate) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_map(Object(PhantomData))
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
    fn a_question_is_a_string_or_has_answers_to_choose_from() {
        assert_eq!(read(r#""what?""#), Ok("what?".to_owned().into()));
        let choice = read(r#"{"text": "is it?", "candidates": ["yes", "no"]}"#).unwrap();
        assert_eq!((choice.text.as_str(), choice.candidates.len()), ("is it?", 2));
        let named = read(r#"{"text": "is it?", "candidate_list": "vqa"}"#).unwrap();
        assert_eq!(named.candidate_list, "vqa");
        assert!(read(r#"{"candidates": []}"#).unwrap_err().contains("missing field `text`"));
        assert!(read(r#"{"text": "a", "answers": []}"#).unwrap_err().contains("unknown field `answers`"));
        assert!(read("5").unwrap_err().contains("expected a string, or an object"));
    }
}
