//! The joint between scheduler and model: the scheduler's `Engine`, on `blip::Model`.

use std::{num::NonZeroUsize, sync::Arc};

use blip::{
    BlipConfig, Checkpoint, Dtype, ImageInput, Model, ModelError, ModelOptions, Pixels, RowAnswer, RowError,
    RowInput, RowSink, RowTask, SharedImages,
};
use scheduler::{Batch, Engine, EngineError, EngineErrorKind, EngineFactory, ImageKey, Rows};

use crate::{
    monitor::KeptFeatures,
    row::{AnswerRow, QuestionRow},
    telemetry::trace::BatchTrace,
};

/// A model on its device, on the engine thread that loaded it.
#[derive(Debug)]
pub struct BlipEngine {
    model: Model,
    kept: Arc<KeptFeatures>,
}

/// What the engines of one model keep in one place.
#[derive(Clone, Debug)]
pub struct SharedFeatures {
    images: SharedImages,
    kept: Arc<KeptFeatures>,
}

impl SharedFeatures {
    /// For engines of `checkpoint` that are loaded as `placement` says; none where each keeps its own.
    #[must_use]
    pub fn of(checkpoint: &Checkpoint, placement: &Placement) -> Option<Self> {
        let Placement { device, dtype, options, .. } = placement;
        let images = SharedImages::for_models(checkpoint, *device, *dtype, options)?;
        Some(Self { images, kept: Arc::default() })
    }
}

/// Where and how a checkpoint is to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Placement {
    /// The device.
    pub device: tch::Device,
    /// The number format of weights and activations.
    pub dtype: Dtype,
    /// Memory for features, and sizes of passes.
    pub options: ModelOptions,
    /// Threads to compute with on the CPU; LibTorch's own choice without.
    pub threads: Option<NonZeroUsize>,
}

/// Threads that suit a model of this shape, if LibTorch's own choice does not.
#[must_use]
pub fn threads_for(config: &BlipConfig) -> Option<NonZeroUsize> {
    config.vision.is_small().then_some(NonZeroUsize::MIN)
}

/// Engines for a small model on the CPU: more gain nothing, for everything else that the server does needs CPUs too.
const MOST_ENGINES: usize = 4;

/// Engines that suit a model of this shape on this device, where there are so many CPUs: a small model's batches are
/// shared among engines of one thread each, for there one batch is not shared among threads.
#[must_use]
pub fn engines_for(config: &BlipConfig, device: tch::Device, cpus: NonZeroUsize) -> usize {
    let small = device == tch::Device::Cpu && threads_for(config).is_some();
    if small { cpus.get().min(MOST_ENGINES) } else { 1 }
}

impl BlipEngine {
    /// Loads the checkpoint on the thread that calls it, and loads it anew when the scheduler asks for that. What it makes of
    /// images is `shared` with other engines, or its own.
    #[must_use]
    pub fn factory(
        checkpoint: Arc<Checkpoint>,
        placement: Placement,
        shared: Option<SharedFeatures>,
    ) -> EngineFactory<Self> {
        Box::new(move || {
            let Placement { device, dtype, options, threads } = placement;
            if let Some(threads) = threads {
                // Holds for the thread that sets it, which is the engine's own.
                tch::set_num_threads(i32::try_from(threads.get()).unwrap_or(i32::MAX));
            }
            let shared = shared.clone().or_else(|| SharedFeatures::of(&checkpoint, &placement));
            let (images, kept) = shared.map(|shared| (shared.images, shared.kept)).unzip();
            match Model::load_sharing(&checkpoint, device, dtype, options, images) {
                Ok(model) => Ok(Self { model, kept: kept.unwrap_or_default() }),
                Err(error) => Err(EngineError::new(EngineErrorKind::Fatal, error.to_string())),
            }
        })
    }
}

impl Engine for BlipEngine {
    type Image = Pixels;
    type Question = QuestionRow;
    type Answer = AnswerRow;

    fn run(
        &mut self,
        batch: &Batch<Pixels, QuestionRow>,
        rows: &mut dyn Rows<AnswerRow>,
    ) -> Result<(), EngineError> {
        let images: Vec<ImageInput<'_>> = batch
            .images
            .iter()
            .map(|image| ImageInput { key: image.key.0, pixels: &image.payload })
            .collect();
        let texts: Vec<RowInput<'_>> = batch
            .questions
            .iter()
            .map(|question| {
                let QuestionRow { ids, task, .. } = &*question.payload;
                // A text alone comes with a picture that stands for none.
                let image = (*task != RowTask::EmbedText).then_some(question.image);
                RowInput { image, token_ids: &ids.0, task }
            })
            .collect();
        let pairs = batch.questions.iter().map(|question| &question.payload.trace);
        let trace = BatchTrace::begin(pairs, images.len(), texts.len());
        let image_bytes = self.model.image_bytes();
        let mut sink = Sink { rows, batch, trace: &trace, kept: &self.kept, image_bytes };
        let run = self.model.run(&images, &texts, &mut sink);
        run.map_err(|error| engine_error(&error)).inspect_err(|error| trace.fail(kind_name(error.kind)))
    }
}

