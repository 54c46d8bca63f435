//! What a caller asks over HTTP, whichever way it was written.

use std::time::Duration;

use bytes::Bytes;
use scheduler::Priority;
use serde::{Deserialize, Deserializer, de::Error as _};
use utoipa::ToSchema;

use crate::{
    errors::{Reason, Refusal},
    place::Form,
    proto::{Image, ImageQuestions, Question, image::Source},
    wanted::Wanted,
};

/// A request as it was read, unchecked but for its shape.
pub(super) struct Payload {
    /// The key that it carries.
    pub(super) secret_token: Option<String>,
    /// Files and URLs.
    pub(super) images: Vec<Source>,
    /// What is asked about them.
    pub(super) questions: Questions,
    /// What is wanted of them.
    pub(super) wanted: Wanted,
    /// Which model is asked; empty if that is left to the server.
    pub(super) model: String,
    /// How it is to be answered.
    pub(super) options: Options,
    /// How it was written.
    pub(super) form: Form,
}

/// The texts of a request.
pub(super) enum Questions {
    /// One list for each image.
    Each(Vec<Vec<Question>>),
    /// One list for all images.
    Shared(Vec<Question>),
    /// One list that stands for itself, without images.
    Alone(Vec<Question>),
}

/// What a path of the API is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
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
pub(super) struct Options {
    /// With scores and timings.
    pub(super) details: bool,
    /// As server-sent events.
    pub(super) stream: bool,
    /// In which class.
    pub(super) priority: Class,
    /// Within which time.
    pub(super) timeout_ms: Option<Milliseconds>,
}

/// A time that a caller may set: at least 1 ms, at most seven weeks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Milliseconds(pub(super) u32);

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

/// Who goes first when several callers wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Class {
    /// For work that nobody waits for.
    Low,
    /// The ordinary class.
    #[default]
    Normal,
    /// For someone who is waiting at this moment.
    High,
}

impl From<Class> for Priority {
    fn from(class: Class) -> Self {
        match class {
            Class::Low => Self::Low,
            Class::Normal => Self::Normal,
            Class::High => Self::High,
        }
    }
}

impl Options {
    /// How long the caller waits, if that was said.
    pub(super) fn timeout(self) -> Option<Duration> {
        self.timeout_ms.map(|timeout| Duration::from_millis(timeout.0.into()))
    }
}

impl Payload {
    /// Each image with its questions. Questions that images share may take no more bytes, written out for each, than
    /// a request of `max_bytes` could.
    ///
    /// # Errors
    /// A [`Refusal`] of the request, if there are not as many lists of questions as images, or too many shared questions.
    pub(super) fn inputs(
        images: Vec<Source>,
        questions: Questions,
        form: Form,
        max_bytes: usize,
    ) -> Result<Vec<ImageQuestions>, Refusal> {
        let image = |source| Some(Image { source: Some(source) });
        let lists = match questions {
            Questions::Each(lists) => lists,
            Questions::Shared(list) => share(list, images.len(), max_bytes)?,
            Questions::Alone(list) => {
                let alone =
                    |source| ImageQuestions { image: image(source), questions: vec![Question::default()] };
                let mut inputs: Vec<_> = images.into_iter().map(alone).collect();
                if !list.is_empty() {
                    inputs.push(ImageQuestions { image: None, questions: list });
                }
                return Ok(inputs);
            }
        };
        if lists.len() != images.len() {
            return Err(Refusal::new(Reason::TextsMismatched)
                .field(form.questions())
                .value(counted(lists.len(), "list of questions", "lists of questions"))
                .limit(counted(images.len(), "image", "images")));
        }
        let together = images.into_iter().zip(lists);
        let together = together.map(|(source, questions)| ImageQuestions { image: image(source), questions });
        Ok(together.collect())
    }
}

/// A text by itself.
pub(super) fn plain(text: String) -> Question {
    Question { text, ..Question::default() }
}

fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

fn share(list: Vec<Question>, images: usize, max_bytes: usize) -> Result<Vec<Vec<Question>>, Refusal> {
    // What a question takes besides its text.
    let bytes: usize = list.iter().map(|question| question.text.len() + size_of::<Question>()).sum();
    let written_out = bytes.saturating_mul(images);
    if written_out > max_bytes {
        return Err(Refusal::new(Reason::MessageTooLarge)
            .value(format!("{written_out} bytes, with its questions written out for each image,"))
            .limit(format!("{max_bytes} bytes")));
    }
    Ok(vec![list; images])
}

/// An image by its bytes.
pub(super) fn file(bytes: impl Into<Bytes>) -> Source {
    Source::Data(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form = Form::Files { shared_questions: true };

    #[test]
    fn each_image_gets_its_own_list_or_the_shared_one() {
        let images = || vec![file("a"), file("b")];
        let texts = |inputs: Vec<ImageQuestions>| -> Vec<Vec<String>> {
            let texts =
                |input: ImageQuestions| input.questions.into_iter().map(|question| question.text).collect();
            inputs.into_iter().map(texts).collect()
        };
        let list = |texts: &[&str]| texts.iter().map(|text| plain((*text).to_owned())).collect::<Vec<_>>();
        let lists = vec![list(&["what?"]), list(&["who?", "why?"])];
        let each = Payload::inputs(images(), Questions::Each(lists.clone()), Form::Card, 1000).unwrap();
        assert_eq!(texts(each), [vec!["what?"], vec!["who?", "why?"]]);
        let shared = Payload::inputs(images(), Questions::Shared(lists[1].clone()), FORM, 1000).unwrap();
        assert_eq!(texts(shared), [["who?", "why?"], ["who?", "why?"]]);
        let alone = Payload::inputs(images(), Questions::Alone(lists[0].clone()), FORM, 1000).unwrap();
        let with_image: Vec<bool> = alone.iter().map(|input| input.image.is_some()).collect();
        assert_eq!(
            (with_image, texts(alone).pop()),
            (vec![true, true, false], Some(vec!["what?".to_owned()]))
        );
    }

    #[test]
    fn other_numbers_of_lists_than_of_images_are_refused_by_both_numbers() {
        let lists = Questions::Each(vec![vec![plain("what?".to_owned())]; 3]);
        let refusal = Payload::inputs(vec![file("a"); 2], lists, Form::Card, 1000).unwrap_err();
        let message =
            "inputs.texts holds 3 lists of questions, but there must be one for each of the 2 images";
        assert_eq!(refusal.to_string(), message);
    }

    #[test]
    fn shared_questions_are_not_multiplied_beyond_what_a_request_may_hold() {
        let questions = || Questions::Shared(vec![plain("x".repeat(1000))]);
        assert!(Payload::inputs(vec![file("a"); 9], questions(), FORM, 10_000).is_ok());
        let refusal = Payload::inputs(vec![file("a"); 10], questions(), FORM, 10_000).unwrap_err();
        assert_eq!(refusal.reason(), Reason::MessageTooLarge);
    }
}
