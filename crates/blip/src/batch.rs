//! What goes into the model and what comes out of it.

use std::time::Duration;

use crate::{feature_cache::ImageKey, preprocess::Pixels};

/// A distinct image of a batch.
#[derive(Debug, Clone, Copy)]
pub struct ImageInput<'a> {
    /// Identity: the digest of the image's bytes.
    pub key: ImageKey,
    /// The picture at the model's size.
    pub pixels: &'a Pixels,
}

/// A row of a batch: one question about one of its images.
#[derive(Debug, Clone, Copy)]
pub struct QuestionInput<'a> {
    /// Index into the batch's images.
    pub image: usize,
    /// Token ids from `[CLS]` to `[SEP]`, as the tokenizer gives them.
    pub token_ids: &'a [i64],
}

/// One row's answer, with what it took.
#[derive(Debug, Clone, PartialEq)]
pub struct RowAnswer {
    /// The tokens that the decoder wrote; the stop token is the last, unless the answer was cut at its limit.
    pub token_ids: Vec<i64>,
    /// Natural logarithm of the answer's probability: the sum over its tokens, the stop token included.
    pub score: f32,
    /// The smallest lead of a chosen token over the next best, in log-probability: near 0, the answer was a close call.
    pub margin: f32,
    /// Time of the vision encoder for the whole batch; zero if all its images were remembered.
    pub vision: Duration,
    /// Time of the question encoder for the whole batch.
    pub text: Duration,
    /// Time of the decoder from its start to this row's end.
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
}

/// Takes the rows of a running batch, each as it finishes.
pub trait RowSink {
    /// Row `row` of the caller's questions is done.
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>);

    /// Whether nobody waits for row `row` any more; asked before the batch and between decode steps.
    fn is_cancelled(&self, row: usize) -> bool;

    /// The batch took this many decode steps; said once, at its end.
    fn decode_steps(&mut self, _steps: u32) {}

    /// The features of this image are kept from now on; `bytes` is their size on the device.
    fn image_cached(&mut self, _key: &ImageKey, _bytes: usize) {}

    /// The features of this image are kept no more.
    fn image_evicted(&mut self, _key: &ImageKey) {}
}
