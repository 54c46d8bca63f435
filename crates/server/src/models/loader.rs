//! Loads a model: chooses the device, opens the checkpoint, and starts the engines.

use std::{num::NonZeroUsize, path::Path, sync::Arc, time::Duration};

use anyhow::Context as _;
use blip::{Architecture, Checkpoint, CheckpointOptions, ChosenDevice, Dtype, LoadOptions};
use images::{Decoder, Limits};
use scheduler::{Scheduler, SchedulerConfig};
use tch::Device;

use crate::{
    cache::answers::AnswerCache,
    config::{DtypeRequest, Settings, sections::scheduler::CUDA_BATCH},
    engine::{
        batch_tuning,
        blip_engine::{BlipEngine, EnginePlacement, SharedFeatures, engines_for, threads_for},
    },
    models::{info::ModelInfo, loaded_model::LoadedModel, source::LocalModel, spec::ModelSpec},
    preprocess::{
        candidate_files::{CandidateTexts, read_lists, tokenize_lists},
        candidates::CandidateLists,
        decoding::image_decoder::ImageDecoder,
        fetch::ImageFetcher,
        pool::CpuPool,
        preparer::Preparer,
    },
};

/// The default of `--max-shared-decode-ms` on a CPU, where the rows of a batch take turns.
const CPU_SHARED_DECODE: Duration = Duration::from_millis(100);

/// Loads models. They share one CPU pool, one image fetcher and the candidate lists.
#[derive(Clone, Debug)]
pub struct ModelLoader {
    settings: Settings,
    fetcher: ImageFetcher,
    pool: CpuPool<ImageDecoder>,
    candidate_lists: Vec<CandidateTexts>,
}

impl ModelLoader {
    /// Creates what all models of a server share.
    ///
    /// `decode_worker` is a program whose subcommand
    /// [`WORKER_COMMAND`](crate::preprocess::decoding::WORKER_COMMAND) runs
    /// [`worker_main::run`](crate::preprocess::decoding::worker_main::run). Without it, the server
    /// decodes images on its threads.
    ///
    /// # Errors
    /// An unreadable candidate file, an invalid option, or a failure to start threads or processes.
    pub fn new(settings: &Settings, decode_worker: Option<&Path>) -> anyhow::Result<Self> {
        let preprocess = &settings.preprocess;
        let (threads, limits) = (preprocess.threads(), decode_limits(settings));
        let decoders = ImageDecoder::for_threads(threads, &settings.decode, &limits, decode_worker)
            .context("cannot start decode workers")?;
        Ok(Self {
            settings: settings.clone(),
            fetcher: ImageFetcher::new(&settings.fetch, &settings.limits)?,
            pool: CpuPool::new(decoders, preprocess.preprocess_queue)
                .context("cannot start preprocessing threads")?,
            candidate_lists: read_lists(&settings.model.candidate_lists)?,
        })
    }

