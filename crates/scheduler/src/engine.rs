//! The one seam to the model: what an engine must be able to do, and how its work comes back.

use std::sync::Arc;

use crate::job::ImageDigest;

/// One device with a model on it.
///
/// An engine is built on its own OS thread and stays there, so it need not be `Send`.
pub trait Engine: 'static {
    /// What the engine needs of an image, for instance decoded and resized pixels.
    type Image: Send + Sync + 'static;
    /// What the engine needs of a question, for instance its token ids.
    type Question: Send + Sync + 'static;
    /// The answer to one question.
    type Answer: Clone + Send + Sync + 'static;

    /// Runs one batch to its end.
    ///
    /// Each row (an index into [`Batch::questions`]) is reported with [`RowSink::finish`] as soon as it
    /// is known; between decode steps, rows for which [`RowSink::is_cancelled`] is true are left out.
    ///
    /// # Errors
    /// An error stands for every row that was not finished. Its [kind](EngineErrorKind) says what
    /// becomes of them. Returning `Ok` with rows neither finished nor cancelled is a fault of the
    /// engine, and those rows fail.
    fn run(
        &mut self,
        batch: &Batch<Self::Image, Self::Question>,
        rows: &mut dyn RowSink<Self::Answer>,
    ) -> Result<(), EngineError>;
}

/// Builds an engine on the thread that it will live on; called again to restart one that panicked.
pub type EngineFactory<E> = Box<dyn FnMut() -> Result<E, EngineError> + Send>;

/// Distinct images, and the questions about them.
#[derive(Debug)]
pub struct Batch<I, Q> {
    /// Every image once, whatever the number of questions about it.
    pub images: Vec<BatchImage<I>>,
    /// The rows of the batch.
    pub questions: Vec<BatchQuestion<Q>>,
}

/// An image of a batch.
#[derive(Debug)]
pub struct BatchImage<I> {
    /// Identity of the image's content.
    pub digest: ImageDigest,
    /// The image itself.
    pub payload: Arc<I>,
}

/// A row of a batch.
#[derive(Debug)]
pub struct BatchQuestion<Q> {
    /// Index into [`Batch::images`].
    pub image: usize,
    /// The question itself.
    pub payload: Arc<Q>,
    /// Length of the question in tokens, unpadded.
    pub tokens: u32,
}

/// Where an engine reports to while it runs a batch.
pub trait RowSink<A> {
    /// Hands over the outcome of a row; the asker has it before the rest of the batch ends.
    ///
    /// The first outcome of a row counts, later ones are ignored.
    fn finish(&mut self, row: usize, outcome: Result<A, EngineError>);

    /// True when nobody waits for this row any more: cancelled, or past its deadline.
    fn is_cancelled(&self, row: usize) -> bool;

    /// Says that the engine now holds the features of an image, `bytes` of them.
    fn image_cached(&mut self, _digest: ImageDigest, _bytes: usize) {}

    /// Says that the engine no longer holds the features of an image.
    fn image_evicted(&mut self, _digest: ImageDigest) {}

    /// Says how many decode steps the batch took; the service model is fitted to it.
    fn decode_steps(&mut self, _steps: u32) {}
}

/// What an engine's error means for the rows of its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EngineErrorKind {
    /// This row's own input is at fault. The row fails, the others are not concerned.
    Row,
    /// Something in the batch is at fault, it is not known what: the batch is bisected.
    Batch,
    /// The device's memory was too small for the batch: halves are tried, and later batches are smaller.
    OutOfMemory,
    /// The engine can do no more work, for instance after an illegal memory access on the device.
    Fatal,
}

/// An engine's error: what it means, and what to tell the asker.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    /// What becomes of the rows concerned.
    pub kind: EngineErrorKind,
    /// A sentence in lower case without a full stop.
    pub message: String,
}

impl EngineError {
    /// An error of a kind with a message.
    pub fn new(kind: EngineErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}
