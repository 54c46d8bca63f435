//! The contents of a request body, in any format and for any route.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    error::{ErrorReason, RequestError},
    priority::RequestPriority,
    request::{
        field_path::RequestFormat,
        item::{ImageSource, Input, TextInput, check_repeated},
        task::Task,
    },
};

/// A decoded body. Only its shape was checked.
pub(crate) struct DecodedBody {
    /// The API key in the body.
    pub(crate) secret_token: Option<String>,
    /// The images.
    pub(crate) images: Vec<ImageSource>,
    /// The texts.
    pub(crate) texts: TextLists,
    /// The task of every item.
    pub(crate) task: Task,
    /// The name of the model, or an empty string.
    pub(crate) model: String,
    /// The options of the call.
    pub(crate) options: CallOptions,
    /// The format, whose field names are used in errors.
    pub(crate) format: RequestFormat,
}

/// The texts of a request.
pub(crate) enum TextLists {
    /// One list for each image.
    PerImage(Vec<Vec<TextInput>>),
    /// One list that all images share.
    Shared(Vec<TextInput>),
    /// One list of texts without an image.
    WithoutImage(Vec<TextInput>),
}

/// An inference route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    /// `/v1/ask`.
    Ask,
    /// `/v1/caption`.
    Caption,
    /// `/v1/match`.
    Match,
    /// `/v1/embed`.
    Embed,
}

/// The options of a call that do not change its results.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct CallOptions {
    /// Whether the response has scores and timings.
    pub(crate) details: bool,
    /// Whether the response is a stream of server-sent events.
    pub(crate) stream: bool,
    /// The requested priority.
    pub(crate) priority: RequestPriority,
    /// The time limit.
    pub(crate) timeout_ms: Option<Milliseconds>,
}

/// A time limit of a client, from 1 ms to about seven weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Milliseconds(pub(crate) u32);

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // JSON Schema and some JSON writers treat 250.0 as an integer.
        let number = f64::deserialize(deserializer)?;
        if number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number) {
            return Ok(Self(number as u32));
        }
        Err(D::Error::custom(format_args!("{number}, expected an integer from 1 to {}", u32::MAX)))
    }
}

impl CallOptions {
    /// Returns the time limit, if the client set one.
    pub(crate) fn timeout(self) -> Option<Duration> {
        self.timeout_ms.map(|timeout| Duration::from_millis(timeout.0.into()))
    }
}

impl DecodedBody {
    /// Returns each image with its texts. Shared texts may need at most `max_bytes` when they are
    /// repeated for each image, as many as a request may have.
    ///
    /// # Errors
    /// A [`RequestError`] of the request if the number of lists is not the number of images, or if
    /// the shared texts are too long.
    pub(crate) fn inputs(
        images: Vec<ImageSource>,
        texts: TextLists,
        format: RequestFormat,
        max_bytes: usize,
    ) -> Result<Vec<Input>, RequestError> {
        let lists = match texts {
            TextLists::PerImage(lists) => lists,
            TextLists::Shared(texts) => repeat(texts, images.len(), max_bytes)?,
            TextLists::WithoutImage(texts) => {
                let input = |image| Input { image: Some(image), texts: vec![TextInput::default()] };
                let mut inputs: Vec<_> = images.into_iter().map(input).collect();
                if !texts.is_empty() {
                    inputs.push(Input { image: None, texts });
                }
                return Ok(inputs);
            }
        };
        if lists.len() != images.len() {
            return Err(RequestError::new(ErrorReason::TextsMismatched)
                .field(format.questions())
                .value(counted(lists.len(), "list of questions", "lists of questions"))
                .limit(counted(images.len(), "image", "images")));
        }
        let inputs = images.into_iter().zip(lists);
        Ok(inputs.map(|(image, texts)| Input { image: Some(image), texts }).collect())
    }
}

fn counted(count: usize, singular: &str, plural: &str) -> String {
    format!("{count} {}", if count == 1 { singular } else { plural })
}

fn repeat(
    texts: Vec<TextInput>,
    images: usize,
    max_bytes: usize,
) -> Result<Vec<Vec<TextInput>>, RequestError> {
    let bytes: usize = texts.iter().map(|text| text.text.len() + size_of::<TextInput>()).sum();
    check_repeated(bytes.saturating_mul(images), "the questions repeated for each image", max_bytes)?;
    Ok(vec![texts; images])
}

/// Returns an image file of the request.
pub(crate) fn inline(bytes: impl Into<Bytes>) -> ImageSource {
    ImageSource::Inline(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: RequestFormat = RequestFormat::Form { shared_questions: true };

    #[test]
    fn image_has_its_list_or_the_shared_one() {
        let images = || vec![inline("a"), inline("b")];
        let texts = |inputs: Vec<Input>| -> Vec<Vec<String>> {
            let texts = |input: Input| input.texts.into_iter().map(|text| text.text).collect();
            inputs.into_iter().map(texts).collect()
        };
        let list =
            |texts: &[&str]| texts.iter().map(|text| TextInput::from((*text).to_owned())).collect::<Vec<_>>();
        let lists = vec![list(&["what?"]), list(&["who?", "why?"])];
        let inputs =
            DecodedBody::inputs(images(), TextLists::PerImage(lists.clone()), RequestFormat::Json, 1000);
        assert_eq!(texts(inputs.unwrap()), [vec!["what?"], vec!["who?", "why?"]]);
        let inputs = DecodedBody::inputs(images(), TextLists::Shared(lists[1].clone()), FORM, 1000);
        assert_eq!(texts(inputs.unwrap()), [["who?", "why?"], ["who?", "why?"]]);
        let inputs = DecodedBody::inputs(images(), TextLists::WithoutImage(lists[0].clone()), FORM, 1000);
        let inputs = inputs.unwrap();
        let with_image: Vec<bool> = inputs.iter().map(|input| input.image.is_some()).collect();
        assert_eq!(
            (with_image, texts(inputs).pop()),
            (vec![true, true, false], Some(vec!["what?".to_owned()]))
        );
    }

    #[test]
    fn wrong_number_of_lists_is_rejected_with_both_numbers() {
        let lists = TextLists::PerImage(vec![vec![TextInput::from("what?".to_owned())]; 3]);
        let inputs = DecodedBody::inputs(vec![inline("a"); 2], lists, RequestFormat::Json, 1000);
        let message = "wrong number of lists in inputs.texts: 3 lists of questions for 2 images";
        assert_eq!(inputs.unwrap_err().to_string(), message);
    }

    #[test]
    fn shared_questions_are_bounded_when_repeated() {
        let questions = || TextLists::Shared(vec![TextInput::from("x".repeat(1000))]);
        assert!(DecodedBody::inputs(vec![inline("a"); 9], questions(), FORM, 10_000).is_ok());
        let error = DecodedBody::inputs(vec![inline("a"); 10], questions(), FORM, 10_000).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::MessageTooLarge);
    }
}