/// What a model's error means for the rows of its batch.
fn engine_error(error: &ModelError) -> EngineError {
    let kind = match error {
        ModelError::OutOfMemory { .. } => EngineErrorKind::OutOfMemory,
        ModelError::Fatal(_) => EngineErrorKind::Fatal,
        ModelError::BadBatch(_) | ModelError::Torch(_) => EngineErrorKind::Batch,
    };
    EngineError::new(kind, error.to_string())
}

/// What a kind of error is called in a span.
fn kind_name(kind: EngineErrorKind) -> &'static str {
    match kind {
        EngineErrorKind::Row => "row",
        EngineErrorKind::Batch => "batch",
        EngineErrorKind::OutOfMemory => "out_of_memory",
        EngineErrorKind::Fatal => "fatal",
    }
}

/// The model's rows, handed on as the scheduler's.
struct Sink<'a> {
    rows: &'a mut dyn Rows<AnswerRow>,
    batch: &'a Batch<Pixels, QuestionRow>,
    trace: &'a BatchTrace,
    kept: &'a KeptFeatures,
    image_bytes: usize,
}

impl RowSink for Sink<'_> {
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>) {
        let outcome = outcome
            .map(|answer| AnswerRow { answer, batch: self.trace.context() })
            .map_err(|error| EngineError::new(EngineErrorKind::Row, error.to_string()));
        self.rows.finish(row, outcome);
    }

    fn is_cancelled(&self, row: usize) -> bool {
        self.rows.is_cancelled(row)
    }

    fn token(&mut self, row: usize, index: usize, token: i64) {
        let tokens = self.batch.questions.get(row).and_then(|question| question.payload.tokens.as_ref());
        if let Some(tokens) = tokens {
            // Nobody listens any more: the row is cancelled before the next token.
            let _ = tokens.send((index, token));
        }
    }

    fn decode_steps(&mut self, steps: u32) {
        self.trace.decode_steps(steps);
        self.rows.decode_steps(steps);
    }

    fn image_cached(&mut self, key: &blip::ImageKey, bytes: usize) {
        self.kept.keep(bytes);
        self.rows.image_cached(ImageKey(*key), bytes);
    }

    fn key_values(&mut self, kept: usize, images: usize) {
        self.kept.read_key_values(kept, images);
    }

    fn image_evicted(&mut self, key: &blip::ImageKey) {
        self.kept.evict(self.image_bytes);
        self.rows.image_evicted(ImageKey(*key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_released_models_work_is_shared_among_threads_and_a_small_ones_is_not() {
        assert_eq!(threads_for(&BlipConfig::default()), None);
        let mut small = BlipConfig::default();
        (small.vision.hidden_size, small.vision.image_size) = (128, 64);
        assert_eq!(threads_for(&small), Some(NonZeroUsize::MIN));
    }

    #[test]
    fn a_small_model_on_the_cpu_has_an_engine_for_each_cpu_up_to_four_and_others_have_one() {
        let mut small = BlipConfig::default();
        (small.vision.hidden_size, small.vision.image_size) = (128, 64);
        let engines = |config, device, cpus| engines_for(config, device, NonZeroUsize::new(cpus).unwrap());
        assert_eq!([1, 2, 64].map(|cpus| engines(&small, tch::Device::Cpu, cpus)), [1, 2, 4]);
        assert_eq!(engines(&small, tch::Device::Cuda(0), 64), 1);
        assert_eq!(engines(&BlipConfig::default(), tch::Device::Cpu, 64), 1);
    }

    #[test]
    fn only_a_lost_device_is_fatal() {
        let kind = |error| engine_error(&error).kind;
        assert_eq!(kind(ModelError::Fatal("gone".into())), EngineErrorKind::Fatal);
        assert_eq!(kind(ModelError::Torch("shapes".into())), EngineErrorKind::Batch);
        assert_eq!(kind(ModelError::BadBatch("too many".into())), EngineErrorKind::Batch);
        let out_of_memory = ModelError::OutOfMemory { device: "cuda:0".into(), message: "20 MiB".into() };
        assert_eq!(kind(out_of_memory), EngineErrorKind::OutOfMemory);
    }
}
