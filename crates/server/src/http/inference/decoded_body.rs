//! What a caller asks over HTTP, whichever way it was written.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    error::{ErrorReason, RequestError},
    priority::RequestPriority,
    request::{
        field_path::RequestFormat,
        item::{ImageSource, Input, TextInput},
        task::Task,
    },
};

/// A request as it was read, unchecked but for its shape.
pub(crate) struct Payload {
    /// The key that it carries.
    pub(crate) secret_token: Option<String>,
    /// Files and URLs.
    pub(crate) images: Vec<ImageSource>,
    /// What is asked about them.
    pub(crate) texts: Texts,
    /// What is wanted of them.
    pub(crate) task: Task,
    /// Which model is asked; empty if that is left to the server.
    pub(crate) model: String,
    /// How it is to be answered.
    pub(crate) options: Options,
    /// How it was written.
    pub(crate) format: RequestFormat,
}

/// The texts of a request.
pub(crate) enum Texts {
    /// One list for each image.
    Each(Vec<Vec<TextInput>>),
    /// One list for all images.
    Shared(Vec<TextInput>),
    /// One list that stands for itself, without images.
    Alone(Vec<TextInput>),
}

/// What a path of the API is for.
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

/// How a request is to be answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// With scores and timings.
    pub(crate) details: bool,
    /// As server-sent events.
    pub(crate) stream: bool,
    /// In which class.
    pub(crate) priority: RequestPriority,
    /// Within which time.
    pub(crate) timeout_ms: Option<Milliseconds>,
}

/// A time that a caller may set: at least 1 ms, at most seven weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Milliseconds(pub(crate) u32);

impl<'de> Deserialize<'de> for Milliseconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // To JSON Schema 250.0 is an integer, and to some who write JSON, too.
        let number = f64::deserialize(deserializer)?;
        if number.fract() == 0.0 && (1.0..=f64::from(u32::MAX)).contains(&number) {
            return Ok(Self(number as u32));
        }
        Err(D::Error::custom(format_args!("{number} is no integer from 1 to {}", u32::MAX)))
    }
}

impl Options {
    /// How long the caller waits, if that was said.
    pub(crate) fn timeout(self) -> Option<Duration> {
        self.timeout_ms.map(|timeout| Duration::from_millis(timeout.0.into()))
    }
}

impl Payload {
    /// Each image with its questions. Questions that images share may take no more bytes, written out for each, than
    /// a request of `max_bytes` could.
    ///
    /// # Errors
    /// A [`RequestError`] of the request, if there are not as many lists of questions as images, or too many shared questions.
    pub(crate) fn inputs(
        images: Vec<ImageSource>,
        texts: Texts,
        format: RequestFormat,
        max_bytes: usize,
    ) -> Result<Vec<Input>, RequestError> {
        let lists = match texts {
            Texts::Each(lists) => lists,
            Texts::Shared(list) => share(list, images.len(), max_bytes)?,
            Texts::Alone(list) => {
                let alone =
                    |image| Input { image: Some(image), texts: vec![TextInput::default()] };
                let mut inputs: Vec<_> = images.into_iter().map(alone).collect();
                if !list.is_empty() {
                    inputs.push(Input { image: None, texts: list });
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
        let together = images.into_iter().zip(lists);
        let together = together.map(|(image, texts)| Input { image: Some(image), texts });
        Ok(together.collect())
    }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn share(list: Vec<TextInput>, images: usize, max_bytes: usize) -> Result<Vec<Vec<TextInput>>, RequestError> {
    // What a question takes besides its text.
    let bytes: usize = list.iter().map(|question| question.text.len() + size_of::<TextInput>()).sum();
    let written_out = bytes.saturating_mul(images);
    if written_out > max_bytes {
        return Err(RequestError::new(ErrorReason::MessageTooLarge)
            .value(format!("{written_out} bytes with the questions of every image"))
            .limit(format!("{max_bytes} bytes")));
    }
    Ok(vec![list; images])
}

/// An image by its bytes.
pub(crate) fn file(bytes: impl Into<Bytes>) -> ImageSource {
    ImageSource::Inline(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: RequestFormat = RequestFormat::Form { shared_questions: true };

    #[test]
    fn each_image_gets_its_own_list_or_the_shared_one() {
        let images = || vec![file("a"), file("b")];
        let texts = |inputs: Vec<Input>| -> Vec<Vec<String>> {
            let texts = |input: Input| input.texts.into_iter().map(|text| text.text).collect();
            inputs.into_iter().map(texts).collect()
        };
        let list = |texts: &[&str]| texts.iter().map(|text| TextInput::from((*text).to_owned())).collect::<Vec<_>>();
        let lists = vec![list(&["what?"]), list(&["who?", "why?"])];
        let each =
            Payload::inputs(images(), Texts::Each(lists.clone()), RequestFormat::Json, 1000).unwrap();
        assert_eq!(texts(each), [vec!["what?"], vec!["who?", "why?"]]);
        let shared = Payload::inputs(images(), Texts::Shared(lists[1].clone()), FORM, 1000).unwrap();
        assert_eq!(texts(shared), [["who?", "why?"], ["who?", "why?"]]);
        let alone = Payload::inputs(images(), Texts::Alone(lists[0].clone()), FORM, 1000).unwrap();
        let with_image: Vec<bool> = alone.iter().map(|input| input.image.is_some()).collect();
        assert_eq!(
            (with_image, texts(alone).pop()),
            (vec![true, true, false], Some(vec!["what?".to_owned()]))
        );
    }

    #[test]
    fn other_numbers_of_lists_than_of_images_are_refused_by_both_numbers() {
        let lists = Texts::Each(vec![vec![TextInput::from("what?".to_owned())]; 3]);
        let refusal = Payload::inputs(vec![file("a"); 2], lists, RequestFormat::Json, 1000).unwrap_err();
        let message =
            "wrong number of lists in inputs.texts: 3 lists of questions for 2 images";
        assert_eq!(refusal.to_string(), message);
    }

    #[test]
    fn shared_questions_are_not_multiplied_beyond_what_a_request_may_hold() {
        let questions = || Texts::Shared(vec![TextInput::from("x".repeat(1000))]);
        assert!(Payload::inputs(vec![file("a"); 9], questions(), FORM, 10_000).is_ok());
        let refusal = Payload::inputs(vec![file("a"); 10], questions(), FORM, 10_000).unwrap_err();
        assert_eq!(refusal.reason(), ErrorReason::MessageTooLarge);
    }
}
