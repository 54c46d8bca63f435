//! From settings to a model that answers: device, checkpoint, engine thread, CPU pool.

use std::{num::NonZeroUsize, sync::Arc};

use anyhow::Context as _;
use blip::{Checkpoint, ChosenDevice, Dtype, Generation, ModelOptions};
use images::{Decoder, Limits};
use scheduler::Scheduler;
use tch::Device;

use crate::{
    engine::{BlipEngine, Placement, engines_for, threads_for},
    fetching::Fetching,
    frontend::Pipeline,
    intake::Intake,
    model_source::{LocalModel, ModelSource},
    settings::{DtypeRequest, Settings},
    slo,
};

/// What was loaded, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Description {
    /// The `--model` asked for.
    pub model: String,
    /// The commit on the hub, if the model comes from there.
    pub revision: Option<String>,
    /// The device in use.
    pub device: String,
    /// The number format in use.
    pub dtype: String,
}

/// Loads the model that `settings` ask for and starts what it needs to answer.
///
/// # Errors
/// What is wrong with the device, the model's files or the machine, in one line.
pub async fn load(settings: &Settings) -> anyhow::Result<(Pipeline<BlipEngine>, Description)> {
    let cannot_load = || format!("cannot load model {:?}", settings.model.model);
    let source = ModelSource::find(&settings.model.model).with_context(cannot_load)?;
    let wanted = settings.model.device;
    // LibTorch's CUDA half has to be there before LibTorch's first call; and a wrong device is told before a download.
    let opened = tokio::task::spawn_blocking(move || blip::open_device(wanted)).await;
    let ChosenDevice { device, reason } = opened.context("loading ended early")??;
    let LocalModel { files, revision } = source.fetch().await.with_context(cannot_load)?;
    let opened = tokio::task::spawn_blocking(move || Checkpoint::open(&files)).await;
    let checkpoint = opened.context("loading ended early")?.with_context(cannot_load)?;
    let dtype = match settings.model.dtype {
        DtypeRequest::Auto => Dtype::auto(device),
        DtypeRequest::Exactly(dtype) => dtype,
    };
    settings.model.vision_dtype.check(device, dtype)?;
    tracing::info!(?device, reason, %dtype, vision_dtype = %settings.model.vision_dtype, "device chosen");

    let mut config = settings.scheduler.config();
    let mut options = ModelOptions::for_device(device);
    // The scheduler counts images that are encoded already as free, so a batch can have one for each question.
    options.max_batch_images = config.batch.max_images.max(config.batch.max_questions);
    options.cuda_graphs = settings.model.cuda_graphs;
    options.vision_dtype = settings.model.vision_dtype;
    options.feature_cache_bytes = settings.model.feature_cache_bytes.unwrap_or(options.feature_cache_bytes);
    let limits = &settings.limits;
    let decoder = Decoder::new(Limits {
        max_bytes: limits.max_image_bytes,
        max_pixels: limits.max_image_pixels,
        ..Limits::default()
    });
    let (preprocessor, tokenizer) = (checkpoint.preprocessor().clone(), checkpoint.tokenizer().clone());
    let intake = Intake::new(decoder, preprocessor, tokenizer, &settings.preprocess)
        .context("cannot start preprocessing threads")?;
    let fetching = Fetching::new(&settings.fetch, limits)?;
    let threads = settings.model.engine_threads.or_else(|| threads_for(checkpoint.config()));
    let model = &settings.model;
    let cpus = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
    let engines = match (model.engines, model.engine_threads) {
        (Some(engines), _) => engines.get(),
        (None, None) => engines_for(checkpoint.config(), device, cpus),
        // Whoever counts threads means all that compute.
        (None, Some(_)) => 1,
    };
    if device == Device::Cpu {
        options.feature_cache_bytes /= engines;
    }
    let devices = devices_from(device, engines)?;
    let architecture = checkpoint.config().architecture();
    let checkpoint = Arc::new(checkpoint);
    let factory = |device: &Device| {
        BlipEngine::factory(Arc::clone(&checkpoint), Placement { device: *device, dtype, options, threads })
    };
    if let Some(p95) = settings.scheduler.slo_p95() {
        config.batch = slo::limits(factory(&device), &checkpoint, config.batch, p95).await?;
    }
    let factories = devices.iter().map(factory).collect();
    let scheduler = Scheduler::start(config, factories).await.with_context(cannot_load)?;
    let description = Description {
        model: settings.model.model.clone(),
        revision,
        device: names_of(devices),
        dtype: dtype.to_string(),
    };
    Ok((Pipeline { fetching, intake, scheduler, architecture, generation: Generation::GREEDY }, description))
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
