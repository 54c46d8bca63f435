//! The whole model: images and questions in, answers out, row by row.

use std::time::Duration;

use tch::{Device, TchError, Tensor};

use crate::{
    answer_decoder::AnswerDecoder,
    answer_loop::{LiveRow, Stepper, Stop, decode},
    batch::{ImageInput, QuestionInput, RowSink},
    checkpoint::Checkpoint,
    config::BlipConfig,
    device::Dtype,
    device_graphs::DeviceGraphs,
    error::{LoadError, ModelError},
    feature_cache::{FeatureCache, ImageKey, Placement},
    fold::Fold,
    preprocess::Pixels,
    question_encoder::QuestionEncoder,
    stopwatch::Stopwatch,
    upload::Upload,
    vision::VisionEncoder,
    weights::Scope,
};

/// What a user may choose of a model's running, beyond its device and dtype.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelOptions {
    /// Memory for the features of images that were seen, in bytes; at least one batch of images is always kept.
    pub feature_cache_bytes: usize,
    /// Distinct images that one batch may have.
    pub max_batch_images: usize,
    /// Images that go through the vision encoder together; more need more memory for activations.
    pub vision_pass_images: usize,
    /// Tokens that an answer may have, if not the checkpoint's own number.
    pub max_new_tokens: Option<i64>,
    /// Launch small batches as CUDA graphs. Off by default: see `docs/decisions/cuda-graphs.md`.
    pub cuda_graphs: bool,
}

impl ModelOptions {
    /// Sane choices for a device.
    pub fn for_device(device: Device) -> Self {
        if device.is_cuda() {
            Self {
                feature_cache_bytes: 4 << 30,
                max_batch_images: 128,
                vision_pass_images: 16,
                max_new_tokens: None,
                cuda_graphs: false,
            }
        } else {
            Self {
                feature_cache_bytes: 512 << 20,
                max_batch_images: 16,
                vision_pass_images: 4,
                max_new_tokens: None,
                cuda_graphs: false,
            }
        }
    }
}

/// A BLIP visual question answering model on one device. Stays on the thread that loaded it.
#[derive(Debug)]
pub struct Model {
    vision: VisionEncoder,
    questions: QuestionEncoder,
    decoder: AnswerDecoder,
    features: FeatureCache,
    upload: Upload,
    config: BlipConfig,
    stop: Stop,
    graphs: DeviceGraphs,
    options: ModelOptions,
    device: Device,
    dtype: Dtype,
}

impl Model {
    /// Loads a checkpoint's weights to `device`.
    ///
    /// # Errors
    /// [`LoadError`] names a tensor that is missing or misshapen, with both shapes, or says what LibTorch refused.
    pub fn load(
        checkpoint: &Checkpoint,
        device: Device,
        dtype: Dtype,
        options: ModelOptions,
    ) -> Result<Self, LoadError> {
        let _no_grad = tch::no_grad_guard();
        let (config, kind) = (checkpoint.config(), dtype.kind());
        let root = Scope::root(checkpoint.weights(), device, kind);
        let (scale, offset) = checkpoint.preprocessor().normalisation();
        let vision = VisionEncoder::load(&root, &config.vision, scale, offset, kind)?;
        let questions = QuestionEncoder::load(&root, config, device, kind)?;
        let decoder = AnswerDecoder::load(checkpoint.weights(), &root, config, device)?;

        let (tokens, hidden) = (config.vision.tokens(), config.vision.hidden_size);
        let slots =
            (options.feature_cache_bytes / image_bytes(config, dtype)).max(options.max_batch_images.max(1));
        let features = FeatureCache::new(slots as i64, tokens, hidden, device, kind)?;
        let upload = Upload::new(options.max_batch_images.max(1) as i64, config.vision.image_size, device)?;
        let limit = config.text.max_position_embeddings;
        let max_new_tokens =
            options.max_new_tokens.unwrap_or(checkpoint.generation().max_new_tokens).clamp(1, limit);
        let stop = Stop {
            start_token: config.text.bos_token_id,
            stop_token: config.text.sep_token_id,
            max_new_tokens,
        };
        Ok(Self {
            vision,
            questions,
            decoder,
            features,
            upload,
            config: config.clone(),
            stop,
            graphs: DeviceGraphs::new(device, options.cuda_graphs),
            options,
            device,
            dtype,
        })
    }

    /// The device that the model is on.
    pub fn device(&self) -> Device {
        self.device
    }

    /// Size of one image's features on the device, in bytes.
    pub fn image_bytes(&self) -> usize {
        image_bytes(&self.config, self.dtype)
    }

    /// Images whose features are kept now.
    pub fn images_cached(&self) -> usize {
        self.features.len()
    }

