//! What goes into the model and what comes out of it.

use std::time::Duration;

use crate::{
    batch::task::{RowOutput, RowTask},
    preprocess::Pixels,
};

/// Identity of an image: the digest of its bytes.
pub type ImageDigest = [u8; 32];

/// A distinct image of a batch.
#[derive(Debug, Clone, Copy)]
pub struct ImageInput<'a> {
    /// Identity: the digest of the image's bytes.
    pub digest: ImageDigest,
    /// The picture at the model's size.
    pub pixels: &'a Pixels,
}

/// A row of a batch: one text about one of its images.
#[derive(Debug, Clone, Copy)]
pub struct RowInput<'a> {
    /// Index into the batch's images; `None` for a text alone.
    pub image: Option<usize>,
    /// Token ids as the tokenizer gives them: a question or text from `[CLS]` to `[SEP]`, a caption's prompt from the start
    /// token on. Empty for an image alone.
    pub token_ids: &'a [i64],
    /// What is wanted.
    pub task: &'a RowTask,
}

/// What came of one row, with what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct RowAnswer {
    /// What was wanted.
    pub output: RowOutput,
    /// Time of the vision encoder for the whole batch; zero if all its images were remembered.
    pub vision: Duration,
    /// Time of the text encoder for the whole batch.
    pub text: Duration,
    /// Time of the decoder, or of a head, from its start to this row's end.
    pub decode: Duration,
    /// Whether the image was encoded before this batch.
    pub image_reused: bool,
}

/// Why one row has no answer while its neighbours do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RowError {
    /// The row's numbers overflowed or were no numbers to begin with.
    #[error("the model's output is not finite")]
    NotFinite,
    /// The model was not made for this.
    #[error("this model does not do {task}")]
    Unsupported {
        /// What was wanted.
        task: &'static str,
    },
}

/// Takes the rows of a running batch, each as it finishes.
pub trait RowSink {
    /// Row `row` of the caller's is done.
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>);

    /// Whether nobody waits for row `row` any more; asked before the batch and between decode steps.
    fn is_cancelled(&self, row: usize) -> bool;

    /// Row `row`, which asked for it, has written its token number `index`, from 0, behind its prompt.
    fn token(&mut self, _row: usize, _index: usize, _token: i64) {}

    /// The batch took this many decode steps; said once, at its end.
    fn decode_steps(&mut self, _steps: u32) {}

    /// The features of this image are kept from now on; `bytes` is their size on the device.
    fn image_cached(&mut self, _digest: &ImageDigest, _bytes: usize) {}

    /// The batch's questions read `images` images, of which `cached` had cached keys and values.
    fn key_values(&mut self, _cached: usize, _images: usize) {}

    /// The features of this image are kept no more.
    fn image_evicted(&mut self, _digest: &ImageDigest) {}
}
