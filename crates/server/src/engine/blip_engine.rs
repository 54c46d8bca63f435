//! Implements the scheduler's `Engine` trait on `blip::Model`.

use std::{num::NonZeroUsize, sync::Arc};

use blip::{
    BlipConfig, Checkpoint, Dtype, ImageInput, LoadOptions, Model, ModelError, Pixels, RowAnswer, RowError,
    RowInput, RowSink, RowTask, SharedImageCache,
};

use scheduler::{Batch, Engine, EngineError, EngineErrorKind, EngineFactory};

use crate::{
    cache::metrics::FeatureCacheMetrics,
    engine::{
        payload::{EngineInput, EngineOutput},
        trace::BatchTrace,
    },
};

/// A model on one device. It lives on the engine thread that loaded it.
#[derive(Debug)]
pub struct BlipEngine {
    model: Model,
    metrics: Arc<FeatureCacheMetrics>,
}

/// The image cache that all engines of one model share.
#[derive(Clone, Debug)]
pub struct SharedFeatures {
    images: SharedImageCache,
    metrics: Arc<FeatureCacheMetrics>,
}

impl SharedFeatures {
    /// Creates the cache for engines of `checkpoint` with `placement`.
    ///
    /// Returns `None` if each engine has a separate cache.
    #[must_use]
    pub fn of(checkpoint: &Checkpoint, placement: &EnginePlacement) -> Option<Self> {
        let EnginePlacement { device, dtype, options, .. } = placement;
        let images = SharedImageCache::for_models(checkpoint, *device, *dtype, options)?;
        Some(Self { images, metrics: Arc::default() })
    }
}

/// The device and the options of an engine.
#[derive(Clone, Copy, Debug)]
pub struct EnginePlacement {
    /// The device.
    pub device: tch::Device,
    /// The number format of weights and activations.
    pub dtype: Dtype,
    /// Cache sizes, batch limits and kernels.
    pub options: LoadOptions,
    /// Compute threads on the CPU.
    pub threads: NonZeroUsize,
}

/// Returns the best number of threads for a model of this shape, or `None` for one on each CPU.
///
/// An engine on CUDA computes nothing on the CPU. A thread team would only delay it, because it
/// waits for threads that other work has displaced.
#[must_use]
pub fn threads_for(config: &BlipConfig, device: tch::Device) -> Option<NonZeroUsize> {
    (device.is_cuda() || config.vision.is_small()).then_some(NonZeroUsize::MIN)
}

/// The maximum default number of engines on the CPU. The rest of the server needs CPUs, too.
const MAX_DEFAULT_ENGINES: usize = 4;

/// Returns the default number of engines for a model of this shape.
///
/// A small model on the CPU has several engines of one thread each, because more threads do not
/// make its batches faster. Every other model has one engine.
#[must_use]
pub fn engines_for(config: &BlipConfig, device: tch::Device, cpus: NonZeroUsize) -> usize {
    let small = device == tch::Device::Cpu && threads_for(config, device).is_some();
    if small { cpus.get().min(MAX_DEFAULT_ENGINES) } else { 1 }
}

impl BlipEngine {
    /// Returns a factory that loads the checkpoint on the calling thread.
    ///
    /// The scheduler calls it again to replace a failed engine. The engines share the image cache
    /// `shared`, or have separate ones.
    #[must_use]
    pub fn factory(
        checkpoint: Arc<Checkpoint>,
        placement: EnginePlacement,
        shared: Option<SharedFeatures>,
    ) -> EngineFactory<Self> {
        Box::new(move || {
            let EnginePlacement { device, dtype, options, threads } = placement;
            // The first use of LibTorch in a thread takes the number that any thread has set last.
            // So each engine sets its own, and the model gets it as an option.
            tch::set_num_threads(i32::try_from(threads.get()).unwrap_or(i32::MAX));
            let options = LoadOptions { threads: Some(threads), ..options };
            let shared = shared.clone().or_else(|| SharedFeatures::of(&checkpoint, &placement));
            let (images, metrics) = shared.map(|shared| (shared.images, shared.metrics)).unzip();
            match Model::load_sharing(&checkpoint, device, dtype, options, images) {
                Ok(model) => Ok(Self { model, metrics: metrics.unwrap_or_default() }),
                Err(error) => Err(EngineError::new(EngineErrorKind::Fatal, error.to_string())),
            }
        })
    }
}

impl Engine for BlipEngine {
    type Image = Pixels;
    type Question = EngineInput;
    type Answer = EngineOutput;

