//! Inputs as the engine takes them: pixels and token ids, with what the reply needs.

use std::{sync::Arc, time::Duration};

use blip::{Pixels, RowOutput, RowTask};
use images::ImageDigest;
use tokio::time::Instant;

use crate::{
    error::RequestError,
    preprocess::candidates::Candidates,
    request::{field_path::FieldPath, item::ValidatedItems},
};

/// The token ids of a text: from `[CLS]` to `[SEP]`, or of a caption's prompt from the start token
/// on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenIds(pub Vec<i64>);

impl TokenIds {
    /// Returns the identity of the text and its task. Items with equal identity have equal results.
    pub(crate) fn key(&self, task: &RowTask, kind: &ResponseKind) -> [u8; 32] {
        let mut bytes: Vec<u8> = self.0.iter().flat_map(|id| id.to_le_bytes()).collect();
        match (task, kind) {
            (RowTask::Generate(generation), _) if generation.is_greedy() && !generation.report_tokens => {
                bytes.extend(generation.max_new_tokens.into_iter().flat_map(u32::to_le_bytes));
                bytes.extend(explained(generation.explain));
            }
            (RowTask::Generate(generation), _) => {
                bytes.extend(format!("{generation:?}").into_bytes());
                if generation.report_tokens {
                    // A stream of tokens goes to one client, so it needs a separate row.
                    bytes.extend(rand::random::<u128>().to_le_bytes());
                }
            }
            (RowTask::Rank(ranking), ResponseKind::Choice { candidates, .. }) => {
                bytes.extend(candidates.digest);
                bytes.extend([ranking.shortlist, ranking.num_answers].into_iter().flat_map(u32::to_le_bytes));
                bytes.extend(explained(ranking.explain));
            }
            _ => bytes.extend(task.name().bytes()),
        }
        images::ImageDigest::of(&bytes).0
    }
}

/// Returns what the identity of a text has in addition if its answer has an attention map.
fn explained(explain: bool) -> &'static [u8] {
    if explain { b"explained" } else { b"" }
}

/// An image as the engine takes it.
#[derive(Clone, Debug)]
pub struct PreparedImage {
    /// The digest of the file.
    pub key: ImageDigest,
    /// The pixels, at the size of the model.
    pub pixels: Arc<Pixels>,
}

/// A text as the engine takes it.
#[derive(Clone, Debug)]
pub struct PreparedText {
    /// The digest of token ids and task, see `TokenIds::key`.
    pub key: [u8; 32],
    /// The token ids.
    pub ids: TokenIds,
    /// The task.
    pub task: RowTask,
    /// What the reply needs.
    pub kind: ResponseKind,
    /// The result, if the answer cache has it.
    pub cached: Option<RowOutput>,
    /// The number of tokens that the model reads, including those of candidates. A measure of its
    /// work.
    pub tokens: usize,
}

/// What the reply to an item needs besides the engine's output.
#[derive(Clone, Debug)]
pub enum ResponseKind {
    /// An answer that is generated.
    Question,
    /// An answer that is chosen among candidates.
    Choice {
        /// The candidates.
        candidates: Candidates,
        /// How many candidates the response holds, including the best.
        num_answers: u32,
    },
    /// A caption that begins with this prompt.
    Prompt(TokenIds),
    /// Match scores.
    Text,
    /// An embedding.
    Vector,
}

/// An input after preprocessing. Each part is ready or has a separate error.
#[derive(Clone, Debug)]
pub struct PreparedInput {
    /// The position of the input in the request.
    pub path: FieldPath,
    /// The image. `None` if the answer cache has the results of all texts.
    pub image: Option<Result<PreparedImage, RequestError>>,
    /// The texts by position.
    pub texts: Vec<Result<PreparedText, RequestError>>,
    /// The time that preprocessing took.
    pub timing: PreprocessTiming,
}

impl PreparedInput {
    /// Returns an input whose items all have `error`, except those that already have an error.
    #[must_use]
    pub fn with_error(path: FieldPath, error: &RequestError, items: ValidatedItems) -> Self {
        let texts = items.into_iter().map(|item| Err(item.err().unwrap_or_else(|| error.clone())));
        Self { texts: texts.collect(), ..Self::failed(path, error, 0) }
    }

    /// Returns an input of `texts` texts that all have `error`.
    #[must_use]
    pub fn failed(path: FieldPath, error: &RequestError, texts: usize) -> Self {
        let texts = vec![Err(error.clone()); texts];
        Self { path, image: Some(Err(error.clone())), texts, timing: PreprocessTiming::default() }
    }
}

/// The time that each step of preprocessing an image took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PreprocessTiming {
    /// Fetching the image by its URL.
    pub fetch: Duration,
    /// Finding it in the cache, or decoding and scaling it.
    pub preprocess: Duration,
    /// The part of `preprocess` from bytes to RGB, including the wait for memory. Zero for a cached
    /// image.
    pub image_decode: Duration,
    /// The part of `preprocess` from RGB to the size of the model. Zero for a cached image.
    pub image_scale: Duration,
}

impl PreprocessTiming {
    /// Returns the timing with `preprocess` set to the time since `start`.
    pub(crate) fn since(self, start: Instant) -> Self {
        Self { preprocess: start.elapsed(), ..self }
    }
}