    /// Loads a model and starts its engines. The future may be dropped at any time.
    ///
    /// # Errors
    /// An unavailable device, an invalid checkpoint, or an engine that does not start.
    pub async fn load(self, spec: ModelSpec) -> anyhow::Result<LoadedModel<BlipEngine>> {
        let cannot_load = || format!("cannot load model {:?}", spec.source_text);
        let device = spec.model.device;
        // LibTorch's CUDA library must be loaded before the first call to LibTorch. An invalid
        // device is also reported before a download.
        let opened = tokio::task::spawn_blocking(move || blip::open_device(device)).await;
        let ChosenDevice { device, reason } = opened.context("loading was cancelled")??;
        let LocalModel { files, revision } = spec.source.fetch().await.with_context(cannot_load)?;
        let options =
            CheckpointOptions { conventions: spec.model.conventions, image_size: spec.model.image_size };
        let opened = tokio::task::spawn_blocking(move || Checkpoint::open_with(&files, options)).await;
        let checkpoint = opened.context("loading was cancelled")?.with_context(cannot_load)?;
        let dtype = match spec.model.dtype {
            DtypeRequest::Auto => Dtype::auto(device),
            DtypeRequest::Exactly(dtype) => dtype,
        };
        let (vision_dtype, text_dtype) = (spec.model.vision_dtype, spec.model.text_dtype);
        placement(&spec, device, dtype, &checkpoint)
            .options
            .check(device, dtype)
            .with_context(cannot_load)?;
        tracing::info!(model = &*spec.name, ?device, reason, %dtype, %vision_dtype, %text_dtype, "device chosen");

        let preparer = self.preparer(&spec, &checkpoint).with_context(cannot_load)?;
        let engines = engines(&spec, &checkpoint, device);
        let devices = devices_from(device, engines, available_cuda_devices());
        let engines_on = |device: Device| devices.iter().filter(|other| **other == device).count().max(1);
        if device.is_cuda() {
            tracing::info!(engines, most_on_a_device = engines_on(device), "engines spread over devices");
        }
        let checkpoint = Arc::new(checkpoint);
        let placement = placement(&spec, device, dtype, &checkpoint);
        let shared = SharedFeatures::of(&checkpoint, &placement);
        let factory = |device: Device, shared: Option<SharedFeatures>, engines_on_device: usize| {
            let mut placement = EnginePlacement { device, ..placement };
            if shared.is_none() {
                placement.options.feature_cache_bytes /= engines_on_device;
                placement.options.cross_attention_cache_bytes /= engines_on_device;
            }
            placement.options.separate_cuda_stream = engines_on_device > 1;
            BlipEngine::factory(Arc::clone(&checkpoint), placement, shared)
        };
        let mut config = scheduler_config(&spec, device);
        config.engines_share_features = shared.is_some();
        if let Some(p95) = spec.scheduler.target_p95() {
            // One engine is measured alone. Later the batches of a device's engines share its time.
            let sharing = if device.is_cuda() { engines_on(device) } else { 1 };
            let p95 = p95 / u32::try_from(sharing).unwrap_or(u32::MAX);
            let measured =
                batch_tuning::limits(factory(device, None, 1), &checkpoint, config.batch, p95).await;
            config.batch = measured.with_context(cannot_load)?;
        }
        let engine = |device: &Device| factory(*device, shared.clone(), engines_on(*device));
        let factories = devices.iter().map(engine).collect();
        let scheduler = Scheduler::start(config, factories).await.with_context(cannot_load)?;
        let (device, dtype) = (names_of(devices), dtype.to_string());
        let mut info = ModelInfo::new(spec.name, spec.source_text, revision, &checkpoint, device, dtype);
        info.candidate_lists = preparer.candidate_lists().keys().cloned().collect();
        info.candidate_lists.sort();
        let (info, mut generation) = (Arc::new(info), checkpoint.default_generation());
        let max_beams = self.settings.limits.max_beams;
        if generation.num_beams > max_beams {
            let num_beams = generation.num_beams;
            tracing::warn!(model = &*info.name, num_beams, max_beams, "beams of the model's default lowered");
            generation.num_beams = max_beams;
        }
        Ok(LoadedModel { info, fetcher: self.fetcher, preparer, scheduler, generation })
    }

    /// Creates the preparer of a model.
    fn preparer(&self, spec: &ModelSpec, checkpoint: &Checkpoint) -> anyhow::Result<Preparer> {
        let decoder = Decoder::new(decode_limits(&self.settings));
        let (preprocessor, tokenizer) = (checkpoint.preprocessor().clone(), checkpoint.tokenizer().clone());
        let (pool, settings) = (self.pool.clone(), &self.settings.preprocess);
        let preparer = Preparer::with_pool(pool, decoder, preprocessor, tokenizer, settings)?;
        let answers = AnswerCache::new(spec.model.answer_cache_bytes, &spec.name);
        Ok(preparer.with_candidate_lists(self.lists_for(checkpoint)?).with_answers(answers))
    }

    /// Tokenizes the candidate lists for a model. Only question answering models use them.
    fn lists_for(&self, checkpoint: &Checkpoint) -> anyhow::Result<CandidateLists> {
        match checkpoint.config().architecture() {
            Architecture::QuestionAnswering => tokenize_lists(&self.candidate_lists, checkpoint.tokenizer()),
            Architecture::Captioning | Architecture::Retrieval => Ok(CandidateLists::new()),
        }
    }
}

/// Returns the limits on the images of all models.
fn decode_limits(settings: &Settings) -> Limits {
    let limits = &settings.limits;
    Limits {
        max_bytes: limits.max_image_bytes,
        max_pixels: limits.max_image_pixels,
        max_side: limits.max_image_side_pixels,
        ..Limits::default()
    }
}

/// Returns the number of engines of a model.
fn engines(spec: &ModelSpec, checkpoint: &Checkpoint, device: Device) -> usize {
    let cpus = available_cpus();
    match (spec.model.engines, spec.model.engine_threads) {
        (Some(engines), _) => engines.get(),
        (None, None) => engines_for(checkpoint.config(), device, cpus),
        // The setting is the total number of compute threads.
        (None, Some(_)) => 1,
    }
}

/// Returns the configuration of a model's scheduler. Some defaults depend on the device.
fn scheduler_config(spec: &ModelSpec, device: Device) -> SchedulerConfig {
    let mut config = spec.scheduler_config();
    match device {
        Device::Cuda(_) => config.batch = spec.scheduler.batch_limits(CUDA_BATCH),
        _ if spec.scheduler.max_shared_decode_ms.is_none() => config.max_shared_decode = CPU_SHARED_DECODE,
        _ => {}
    }
    config
}

/// Returns the number of CPUs that this process may use.
fn available_cpus() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}

