//! A loaded model: it runs a batch of images and rows and reports each row's result.

use std::{num::NonZeroUsize, sync::Arc};

use cpu_kernels::NumberFormat;
use cuda::CudaStreams;
use tch::Device;

use crate::{
    batch::{
        layout::{BatchLayout, KvSource},
        rows::{ImageInput, RowError, RowInput, RowSink},
        task::RowTask,
    },
    cache::{cross_attention::CrossAttentionCache, features::FeatureCache, shared::SharedImageCache},
    checkpoint::{
        Checkpoint,
        config::{Architecture, BlipConfig},
    },
    cpu::vision_encoder::CpuVisionEncoder,
    cuda_graphs::CudaGraphs,
    device::{
        kernel_backend::CudaKernels,
        stage_timer::{BatchStage, StageTimer, TimerBackend},
        torch_panics::return_torch_panics,
    },
    dtype::{Dtype, PartDtype},
    encode::{encoded_batch::EncodedBatch, image_cache::ImageCache, image_encoder::ImageEncoder},
    error::{LoadError, ModelError},
    generation::stopping_criteria::StoppingCriteria,
    heads::{captioning::Captioning, question_answering::QuestionAnswering, retrieval::Retrieval},
    layers::{fused_kernels::FusedKernels, weight_path::WeightPath},
    options::LoadOptions,
    parallel::{ParallelKernels, torch_threads::SingleTorchThread},
    vision::encoder::VisionEncoder,
};

/// A BLIP model on one device. It stays on the thread that loaded it.
#[derive(Debug)]
pub struct Model {
    pub(crate) encoder: ImageEncoder,
    pub(crate) head: Head,
    pub(crate) image_cache: ImageCache,
    pub(crate) config: BlipConfig,
    pub(crate) stopping: StoppingCriteria,
    pub(crate) graphs: CudaGraphs,
    timer_backend: TimerBackend,
    options: LoadOptions,
    /// LibTorch's threads between batches, if native kernels compute nearly all of a batch.
    /// LibTorch then needs one thread meanwhile.
    torch_threads: Option<usize>,
    pub(crate) device: Device,
    dtype: Dtype,
}

/// The part of an architecture that computes on image features.
#[derive(Debug)]
pub(crate) enum Head {
    QuestionAnswering(Box<QuestionAnswering>),
    Captioning(Box<Captioning>),
    Retrieval(Box<Retrieval>),
}

impl Model {
    /// Loads a checkpoint's weights to `device`.
    ///
    /// # Errors
    /// [`LoadError`] names a tensor that is missing or has a wrong shape, with both shapes.
    /// Otherwise it has LibTorch's message.
    pub fn load(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: Dtype,
        options: LoadOptions,
    ) -> Result<Self, LoadError> {
        Self::load_sharing(checkpoint, device, dtype, options, None)
    }

