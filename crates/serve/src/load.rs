//! From settings to a model that answers: device, checkpoint, engine thread, CPU pool.

use std::{num::NonZeroUsize, sync::Arc};

use anyhow::Context as _;
use blip::{Architecture, Checkpoint, CheckpointOptions, ChosenDevice, Dtype, ModelOptions};
use images::{CpuPool, Decoder, Limits};
use scheduler::Scheduler;
use tch::Device;

use crate::{
    answer_cache::AnswerCache,
    candidate_lists::{CandidateTexts, read_lists, tokenize_lists},
    candidates::CandidateLists,
    description::Description,
    engine::{BlipEngine, Placement, SharedFeatures, engines_for, threads_for},
    fetching::Fetching,
    frontend::Pipeline,
    intake::Intake,
    model_plan::ModelPlan,
    model_source::LocalModel,
    settings::{DtypeRequest, Settings},
    slo,
};

/// Loads models; what they share is made once.
#[derive(Clone, Debug)]
pub struct ModelLoader {
    settings: Settings,
    fetching: Fetching,
    pool: CpuPool,
    candidate_lists: Vec<CandidateTexts>,
}

impl ModelLoader {
    /// What all models of a server share, as `settings` say.
    ///
    /// # Errors
    /// What is wrong with the files that they name, or with the machine, in one line.
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let preprocess = &settings.preprocess;
        Ok(Self {
            settings: settings.clone(),
            fetching: Fetching::new(&settings.fetch, &settings.limits)?,
            pool: CpuPool::new(preprocess.threads().get(), preprocess.preprocess_queue)
                .context("cannot start preprocessing threads")?,
            candidate_lists: read_lists(&settings.model.candidate_lists)?,
        })
    }

    /// Loads a model and starts what it needs to answer. May be dropped at any time.
    ///
    /// # Errors
    /// What is wrong with the device, the model's files or the machine, in one line.
    pub async fn load(self, wanted: ModelPlan) -> anyhow::Result<Pipeline<BlipEngine>> {
        let cannot_load = || format!("cannot load model {:?}", wanted.written);
        let device = wanted.model.device;
        // LibTorch's CUDA half has to be there before LibTorch's first call; and a wrong device is told before a download.
        let opened = tokio::task::spawn_blocking(move || blip::open_device(device)).await;
        let ChosenDevice { device, reason } = opened.context("loading ended early")??;
        let LocalModel { files, revision } = wanted.source.fetch().await.with_context(cannot_load)?;
        let options =
            CheckpointOptions { flavour: wanted.model.flavour, image_size: wanted.model.image_size };
        let opened = tokio::task::spawn_blocking(move || Checkpoint::open_with(&files, options)).await;
        let checkpoint = opened.context("loading ended early")?.with_context(cannot_load)?;
        let dtype = match wanted.model.dtype {
            DtypeRequest::Auto => Dtype::auto(device),
            DtypeRequest::Exactly(dtype) => dtype,
        };
        let vision_dtype = wanted.model.vision_dtype;
        vision_dtype.check(device, dtype).with_context(cannot_load)?;
        wanted.model.cpu_kernels.check(device, dtype).with_context(cannot_load)?;
        wanted.model.cuda_kernels.check(device, dtype).with_context(cannot_load)?;
        tracing::info!(model = &*wanted.name, ?device, reason, %dtype, %vision_dtype, "device chosen");

        let intake = self.intake(&wanted, &checkpoint).with_context(cannot_load)?;
        let engines = engines(&wanted, &checkpoint, device);
        let devices = devices_from(device, engines)?;
        let checkpoint = Arc::new(checkpoint);
        let mut placement = placement(&wanted, device, dtype, &checkpoint);
        let shared = SharedFeatures::of(&checkpoint, &placement);
        if device == Device::Cpu && shared.is_none() {
            placement.options.feature_cache_bytes /= engines;
            placement.options.key_value_cache_bytes /= engines;
        }
        let factory = |device: &Device, shared| {
            BlipEngine::factory(Arc::clone(&checkpoint), Placement { device: *device, ..placement }, shared)
        };
        let mut config = wanted.scheduler_config();
        config.engines_share_features = shared.is_some();
        if let Some(p95) = wanted.scheduler.slo_p95() {
            let measured = slo::limits(factory(&device, None), &checkpoint, config.batch, p95).await;
            config.batch = measured.with_context(cannot_load)?;
        }
        let factories = devices.iter().map(|device| factory(device, shared.clone())).collect();
        let scheduler = Scheduler::start(config, factories).await.with_context(cannot_load)?;
        let (device, dtype) = (names_of(devices), dtype.to_string());
        let description = Description::new(wanted.name, wanted.written, revision, &checkpoint, device, dtype);
        let (description, generation) = (Arc::new(description), checkpoint.default_generation());
        Ok(Pipeline { description, fetching: self.fetching, intake, scheduler, generation })
    }

    /// The way in to a model.
    fn intake(&self, wanted: &ModelPlan, checkpoint: &Checkpoint) -> anyhow::Result<Intake> {
        let limits = &self.settings.limits;
        let decoder = Decoder::new(Limits {
            max_bytes: limits.max_image_bytes,
            max_pixels: limits.max_image_pixels,
            ..Limits::default()
        });
        let (preprocessor, tokenizer) = (checkpoint.preprocessor().clone(), checkpoint.tokenizer().clone());
        let (pool, settings) = (self.pool.clone(), &self.settings.preprocess);
        let intake = Intake::on(pool, decoder, preprocessor, tokenizer, settings)?;
        let answers = AnswerCache::new(wanted.model.answer_cache_bytes, &wanted.name);
        Ok(intake.with_candidate_lists(self.lists_for(checkpoint)?).with_answers(answers))
    }

    /// The lists of candidates that a model's questions may name: none if it answers no questions.
    fn lists_for(&self, checkpoint: &Checkpoint) -> anyhow::Result<CandidateLists> {
        match checkpoint.config().architecture() {
            Architecture::QuestionAnswering => tokenize_lists(&self.candidate_lists, checkpoint.tokenizer()),
            Architecture::Captioning | Architecture::Retrieval => Ok(CandidateLists::new()),
        }
    }
}

