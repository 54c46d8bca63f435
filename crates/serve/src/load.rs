//! From settings to a model that answers: device, checkpoint, engine thread, CPU pool.

use std::sync::Arc;

use anyhow::Context as _;
use blip::{Checkpoint, ChosenDevice, Dtype, ModelOptions};
use images::{Decoder, Limits};
use scheduler::Scheduler;

use crate::{
    engine::{BlipEngine, Placement, threads_for},
    fetching::Fetching,
    frontend::Pipeline,
    intake::Intake,
    model_source::{LocalModel, ModelSource},
    settings::{DtypeRequest, Settings},
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
    tracing::info!(?device, reason, %dtype, "device chosen");

    let config = settings.scheduler.config();
    let mut options = ModelOptions::for_device(device);
    // The scheduler counts images that are encoded already as free, so a batch can have one for each question.
    options.max_batch_images = config.batch.max_images.max(config.batch.max_questions);
    options.cuda_graphs = settings.model.cuda_graphs;
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
    let factory = BlipEngine::factory(Arc::new(checkpoint), Placement { device, dtype, options, threads });
    let scheduler = Scheduler::start(config, vec![factory]).await.with_context(cannot_load)?;
    let description = Description {
        model: settings.model.model.clone(),
        revision,
        device: device_name(device),
        dtype: dtype.to_string(),
    };
    Ok((Pipeline { fetching, intake, scheduler }, description))
}

fn device_name(device: tch::Device) -> String {
    match device {
        tch::Device::Cuda(index) => format!("cuda:{index}"),
        tch::Device::Cpu => "cpu".to_owned(),
        other => format!("{other:?}").to_lowercase(),
    }
}