    /// Loads a model like [`Self::load`], with an image cache that several models share.
    ///
    /// `images` is the result of [`SharedImageCache::for_models`] for the same options. The models
    /// run on separate threads. An image that one of them has encoded is not encoded again.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_sharing(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: Dtype,
        options: LoadOptions,
        images: Option<SharedImageCache>,
    ) -> Result<Self, LoadError> {
        options.check(device, dtype)?;
        return_torch_panics(|| Self::load_checked(checkpoint, device, dtype, options, images))
    }

    /// Loads a model like [`Self::load_sharing`], with options that were checked.
    fn load_checked(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: Dtype,
        options: LoadOptions,
        images: Option<SharedImageCache>,
    ) -> Result<Self, LoadError> {
        let _no_grad = tch::no_grad_guard();
        if let (Device::Cuda(index), true) = (device, options.separate_cuda_stream) {
            let stream = CudaStreams::open().and_then(|streams| streams.use_engine_stream(index));
            if let Err(error) = stream {
                tracing::warn!(%error, "default stream used; batches of engines on one device do not overlap");
            }
        }
        let (config, requested) = (checkpoint.config(), dtype);
        let (dtype, parts) = options.number_formats(device, dtype);
        let kind = dtype.kind();
        let fused_kernels = FusedKernels::load(options.cuda_kernels, config, device, dtype, parts.vision);
        let cuda_kernels = if fused_kernels.is_some() { CudaKernels::Native } else { CudaKernels::LibTorch };
        let options =
            LoadOptions { cuda_kernels, vision_dtype: parts.vision, text_dtype: parts.text, ..options };
        if [parts.vision, parts.text].contains(&PartDtype::Bf16) && !NumberFormat::Bf16.has_products() {
            tracing::warn!("the processor has no products in bf16: only weights are in bf16");
        }
        let kernels = parallel_kernels(device, dtype, options)?;
        let torch_threads = kernels.as_ref().map(|kernels| kernels.workers.threads());
        let root = WeightPath::root(checkpoint.weights(), device, kind)
            .with_fused_kernels(fused_kernels.as_ref())
            .with_kernels(kernels.as_ref())
            .with_cuda_gelu(options.cuda_gelu);
        let encoder = load_image_encoder(checkpoint, &root, device, dtype, options)?;
        let head = match config.architecture() {
            Architecture::QuestionAnswering => {
                let head = QuestionAnswering::load(checkpoint, &root, device, kind)?;
                Head::QuestionAnswering(Box::new(head))
            }
            Architecture::Captioning => {
                Head::Captioning(Box::new(Captioning::load(checkpoint, &root, device)?))
            }
            Architecture::Retrieval => {
                Head::Retrieval(Box::new(Retrieval::load(checkpoint, &root, device, kind)?))
            }
        };

        let images = images.or_else(|| SharedImageCache::for_models(checkpoint, device, dtype, &options));
        let image_cache = match images {
            Some(images) => ImageCache::Shared(images),
            None => {
                let (tokens, hidden) = (config.vision.tokens(), config.vision.hidden_size);
                let slots = options.feature_slots(config, kind.elt_size_in_bytes()).get() as i64;
                let key_values = match &head {
                    Head::QuestionAnswering(head) => {
                        head.cross_attention_cache(options.cross_attention_cache_bytes, tokens, device, kind)?
                    }
                    Head::Captioning(_) | Head::Retrieval(_) => CrossAttentionCache::none()?,
                };
                let features = FeatureCache::new(slots, tokens, hidden, device, kind)?;
                ImageCache::Exclusive(Box::new((features, key_values)))
            }
        };
        let limit = config.text.max_position_embeddings;
        let max_new_tokens =
            options.max_new_tokens.unwrap_or(checkpoint.generation().max_new_tokens).clamp(1, limit);
        let stopping = StoppingCriteria {
            start_token: config.text.bos_token_id,
            stop_token: config.text.sep_token_id,
            max_new_tokens,
            max_positions: limit,
        };
        let mut model = Self {
            encoder,
            head,
            image_cache,
            config: config.clone(),
            stopping,
            graphs: CudaGraphs::new(device, kind, options.cuda_graphs),
            timer_backend: TimerBackend::new(device),
            options,
            torch_threads,
            device,
            dtype: requested,
        };
        if device.is_cuda() {
            model.prepare().map_err(|error| LoadError::Device(error.to_string()))?;
        }
        Ok(model)
    }

    /// Compiles and captures what batches need, so that no batch waits for it.
    fn prepare(&mut self) -> Result<(), ModelError> {
        let side = self.config.vision.image_size;
        self.encoder.prepare(side)?;
        // After a lack of memory no graph is captured. The graphs of texts save most.
        if let Head::QuestionAnswering(head) = &self.head {
            head.prepare(self.stopping, &self.config, &mut self.graphs);
        }
        self.encoder.capture(side, &mut self.graphs);
        self.graphs.finish_captures();
        Ok(())
    }

    /// Returns the device that holds the model.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Returns the number format with which the model was loaded.
    pub fn dtype(&self) -> Dtype {
        self.dtype
    }

    /// Returns the CUDA kernels in use, native or LibTorch's.
    pub fn cuda_kernels(&self) -> CudaKernels {
        self.options.cuda_kernels
    }

    /// Returns whether CUDA graphs are on and some are missing, because a capture failed.
    pub fn lacks_cuda_graphs(&self) -> bool {
        self.graphs.are_incomplete()
    }

    /// Returns the configuration: shapes, image size and task.
    pub fn config(&self) -> &BlipConfig {
        &self.config
    }

    /// Returns the size of one image's features in the cache, in bytes.
    pub fn image_bytes(&self) -> usize {
        self.image_cache.image_bytes()
    }

    /// Returns the number of images whose features are cached.
    pub fn images_cached(&self) -> usize {
        self.image_cache.len()
    }

    /// Computes `rows` on `images`. Each row goes to `sink` as soon as it is complete.
    ///
    /// Cancelled rows are skipped and not reported. A row's result depends only on its image, text
    /// and task, in any batch composition.
    ///
    /// # Errors
    /// [`ModelError`] if the whole batch failed. Rows reported before the failure stay valid.
    pub fn run(
        &mut self,
        images: &[ImageInput<'_>],
        rows: &[RowInput<'_>],
        sink: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        self.check(images, rows)?;
        return_torch_panics(|| self.run_checked(images, rows, sink))
    }

    /// Runs [`Self::run`] for a batch within the limits.
    fn run_checked(
        &mut self,
        images: &[ImageInput<'_>],
        rows: &[RowInput<'_>],
        sink: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        let _no_grad = tch::no_grad_guard();
        let _single = self.torch_threads.map(SingleTorchThread::begin);
        let architecture = self.config.architecture();
        let (mut rows_with_image, mut texts_without_image) = (Vec::new(), Vec::new());
        for (row, input) in rows.iter().enumerate() {
            if sink.is_cancelled(row) {
                continue;
            }
            if !architecture.supports(input.task) {
                sink.finish(row, Err(RowError::Unsupported { task: input.task.name() }));
            } else if input.image.is_some() {
                rows_with_image.push(row);
            } else {
                texts_without_image.push(row);
            }
        }
        if rows_with_image.is_empty() && texts_without_image.is_empty() {
            return Ok(());
        }
        let image_of_row: Vec<usize> = rows.iter().map(|row| row.image.unwrap_or(0)).collect();
        let longest =
            rows_with_image.iter().filter_map(|&row| rows.get(row)).map(|row| row.token_ids.len()).max();
        let mut batch_images = self.image_cache.batch();
        let layout = BatchLayout::with_sources(&image_of_row, rows_with_image, |counts| {
            // On LibTorch every question is padded to the longest one. Native kernels add no
            // padding, so for them this is an upper bound.
            let questions = counts.iter().map(|(_, questions)| questions).sum();
            if self.graphs.encodes_texts([questions, counts.len(), longest.unwrap_or(0)]) {
                return vec![KvSource::Compute; counts.len()];
            }
            let queries = counts.iter().filter_map(|&(image, questions)| {
                Some((images.get(image)?.digest, (questions * longest.unwrap_or(0)) as i64))
            });
            batch_images.assign_sources(&queries.collect::<Vec<_>>())
        });
        let mut timer = StageTimer::start(self.timer_backend);
        let inputs: Vec<ImageInput<'_>> =
            layout.images.iter().filter_map(|&image| images.get(image).copied()).collect();
        let missing = batch_images.encode(&inputs, &mut self.encoder, &mut self.graphs, sink)?;
        if !missing.is_empty() {
            timer.finish_stage(BatchStage::Vision);
        }
        let new_images =
            missing.iter().filter_map(|&position| layout.images.get(position).copied()).collect();
        let (features, key_values) = batch_images.read();
        let batch = EncodedBatch { rows, layout, features, texts_without_image, new_images, timer };
        match &self.head {
            Head::QuestionAnswering(head) => {
                head.run(batch, self.stopping, &self.config, &mut self.graphs, key_values, sink)
            }
            Head::Captioning(head) => head.run(batch, self.stopping, sink),
            Head::Retrieval(head) => head.run(batch, sink),
        }
    }

    /// Checks the limits of a batch: images, image sizes, text lengths, token ids and task options.
    fn check(&self, images: &[ImageInput<'_>], rows: &[RowInput<'_>]) -> Result<(), ModelError> {
        let bad = |reason: String| Err(ModelError::BadBatch(reason));
        if images.len() > self.options.max_batch_images {
            return bad(format!(
                "too many images in the batch: {}, limit {}",
                images.len(),
                self.options.max_batch_images
            ));
        }
        let side = usize::try_from(self.config.vision.image_size).unwrap_or(0);
        let text = &self.config.text;
        for row in rows {
            let (tokens, limit) = (row.token_ids.len(), text.max_position_embeddings);
            match (row.image, row.task) {
                (Some(image), _) => {
                    let Some(image) = images.get(image) else {
                        return bad(format!(
                            "invalid image index: image {image}, batch has {}",
                            images.len()
                        ));
                    };
                    if image.pixels.data().len() != side * side * 3 {
                        let bytes = image.pixels.data().len();
                        return bad(format!(
                            "invalid image size: {bytes} bytes, expected {side} x {side} x 3"
                        ));
                    }
                }
                (None, RowTask::EmbedText) => {}
                (None, task) => return bad(format!("invalid row without image: task {}", task.name())),
            }
            if !matches!(row.task, RowTask::EmbedImage) && !(1..=limit).contains(&(tokens as i64)) {
                return bad(format!("invalid text length: {tokens} tokens, expected 1 to {limit}"));
            }
            if let Err(reason) = row.task.check(text) {
                return bad(reason);
            }
            let candidates = match row.task {
                RowTask::Rank(ranking) => &*ranking.candidates,
                _ => &[],
            };
            let mut ids = row.token_ids.iter().chain(candidates.iter().flatten());
            if let Some(id) = ids.find(|id| !(0..text.vocab_size).contains(*id)) {
                return bad(format!("invalid text: token id {id}, vocabulary has {}", text.vocab_size));
            }
        }
        Ok(())
    }
}

/// Starts the compute threads of the native kernels, if the model uses any.
fn parallel_kernels(
    device: Device,
    dtype: Dtype,
    options: LoadOptions,
) -> Result<Option<ParallelKernels>, LoadError> {
    let is_native = options.cpu_kernels.are_native(device, dtype);
    let threads = options.threads.map(NonZeroUsize::get);
    let threads = threads.unwrap_or_else(|| usize::try_from(tch::get_num_threads()).unwrap_or(1));
    let format = options.text_dtype.number_format();
    Ok(is_native.then(|| ParallelKernels::new(threads, format)).transpose()?)
}

/// Loads the image encoder with the kernels that `options` select.
fn load_image_encoder(
    checkpoint: &Checkpoint,
    root: &WeightPath<'_>,
    device: Device,
    dtype: Dtype,
    options: LoadOptions,
) -> Result<ImageEncoder, LoadError> {
    let config = &checkpoint.config().vision;
    let (scale, offset) = checkpoint.preprocessor().normalisation();
    if let Some(kernels) = root.kernels() {
        let workers = Arc::clone(&kernels.workers);
        let format = options.vision_dtype.number_format();
        let vision = CpuVisionEncoder::load(root, config, scale, offset, format, workers)?;
        return Ok(ImageEncoder::on_cpu_kernels(vision, config, options.vision_pass_images));
    }
    let vision = VisionEncoder::load(root, config, scale, offset, dtype.kind(), options.vision_dtype)?;
    let sizes = [options.max_batch_images, options.vision_pass_images];
    Ok(ImageEncoder::on_libtorch(vision, config, device, sizes)?)
}

#[cfg(test)]
impl Model {
    /// Returns the features `[images, tokens, hidden]` of images that are encoded together.
    pub(crate) fn features(&mut self, images: &[&crate::Pixels]) -> tch::Tensor {
        let _no_grad = tch::no_grad_guard();
        let mut passes = Vec::new();
        let encoded = self.encoder.encode(images, &mut self.graphs, |_, features| {
            passes.push(features.shallow_clone());
            Ok(())
        });
        encoded.unwrap();
        tch::Tensor::cat(&passes, 0)
    }

    /// Returns the head of a question-answering model.
    pub(crate) fn answering(&self) -> &QuestionAnswering {
        match &self.head {
            Head::QuestionAnswering(head) => head,
            other => panic!("not a question-answering head: {other:?}"),
        }
    }
}
