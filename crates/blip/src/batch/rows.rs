//! Images and rows of a batch, their outputs, and the sink that receives them.

use std::time::Duration;

use crate::{
    batch::task::{RowOutput, RowTask},
    preprocess::Pixels,
};

/// BLAKE3 digest of an image file's bytes. It identifies the image.
pub type ImageDigest = [u8; 32];

/// A distinct image of a batch.
#[derive(Debug, Clone, Copy)]
pub struct ImageInput<'a> {
    /// Digest that identifies the image in the caches.
    pub digest: ImageDigest,
    /// Pixels of the image at the model's size.
    pub pixels: &'a Pixels,
}

/// A row of a batch: one text and one image, or one of them.
#[derive(Debug, Clone, Copy)]
pub struct RowInput<'a> {
    /// Index into the images of the batch. `None` for a text without an image.
    pub image: Option<usize>,
    /// Token ids from the tokenizer. A question or a text runs from `[CLS]` to `[SEP]`. A prompt of
    /// a caption begins with the start token. Empty for an image without a text.
    pub token_ids: &'a [i64],
    /// Task that the model runs for this row.
    pub task: &'a RowTask,
}

/// Output of one row, with the times of its batch.
#[derive(Debug, Clone, PartialEq)]
pub struct RowAnswer {
    /// Result of the row's task.
    pub output: RowOutput,
    /// Time of the vision encoder for the whole batch. Zero if all images are cached.
    pub vision: Duration,
    /// Time of the text encoder for the whole batch.
    pub text: Duration,
    /// Time of the decoder, or of a head, from its start to the end of this row.
    pub decode: Duration,
    /// Whether the features of the image were available before this batch.
    pub image_reused: bool,
}

/// Error of one row. The other rows of the batch are not affected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The output has values that are infinite or NaN.
    #[error("model output is not finite")]
    NotFinite,
    /// The architecture of the model does not support the task.
    #[error("model does not support {task}")]
    Unsupported {
        /// Name of the row's task.
        task: &'static str,
    },
}

/// Receives each row's output while its batch still runs.
///
/// Row numbers are indices into the rows of the caller.
pub trait RowSink {
    /// Receives the output or the error of row `row`.
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>);

    /// Returns whether no client waits for row `row`. The model calls it before the batch and
    /// between decoding steps.
    fn is_cancelled(&self, row: usize) -> bool;

    /// Receives a token of row `row` if its task reports tokens. `index` counts from 0 after the
    /// prompt.
    fn token(&mut self, _row: usize, _index: usize, _token: i64) {}

    /// Receives the number of decoding steps, once at the end of the batch.
    fn decode_steps(&mut self, _steps: u32) {}

    /// Receives the digest of an image when its features enter the cache. `bytes` is their size.
    fn image_cached(&mut self, _digest: &ImageDigest, _bytes: usize) {}

    /// Receives the number of images that the questions read, and how many of them had cached keys
    /// and values.
    fn key_values(&mut self, _cached: usize, _images: usize) {}

    /// Receives the digest of an image when its features leave the cache.
    fn image_evicted(&mut self, _digest: &ImageDigest) {}
}
