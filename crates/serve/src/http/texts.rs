//! Questions and options as JSON has them.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor, value::MapAccessDeserializer},
};
use utoipa::ToSchema;

use super::payload::plain;
use crate::proto::{GenerationOptions, Question};

/// A question: its text, or its text with answers to choose from.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct CardQuestion(pub(super) Question);

/// How a question may be written.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(
    dead_code,
    reason = "it is there to be described; a question is read by hand, which tells better what is wrong"
)]
pub(super) enum TextOrChoice {
    /// The question.
    Text(String),
    /// A question with answers to choose from.
    Choice(Choice),
}

/// A question with answers to choose from: the best of them is the answer.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Choice {
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

impl<'de> Deserialize<'de> for CardQuestion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = CardQuestion;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an object with text and candidates")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<CardQuestion, E> {
                Ok(CardQuestion(plain(text.to_owned())))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<CardQuestion, E> {
                Ok(CardQuestion(plain(text)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<CardQuestion, A::Error> {
                let Choice { text, candidates, candidate_list } =
                    Choice::deserialize(MapAccessDeserializer::new(map))?;
                Ok(CardQuestion(Question { text, candidates, candidate_list }))
            }
        }

        deserializer.deserialize_any(Either)
    }
}

/// Reads an object, and nothing else: where every field has a default, an empty list would do as well.
///
/// # Errors
/// Those of the deserializer.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<T, D::Error>
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

/// How tokens are chosen, each option in the meaning of the `transformers` library. What is not set is as the model has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CardGeneration {
    /// Hypotheses that are followed at the same time; 1 is greedy.
    #[schema(minimum = 1)]
    num_beams: Option<u32>,
    /// Tokens that may be written, the stop token included.
    #[schema(minimum = 1)]
    max_new_tokens: Option<u32>,
    /// Tokens, start token and prompt included, before which nothing ends.
    min_length: Option<u32>,
    /// Beams: a hypothesis' score is divided by its length to the power of this.
    #[schema(minimum = -10, maximum = 10)]
    length_penalty: Option<f32>,
    /// Above 1, tokens that are there already are less likely to come again.
    #[schema(minimum = 0.01, maximum = 100)]
    repetition_penalty: Option<f32>,
    /// Draw tokens instead of taking the likeliest; so it is, too, where one of the next four is set.
    sample: Option<bool>,
    /// Drawing: logits are divided by this.
    #[schema(minimum = 0.01, maximum = 100)]
    temperature: Option<f32>,
    /// Drawing: from so many of the likeliest tokens only.
    #[schema(minimum = 0, maximum = 4_294_967_295_u32, format = "uint32")]
    top_k: Option<u32>,
    /// Drawing: from the likeliest tokens only whose probabilities together reach this.
    #[schema(minimum = 0.001, maximum = 1)]
    top_p: Option<f32>,
    /// Drawing: the same seed draws the same tokens for the same input.
    #[schema(minimum = 0, format = "uint64")]
    seed: Option<u64>,
    /// Best answers wanted; those after the first are told with `details`.
    #[schema(minimum = 1)]
    num_answers: Option<u32>,
}

impl From<CardGeneration> for GenerationOptions {
    fn from(options: CardGeneration) -> Self {
        let CardGeneration {
            num_beams,
            max_new_tokens,
            min_length,
            length_penalty,
            repetition_penalty,
            sample,
            temperature,
            top_k,
            top_p,
            seed,
            num_answers,
        } = options;
        Self {
            num_beams,
            max_new_tokens,
            min_length,
            length_penalty,
            repetition_penalty,
            sample,
            temperature,
            top_k,
            top_p,
            seed,
            num_answers,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Result<Question, String> {
        serde_json::from_str::<CardQuestion>(json)
            .map(|question| question.0)
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_question_is_a_string_or_has_answers_to_choose_from() {
        assert_eq!(read(r#""what?""#), Ok(plain("what?".to_owned())));
        let choice = read(r#"{"text": "is it?", "candidates": ["yes", "no"]}"#).unwrap();
        assert_eq!((choice.text.as_str(), choice.candidates.len()), ("is it?", 2));
        let named = read(r#"{"text": "is it?", "candidate_list": "vqa"}"#).unwrap();
        assert_eq!(named.candidate_list, "vqa");
        assert!(read(r#"{"candidates": []}"#).unwrap_err().contains("missing field `text`"));
        assert!(read(r#"{"text": "a", "answers": []}"#).unwrap_err().contains("unknown field `answers`"));
        assert!(read("5").unwrap_err().contains("expected a string, or an object"));
    }
}
