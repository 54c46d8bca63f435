//! `--slo-p95-ms`: how large batches may be for answers to come in time, found out before the server is ready.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use blip::{Architecture, Checkpoint, Pixels, RowTask};
use scheduler::{
    Batch, BatchImage, BatchLimits, BatchQuestion, BatchSizing, Engine, EngineFactory, ImageKey,
};
use tokio::time::Instant;

use crate::{intake::TokenIds, row::QuestionRow, telemetry::trace::TraceScope};

/// What is asked of every picture, if the model is asked anything: as long as questions are.
const QUESTION: &str = "what is the color of the shape in the picture?";

/// Batch limits for `p95`, no larger than those `configured`, measured on an engine that `factory` makes for it.
///
/// # Errors
/// If the engine cannot be made or answers nothing.
pub async fn limits<E>(
    mut factory: EngineFactory<E>,
    checkpoint: &Checkpoint,
    configured: BatchLimits,
    p95: Duration,
) -> anyhow::Result<BatchLimits>
where
    E: Engine<Image = Pixels, Question = QuestionRow>,
{
    let mut pictures = Pictures::new(checkpoint)?;
    let measured = tokio::task::spawn_blocking(move || {
        let mut engine = factory()?;
        BatchSizing::measure(
            &mut engine,
            configured,
            p95,
            |images, questions| pictures.batch(images, questions),
            Instant::now,
        )
    });
    let sizing = measured.await.context("measuring ended early")?.context("cannot measure batches")?;
    for time in &sizing.table {
        let milliseconds = time.slowest.as_secs_f64() * 1e3;
        tracing::info!(images = time.images, questions = time.questions, milliseconds, "batch measured");
    }
    let (images, questions) = (sizing.limits.max_images, sizing.limits.max_questions);
    let slo_p95_ms = p95.as_millis();
    if sizing.is_missed {
        tracing::warn!(
            slo_p95_ms,
            "one question about one new image takes more than half of slo_p95_ms: answers will be late"
        );
    }
    tracing::info!(slo_p95_ms, images, questions, "batch limits chosen");
    Ok(sizing.limits)
}

/// Makes batches about pictures that no engine has seen.
struct Pictures {
    /// All of them look alike: the work does not depend on what they show.
    pixels: Arc<Pixels>,
    question: Arc<QuestionRow>,
    tokens: u32,
    made: u64,
}

impl Pictures {
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
        let question = QuestionRow { ids: TokenIds(ids), task, tokens: None, trace: TraceScope::default() };
        Ok(Self { pixels: Arc::new(pixels), question: Arc::new(question), tokens, made: 0 })
    }

    fn batch(&mut self, images: usize, questions: usize) -> Batch<Pixels, QuestionRow> {
        let images = (0..images).map(|_| {
            self.made += 1;
            let mut key = [0u8; 32];
            key.iter_mut().zip(self.made.to_le_bytes()).for_each(|(place, byte)| *place = byte);
            BatchImage { key: ImageKey(key), payload: Arc::clone(&self.pixels) }
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