/// Engines that a model is to have.
fn engines(wanted: &ModelPlan, checkpoint: &Checkpoint, device: Device) -> usize {
    let cpus = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    match (wanted.model.engines, wanted.model.engine_threads) {
        (Some(engines), _) => engines.get(),
        (None, None) => engines_for(checkpoint.config(), device, cpus),
        // Whoever counts threads means all that compute.
        (None, Some(_)) => 1,
    }
}

/// Where and how each of a model's engines runs, the first of them on `device`.
fn placement(wanted: &ModelPlan, device: Device, dtype: Dtype, checkpoint: &Checkpoint) -> Placement {
    let batch = wanted.scheduler_config().batch;
    let mut options = ModelOptions::for_device(device);
    // The scheduler counts images that are encoded already as free, so a batch can have one for each question.
    options.max_batch_images = batch.max_images.max(batch.max_questions);
    options.cuda_graphs = wanted.model.cuda_graphs;
    options.vision_dtype = wanted.model.vision_dtype;
    options.cpu_kernels = wanted.model.cpu_kernels;
    options.cuda_kernels = wanted.model.cuda_kernels;
    options.feature_cache_bytes = wanted.model.feature_cache_bytes.unwrap_or(options.feature_cache_bytes);
    options.key_value_cache_bytes =
        wanted.model.key_value_cache_bytes.unwrap_or(options.key_value_cache_bytes);
    let threads = wanted.model.engine_threads.or_else(|| threads_for(checkpoint.config()));
    Placement { device, dtype, options, threads }
}

/// Where so many engines run: on one CUDA device each, from `first` on, or all on the CPU.
fn devices_from(first: Device, engines: usize) -> anyhow::Result<Vec<Device>> {
    let Device::Cuda(index) = first else { return Ok(vec![first; engines]) };
    let count = usize::try_from(tch::Cuda::device_count()).unwrap_or_default();
    anyhow::ensure!(
        index + engines <= count,
        "engines is {engines}: from cuda:{index} on there are {} devices",
        count.saturating_sub(index)
    );
    Ok((index..index + engines).map(Device::Cuda).collect())
}

/// The names of devices, each once.
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
    use super::*;

    #[test]
    fn engines_on_the_cpu_share_it_and_cuda_devices_that_are_not_there_are_refused() {
        assert_eq!(names_of(devices_from(Device::Cpu, 3).unwrap()), "cpu");
        assert_eq!(names_of(vec![Device::Cuda(1), Device::Cuda(2)]), "cuda:1,cuda:2");
        let message = devices_from(Device::Cuda(90), 2).unwrap_err().to_string();
        assert_eq!(message, "engines is 2: from cuda:90 on there are 0 devices");
    }
}