    /// Answers `questions` about `images`; each row goes to `rows` as it finishes.
    ///
    /// Rows that are cancelled are left out and not reported. A row's answer depends on its image and question
    /// alone, whatever else is in the batch.
    ///
    /// # Errors
    /// [`ModelError`] if the batch as a whole failed; rows reported before that keep their answers.
    pub fn run(
        &mut self,
        images: &[ImageInput<'_>],
        questions: &[QuestionInput<'_>],
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        self.check(images, questions)?;
        let _no_grad = tch::no_grad_guard();
        let image_of_row: Vec<usize> = questions.iter().map(|question| question.image).collect();
        let fold = Fold::new(&image_of_row, (0..questions.len()).filter(|&row| !rows.is_cancelled(row)));
        if fold.rows.is_empty() {
            return Ok(());
        }
        let mut stopwatch = Stopwatch::start(self.device);
        let wanted: Vec<ImageInput<'_>> =
            fold.images.iter().filter_map(|&image| images.get(image).copied()).collect();
        let (features, placement) = self.encode_images(&wanted, rows)?;
        let vision = if placement.missing.is_empty() { Duration::ZERO } else { stopwatch.lap() };

        let token_ids: Vec<&[i64]> = fold
            .rows
            .iter()
            .filter_map(|&row| questions.get(row))
            .map(|question| question.token_ids)
            .collect();
        let lengths: Vec<i64> = token_ids.iter().map(|ids| ids.len() as i64).collect();
        let batch = self.questions.prepare(&token_ids)?;
        let states = match self.graphs.encode_questions(&self.questions, &batch, &features, &fold)? {
            Some(states) => states,
            None => self.questions.forward(&batch, &features, &fold)?,
        };
        let text = stopwatch.lap();

        let new_images: Vec<usize> =
            placement.missing.iter().filter_map(|&position| fold.images.get(position).copied()).collect();
        let live = fold.rows.iter().map(|&row| {
            let reused = image_of_row.get(row).is_some_and(|image| !new_images.contains(image));
            LiveRow::new(row, reused)
        });
        let (decoder, config, device) = (&self.decoder, &self.config, self.device);
        let graph =
            self.graphs.start_decoding(decoder, config, self.stop.max_new_tokens, &states, &lengths)?;
        let stepper = match graph {
            Some(graph) => Stepper::Captured(graph),
            None => Stepper::Plain { decoder, state: decoder.start(&states, batch.padding)?, device },
        };
        Ok(decode(stepper, live.collect(), self.stop, [vision, text], &stopwatch, rows)?)
    }

    fn check(&self, images: &[ImageInput<'_>], questions: &[QuestionInput<'_>]) -> Result<(), ModelError> {
        let bad = |reason: String| Err(ModelError::BadBatch(reason));
        if images.len() > self.options.max_batch_images {
            return bad(format!(
                "batch has {} images, limit is {}",
                images.len(),
                self.options.max_batch_images
            ));
        }
        let side = usize::try_from(self.config.vision.image_size).unwrap_or(0);
        if let Some(image) = images.iter().find(|image| image.pixels.data().len() != side * side * 3) {
            return bad(format!(
                "image has {} bytes, expected {side} x {side} x 3",
                image.pixels.data().len()
            ));
        }
        let text = &self.config.text;
        for question in questions {
            if question.image >= images.len() {
                return bad(format!(
                    "question asks about image {}, batch has {}",
                    question.image,
                    images.len()
                ));
            }
            if !(1..=text.max_position_embeddings).contains(&(question.token_ids.len() as i64)) {
                let (tokens, limit) = (question.token_ids.len(), text.max_position_embeddings);
                return bad(format!("question has {tokens} tokens, expected 1 to {limit}"));
            }
            if let Some(id) = question.token_ids.iter().find(|id| !(0..text.vocab_size).contains(*id)) {
                return bad(format!("question has token id {id}, vocabulary has {}", text.vocab_size));
            }
        }
        Ok(())
    }

    /// Features of the images, `[images, tokens, hidden]`, encoding only those that are not remembered.
    fn encode_images(
        &mut self,
        images: &[ImageInput<'_>],
        rows: &mut dyn RowSink,
    ) -> Result<(Tensor, Placement), ModelError> {
        let keys: Vec<ImageKey> = images.iter().map(|image| image.key).collect();
        let placement = self.features.place(&keys).ok_or_else(|| {
            ModelError::BadBatch(format!(
                "batch has {} images, limit is {}",
                keys.len(),
                self.features.slots()
            ))
        })?;
        for key in &placement.evicted {
            rows.image_evicted(key);
        }
        if let Err(error) = self.encode_missing(images, &placement) {
            // Copies may still be under way: their memory must not be written before they are done.
            Stopwatch::start(self.device).lap();
            for key in placement.missing.iter().filter_map(|&position| keys.get(position)) {
                self.features.forget(key);
            }
            return Err(error.into());
        }
        for key in placement.missing.iter().filter_map(|&position| keys.get(position)) {
            rows.image_cached(key, self.image_bytes());
        }
        Ok((self.features.gather(&placement.slots)?, placement))
    }

    fn encode_missing(&mut self, images: &[ImageInput<'_>], placement: &Placement) -> Result<(), TchError> {
        let pass_images = self.options.vision_pass_images.max(1);
        for (pass, positions) in placement.missing.chunks(pass_images).enumerate() {
            let pixels: Vec<&Pixels> = positions
                .iter()
                .filter_map(|&position| images.get(position))
                .map(|image| image.pixels)
                .collect();
            let slots: Vec<i64> =
                positions.iter().filter_map(|&position| placement.slots.get(position).copied()).collect();
            let pixels = self.upload.send((pass * pass_images) as i64, &pixels)?;
            let features = match self.graphs.encode_images(&self.vision, &pixels)? {
                Some(features) => features,
                None => self.vision.forward(&pixels)?,
            };
            self.features.store(&slots, &features)?;
        }
        Ok(())
    }
}

/// Size of one image's features in bytes.
fn image_bytes(config: &BlipConfig, dtype: Dtype) -> usize {
    let numbers = config.vision.tokens() * config.vision.hidden_size;
    usize::try_from(numbers).unwrap_or(0) * dtype.kind().elt_size_in_bytes()
}

#[cfg(test)]
mod company;
#[cfg(test)]
mod goldens;
#[cfg(test)]
mod parity;
