//! Measures batches when the server starts, and chooses the batch limits for `--target-p95-ms`.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use blip::{Architecture, Checkpoint, Pixels, RowTask};
use scheduler::{Batch, BatchImage, BatchLimits, BatchQuestion, BatchSizing, Engine, EngineFactory};
use tokio::time::Instant;

use crate::{engine::payload::EngineInput, preprocess::prepared::TokenIds, telemetry::tracing::TraceScope};

/// The question of every measured row, of typical length.
const QUESTION: &str = "what is the color of the shape in the picture?";

/// Chooses batch limits for `p95`, at most those of `configured`.
///
/// Measures a temporary engine of `factory`.
///
/// # Errors
/// An engine that does not start, or a batch that fails.
pub async fn limits<E>(
    mut factory: EngineFactory<E>,
    checkpoint: &Checkpoint,
    configured: BatchLimits,
    p95: Duration,
) -> anyhow::Result<BatchLimits>
where
    E: Engine<Image = Pixels, Question = EngineInput>,
{
    let mut batches = SyntheticBatches::new(checkpoint)?;
    let measured = tokio::task::spawn_blocking(move || {
        let mut engine = factory()?;
        BatchSizing::measure(
            &mut engine,
            configured,
            p95,
            |images, questions| batches.batch(images, questions),
            Instant::now,
        )
    });
    let sizing =
        measured.await.context("batch measurement was cancelled")?.context("cannot measure batches")?;
    for time in &sizing.measurements {
        let milliseconds = time.slowest.as_secs_f64() * 1e3;
        tracing::info!(images = time.images, questions = time.questions, milliseconds, "batch measured");
    }
    let (images, questions) = (sizing.limits.max_images, sizing.limits.max_questions);
    let target_p95_ms = p95.as_millis();
    if sizing.is_target_missed {
        tracing::warn!(
            target_p95_ms,
            "target_p95_ms not reachable: one new image with one question takes more than half of it"
        );
    }
    tracing::info!(target_p95_ms, images, questions, "batch limits chosen");
    Ok(sizing.limits)
}

/// Creates batches of images that no engine has cached.
struct SyntheticBatches {
    /// The same for all images, because the work does not depend on the content.
    pixels: Arc<Pixels>,
    question: Arc<EngineInput>,
    tokens: u32,
    images_created: u64,
}

impl SyntheticBatches {
    fn new(checkpoint: &Checkpoint) -> anyhow::Result<Self> {
        let preprocessor = checkpoint.preprocessor();
        let (height, width) = (preprocessor.height(), preprocessor.width());
        let pixels = Pixels::new(height, width, vec![127; height * width * 3])?;
        let tokenizer = checkpoint.tokenizer();
        let (ids, task) = match checkpoint.config().architecture() {
            Architecture::QuestionAnswering => (tokenizer.encode(QUESTION)?, RowTask::GREEDY),
            Architecture::Captioning => (tokenizer.encode_prompt("")?, RowTask::GREEDY),
            Architecture::Retrieval => (tokenizer.encode(QUESTION)?, RowTask::Match),
        };
        let tokens = u32::try_from(ids.len())?;
        let question = EngineInput { ids: TokenIds(ids), task, tokens: None, trace: TraceScope::default() };
        Ok(Self { pixels: Arc::new(pixels), question: Arc::new(question), tokens, images_created: 0 })
    }

    fn batch(&mut self, images: usize, questions: usize) -> Batch<Pixels, EngineInput> {
        let images = (0..images).map(|_| {
            self.images_created += 1;
            let mut digest = [0u8; 32];
            digest.iter_mut().zip(self.images_created.to_le_bytes()).for_each(|(to, byte)| *to = byte);
            BatchImage { digest, payload: Arc::clone(&self.pixels) }
        });
        let images: Vec<_> = images.collect();
        let questions = (0..questions).map(|row| BatchQuestion {
            image: row % images.len().max(1),
            payload: Arc::clone(&self.question),
            tokens: self.tokens,
        });
        let questions = questions.collect();
        Batch { images, questions }
    }
}
