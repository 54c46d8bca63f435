//! The interface to the model: the [`Engine`] trait, its batches, and the sink for its results.

use std::sync::Arc;

use crate::job::ImageDigest;

/// One model replica on one device.
///
/// The engine thread builds the engine and never moves it, so it need not be `Send`.
pub trait Engine: 'static {
    /// An image as the engine needs it, for example decoded and resized pixels.
    type Image: Send + Sync + 'static;
    /// A question as the engine needs it, for example token ids.
    type Question: Send + Sync + 'static;
    /// The answer to one question.
    type Answer: Clone + Send + Sync + 'static;

    /// Runs one batch.
    ///
    /// The engine reports each row (an index into [`Batch::questions`]) with [`RowSink::finish`] as
    /// soon as it is complete. Between decode steps it drops rows for which
    /// [`RowSink::is_cancelled`] is true.
    ///
    /// # Errors
    /// An error applies to every unfinished row. Its [kind](EngineErrorKind) decides what happens
    /// to them. If the engine returns `Ok`, rows that are neither finished nor cancelled fail.
    fn run(
        &mut self,
        batch: &Batch<Self::Image, Self::Question>,
        rows: &mut dyn RowSink<Self::Answer>,
    ) -> Result<(), EngineError>;
}

/// Builds an engine on its thread, at the start and again after a panic.
pub type EngineFactory<E> = Box<dyn FnMut() -> Result<E, EngineError> + Send>;

/// Distinct images and the questions about them.
#[derive(Debug)]
pub struct Batch<I, Q> {
    /// Each image once, whatever its number of questions.
    pub images: Vec<BatchImage<I>>,
    /// The rows of the batch.
    pub questions: Vec<BatchQuestion<Q>>,
}

/// An image of a batch.
#[derive(Debug)]
pub struct BatchImage<I> {
    /// Digest of the image's bytes.
    pub digest: ImageDigest,
    /// The image.
    pub payload: Arc<I>,
}

/// A row of a batch.
#[derive(Debug)]
pub struct BatchQuestion<Q> {
    /// Index into [`Batch::images`].
    pub image: usize,
    /// The question.
    pub payload: Arc<Q>,
    /// Length of the question in tokens, without padding.
    pub tokens: u32,
}

/// Receives the results of a batch while it runs.
pub trait RowSink<A> {
    /// Reports the outcome of a row. The client receives it before the rest of the batch ends.
    ///
    /// Only the first outcome of a row counts.
    fn finish(&mut self, row: usize, outcome: Result<A, EngineError>);

    /// Returns true if no client waits for this row: it is cancelled, or past its deadline.
    fn is_cancelled(&self, row: usize) -> bool;

    /// Reports that the engine caches the features of an image, `bytes` in size.
    fn image_cached(&mut self, _digest: ImageDigest, _bytes: usize) {}

    /// Reports that the engine has evicted the features of an image.
    fn image_evicted(&mut self, _digest: ImageDigest) {}

    /// Reports the number of decode steps of the batch, for the cost model.
    fn decode_steps(&mut self, _steps: u32) {}
}

/// The effect of an engine's error on the rows of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineErrorKind {
    /// The row's input caused the error. This row fails, the others continue.
    Row,
    /// An unknown part of the batch caused the error. The scheduler bisects the batch.
    Batch,
    /// The device has too little memory. The scheduler bisects the batch and lowers the limits.
    OutOfMemory,
    /// The engine cannot work any more, for example after an illegal memory access on the device.
    Fatal,
}

/// An engine's error: its kind, and the message for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// The effect on the rows concerned.
    pub kind: EngineErrorKind,
    /// In lower case, without a full stop.
    pub message: String,
}

impl EngineError {
    /// Creates an error.
    pub fn new(kind: EngineErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
