//! The parts of a request: inputs as a protocol adapter builds them, and the validated form of
//! each.
//!
//! A protocol adapter turns its message into [`Input`]s. [`validate`](super::validate::validate)
//! turns these into [`ValidatedInput`]s, whose items are prepared for the engine.

use blip::Generation;
use bytes::Bytes;

use crate::{
    error::{ErrorReason, RequestError},
    request::field_path::FieldPath,
};

/// An image with the texts about it. Texts to embed come without an image.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Input {
    /// The image.
    pub image: Option<ImageSource>,
    /// The texts.
    pub texts: Vec<TextInput>,
}

/// Where the bytes of an image come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageSource {
    /// The request contains them.
    Inline(Bytes),
    /// The server fetches them from this URL.
    Remote(String),
    /// The request has an image without bytes and URL.
    Missing,
    /// The request has bytes in an encoding that cannot be decoded, for this reason.
    Undecodable(String),
}

/// A text, with candidate answers if it is a question that has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextInput {
    /// The text.
    pub text: String,
    /// The candidate answers.
    pub candidates: Vec<String>,
    /// The name of a candidate list of the server, or an empty string.
    pub candidate_list: String,
}

impl From<String> for TextInput {
    /// A text without candidates.
    fn from(text: String) -> Self {
        Self { text, ..Self::default() }
    }
}

/// Rejects texts that an adapter would repeat if they need more than `max_bytes` then. `repeated`
/// states what is repeated.
///
/// # Errors
/// A [`RequestError`] of the request, with both sizes.
pub(crate) fn check_repeated(bytes: usize, repeated: &str, max_bytes: usize) -> Result<(), RequestError> {
    if bytes <= max_bytes {
        return Ok(());
    }
    Err(RequestError::new(ErrorReason::MessageTooLarge)
        .value(format_args!("{bytes} bytes with {repeated}"))
        .limit(format!("{max_bytes} bytes")))
}

/// An input after validation. Each part is valid or has a separate error.
#[derive(Clone, Debug)]
pub struct ValidatedInput {
    /// The position of the input in the request.
    pub path: FieldPath,
    /// The image.
    pub image: Result<ValidatedImage, RequestError>,
    /// The texts by position.
    pub items: ValidatedItems,
}

/// The items of an input by position.
pub type ValidatedItems = Vec<Result<ValidatedItem, RequestError>>;

/// An image whose size limits were checked.
#[derive(Clone, Debug)]
pub enum ValidatedImage {
    /// A file that the request contains.
    File(ImageFile),
    /// A file that the server fetches.
    Url(ImageUrl),
    /// No image: the texts are embedded without one.
    None,
}

/// The URL of an image. The fetcher checks it.
#[derive(Clone, Debug)]
pub struct ImageUrl {
    /// The URL.
    pub url: String,
    /// The path of the URL in the request, for messages.
    pub field: String,
}

/// An encoded image file.
#[derive(Clone, Debug)]
pub struct ImageFile {
    /// The contents.
    pub content: FileContent,
    /// The path in the request of the field that holds the file or its URL, for messages.
    pub field: String,
}

/// The contents of a file.
#[derive(Clone, Debug)]
pub enum FileContent {
    /// The bytes.
    Bytes(Bytes),
    /// A `data:` URL that holds the bytes.
    DataUrl(String),
}

/// A valid text with its task.
#[derive(Clone, Debug, PartialEq)]
pub struct ValidatedItem {
    /// The text.
    pub text: String,
    /// The task.
    pub task: ItemTask,
}

impl ValidatedItem {
    /// Returns the size of the text and its candidates, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let candidates = match &self.task {
            ItemTask::Rank { candidates: CandidateSource::Given(candidates), .. } => {
                candidates.iter().map(|candidate| candidate.len() + size_of::<String>()).sum()
            }
            _ => 0,
        };
        self.text.len() + candidates
    }
}

/// The task of one item, with options checked against the limits and completed by the model's
/// defaults.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemTask {
    /// Answer the question.
    Answer(Generation),
    /// Rank candidate answers to the question.
    Rank {
        /// The candidates.
        candidates: CandidateSource,
        /// How many candidates are scored in full.
        shortlist: u32,
        /// How many candidates the response holds.
        num_answers: u32,
        /// Whether the best candidate has an attention map.
        explain: bool,
    },
    /// Write a caption that begins with the text.
    Caption(Generation),
    /// Score how well the text describes the image.
    Match,
    /// Embed the text.
    EmbedText,
    /// Embed the image. The text is empty.
    EmbedImage,
}

/// Where the candidates of a question come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CandidateSource {
    /// The question itself.
    Given(Vec<String>),
    /// A candidate list of the server, by name.
    Named(String),
}