    fn run(
        &mut self,
        batch: &Batch<Pixels, EngineInput>,
        rows: &mut dyn scheduler::RowSink<EngineOutput>,
    ) -> Result<(), EngineError> {
        let images: Vec<ImageInput<'_>> = batch
            .images
            .iter()
            .map(|image| ImageInput { digest: image.digest, pixels: &image.payload })
            .collect();
        let texts: Vec<RowInput<'_>> = batch
            .questions
            .iter()
            .map(|question| {
                let EngineInput { ids, task, .. } = &*question.payload;
                // The job of a text without an image has a placeholder image.
                let image = (*task != RowTask::EmbedText).then_some(question.image);
                RowInput { image, token_ids: &ids.0, task }
            })
            .collect();
        let items = batch.questions.iter().map(|question| &question.payload.trace);
        let trace = BatchTrace::begin(items, images.len(), texts.len());
        let image_bytes = self.model.image_bytes();
        let mut sink = Sink { rows, batch, trace: &trace, metrics: &self.metrics, image_bytes };
        let run = self.model.run(&images, &texts, &mut sink);
        run.map_err(|error| engine_error(&error)).inspect_err(|error| trace.fail(kind_name(error.kind)))
    }
}

/// Converts an error of the model to the scheduler's error, which says how many rows it affects.
fn engine_error(error: &ModelError) -> EngineError {
    let kind = match error {
        ModelError::OutOfMemory { .. } => EngineErrorKind::OutOfMemory,
        ModelError::Fatal(_) => EngineErrorKind::Fatal,
        ModelError::BadBatch(_) | ModelError::Torch(_) => EngineErrorKind::Batch,
    };
    EngineError::new(kind, error.to_string())
}

/// Returns the name of an error kind in spans.
fn kind_name(kind: EngineErrorKind) -> &'static str {
    match kind {
        EngineErrorKind::Row => "row",
        EngineErrorKind::Batch => "batch",
        EngineErrorKind::OutOfMemory => "out_of_memory",
        EngineErrorKind::Fatal => "fatal",
    }
}

/// Passes the model's row results to the scheduler.
struct Sink<'a> {
    rows: &'a mut dyn scheduler::RowSink<EngineOutput>,
    batch: &'a Batch<Pixels, EngineInput>,
    trace: &'a BatchTrace,
    metrics: &'a FeatureCacheMetrics,
    image_bytes: usize,
}

impl RowSink for Sink<'_> {
    fn finish(&mut self, row: usize, outcome: Result<RowAnswer, RowError>) {
        let outcome = outcome
            .map(|answer| EngineOutput { answer, batch: self.trace.context() })
            .map_err(|error| EngineError::new(EngineErrorKind::Row, error.to_string()));
        self.rows.finish(row, outcome);
    }

    fn is_cancelled(&self, row: usize) -> bool {
        self.rows.is_cancelled(row)
    }

    fn token(&mut self, row: usize, index: usize, token: i64) {
        let tokens = self.batch.questions.get(row).and_then(|question| question.payload.tokens.as_ref());
        if let Some(tokens) = tokens {
            // If the receiver is gone, the row is cancelled before the next token.
            let _ = tokens.send((index, token));
        }
    }

    fn decode_steps(&mut self, steps: u32) {
        self.trace.decode_steps(steps);
        self.rows.decode_steps(steps);
    }

    fn image_cached(&mut self, digest: &blip::ImageDigest, bytes: usize) {
        self.metrics.record_insert(bytes);
        self.rows.image_cached(*digest, bytes);
    }

    fn key_values(&mut self, cached: usize, images: usize) {
        self.metrics.record_key_values(cached, images);
    }

    fn image_evicted(&mut self, digest: &blip::ImageDigest) {
        self.metrics.record_eviction(self.image_bytes);
        self.rows.image_evicted(*digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_models_and_cuda_engines_use_one_thread() {
        let (large, mut small) = (BlipConfig::default(), BlipConfig::default());
        (small.vision.hidden_size, small.vision.image_size) = (128, 64);
        assert_eq!(threads_for(&large, tch::Device::Cpu), None);
        assert_eq!(threads_for(&small, tch::Device::Cpu), Some(NonZeroUsize::MIN));
        assert_eq!(threads_for(&large, tch::Device::Cuda(0)), Some(NonZeroUsize::MIN));
    }

    #[test]
    fn small_cpu_model_has_one_engine_per_cpu_up_to_four() {
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