/// Returns the options of a model's engines, the first of which runs on `device`.
fn placement(spec: &ModelSpec, device: Device, dtype: Dtype, checkpoint: &Checkpoint) -> EnginePlacement {
    let batch = scheduler_config(spec, device).batch;
    let mut options = LoadOptions::for_device(device);
    // Cached images do not count towards the image limit of a batch, so every question can have its
    // image.
    options.max_batch_images = batch.max_images.max(batch.max_questions);
    options.cuda_graphs = spec.model.cuda_graphs;
    options.vision_dtype = spec.model.vision_dtype;
    options.text_dtype = spec.model.text_dtype;
    options.cpu_kernels = spec.model.cpu_kernels;
    options.cuda_kernels = spec.model.cuda_kernels;
    options.cuda_gelu = spec.model.cuda_gelu;
    options.feature_cache_bytes = spec.model.feature_cache_bytes.unwrap_or(options.feature_cache_bytes);
    options.cross_attention_cache_bytes =
        spec.model.cross_attention_cache_bytes.unwrap_or(options.cross_attention_cache_bytes);
    let threads = spec.model.engine_threads.or_else(|| threads_for(checkpoint.config(), device));
    EnginePlacement { device, dtype, options, threads: threads.unwrap_or_else(available_cpus) }
}

/// Returns the number of CUDA devices that LibTorch finds.
fn available_cuda_devices() -> usize {
    usize::try_from(tch::Cuda::device_count()).unwrap_or_default()
}

/// Returns the device of each engine: the CPU for all, or the CUDA devices of this machine from
/// `first` on.
///
/// If there are more engines than devices, several engines share a device, most on the first one.
fn devices_from(first: Device, engines: usize, available: usize) -> Vec<Device> {
    let Device::Cuda(index) = first else { return vec![first; engines] };
    let devices = available.saturating_sub(index).clamp(1, engines.max(1));
    (0..engines).map(|engine| Device::Cuda(index + engine * devices / engines)).collect()
}

/// Joins the names of devices, each once.
fn names_of(mut devices: Vec<Device>) -> String {
    devices.dedup();
    devices.into_iter().map(device_name).collect::<Vec<_>>().join(",")
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(index) => format!("cuda:{index}"),
        Device::Cpu => "cpu".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU64;

    use super::*;

    fn settings() -> Settings {
        let mut settings = Settings::default();
        settings.model.models = vec!["../../models/demo".parse().unwrap()];
        settings
    }

    #[test]
    fn batch_limits_default_by_device_and_obey_settings() {
        let mut settings = settings();
        let limits = |settings: &Settings, device| {
            let spec = ModelSpec::all(settings).unwrap().remove(0);
            let batch = scheduler_config(&spec, device).batch;
            (batch.max_images, batch.max_questions, batch.max_padded_tokens)
        };
        assert_eq!(limits(&settings, Device::Cpu), (16, 64, 2048));
        assert_eq!(limits(&settings, Device::Cuda(1)), (128, 768, 30_720));
        settings.scheduler.max_batch_images = Some(5);
        assert_eq!(limits(&settings, Device::Cpu), (5, 64, 2048));
        assert_eq!(limits(&settings, Device::Cuda(0)), (5, 768, 30_720));
        settings.scheduler.max_batch_questions = Some(7);
        assert_eq!(limits(&settings, Device::Cuda(0)), (5, 7, 30_720));
    }

    #[test]
    fn shared_decode_defaults_by_device() {
        let mut settings = settings();
        let milliseconds = |settings: &Settings, device| {
            let spec = ModelSpec::all(settings).unwrap().remove(0);
            scheduler_config(&spec, device).max_shared_decode.as_millis()
        };
        assert_eq!([Device::Cpu, Device::Cuda(0)].map(|device| milliseconds(&settings, device)), [100, 500]);
        settings.scheduler.max_shared_decode_ms = Some(NonZeroU64::MIN);
        assert_eq!([Device::Cpu, Device::Cuda(0)].map(|device| milliseconds(&settings, device)), [1, 1]);
    }

    #[test]
    fn engines_share_the_cpu_and_are_spread_over_cuda_devices() {
        assert_eq!(names_of(devices_from(Device::Cpu, 3, 0)), "cpu");
        let indices = |first, engines, available| -> Vec<usize> {
            let devices = devices_from(Device::Cuda(first), engines, available);
            devices
                .iter()
                .filter_map(|device| if let Device::Cuda(index) = device { Some(*index) } else { None })
                .collect()
        };
        assert_eq!(indices(0, 1, 8), [0]);
        assert_eq!(indices(1, 2, 4), [1, 2]);
        assert_eq!(indices(0, 2, 1), [0, 0]);
        assert_eq!(indices(0, 3, 2), [0, 0, 1]);
        assert_eq!(indices(2, 5, 4), [2, 2, 2, 3, 3]);
        assert_eq!(names_of(devices_from(Device::Cuda(2), 5, 4)), "cuda:2,cuda:3");
    }
}
