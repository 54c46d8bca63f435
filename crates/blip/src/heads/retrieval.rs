//! Image-text matching and embeddings (`BlipForImageTextRetrieval` of the reference).
//!
//! The text encoder runs in two ways:
//!
//! - with cross-attention to an image: the matching head reads the first state,
//! - without cross-attention: the first state is projected to an embedding. Its cosine with an
//!   image's embedding measures their similarity.

use std::{collections::HashMap, time::Duration};

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::{
        layout::BatchLayout,
        rows::{RowError, RowSink},
        task::{MatchScores, RowOutput, RowTask},
    },
    checkpoint::Checkpoint,
    cpu::{image_states::CpuImageStates, text_encoder::CpuTextEncoder, text_kernels},
    device::{
        stage_timer::{BatchStage, StageTimes},
        transfer::{to_device, to_host},
    },
    encode::encoded_batch::EncodedBatch,
    error::{LoadError, ModelError},
    layers::{linear::Linear, weight_path::WeightPath},
    text::{encoder::TextEncoder, image_states::ImageStates},
};

/// The head of a retrieval model.
#[derive(Debug)]
pub(crate) struct Retrieval {
    texts: TextEncoder,
    /// The CPU implementation of the text encoder.
    cpu: Option<CpuTextEncoder>,
    text_projection: Linear,
    image_projection: Linear,
    matching: Linear,
    /// Token that replaces `[CLS]` for matching, if the conventions have one.
    matching_token: Option<i64>,
}

impl Retrieval {
    /// Loads `text_encoder.*`, the two projections and the matching head.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        root: &WeightPath<'_>,
        device: Device,
        kind: Kind,
    ) -> Result<Self, LoadError> {
        let config = checkpoint.config();
        let (text, images, width) =
            (config.text.hidden_size, config.vision.hidden_size, config.image_text_hidden_size);
        let texts = TextEncoder::load(root, config, device, kind)?;
        let cpu = root
            .kernels()
            .and_then(|kernels| CpuTextEncoder::new(&texts, config, &text_kernels(config, kernels)));
        Ok(Self {
            texts,
            cpu,
            text_projection: Linear::load(&root.at("text_proj"), text, width)?,
            image_projection: Linear::load(&root.at("vision_proj"), images, width)?,
            matching: Linear::load(&root.at("itm_head"), text, 2)?,
            matching_token: checkpoint.conventions().matching_token(config),
        })
    }

    /// Computes the match, text embedding and image embedding rows of a batch.
    pub(crate) fn run(&self, mut batch: EncodedBatch<'_>, rows: &mut dyn RowSink) -> Result<(), ModelError> {
        let plan = RetrievalPlan::of(&batch, rows);
        let images = match plan.image_of_row.is_empty() {
            true => Vec::new(),
            false => self.embed_images(&batch.features.gather()?)?,
        };
        let times = batch.timer.times();
        for &row in &plan.embed_images {
            let output = plan.image(row, &images).map(|image| RowOutput::Embedding(image.to_vec()));
            report(&batch, row, output, times, rows);
        }

        let texts = self.embed_texts(&plan.texts)?;
        batch.timer.finish_stage(BatchStage::Text);
        let times = StageTimes { decode: Duration::ZERO, ..batch.timer.times() };
        for &row in &plan.embed_texts {
            let output = plan.text(row, &texts).map(|text| RowOutput::Embedding(text.to_vec()));
            report(&batch, row, output, times, rows);
        }

        let matched: Vec<usize> =
            plan.matched.iter().copied().filter(|&row| !rows.is_cancelled(row)).collect();
        if matched.is_empty() {
            return Ok(());
        }
        let layout = BatchLayout::new(&plan.image_positions(batch.rows.len()), matched);
        let logits = self.matching_logits(&batch, &layout)?;
        batch.timer.finish_stage(BatchStage::Text);
        let times = StageTimes { decode: Duration::ZERO, ..batch.timer.times() };
        for (&row, &logits) in layout.rows.iter().zip(&logits) {
            let vectors = (plan.image(row, &images), plan.text(row, &texts));
            let output = match vectors {
                (Some(image), Some(text)) => {
                    let cosine = image.iter().zip(text).map(|(image, text)| image * text).sum();
                    Some(RowOutput::Matched(MatchScores { logits, cosine }))
                }
                _ => None,
            };
            report(&batch, row, output, times, rows);
        }
        Ok(())
    }

    /// Returns an embedding of length 1 for each image: its projected class token.
    fn embed_images(&self, features: &Tensor) -> Result<Vec<Vec<f32>>, TchError> {
        unit_vectors(&self.image_projection.forward(&features.f_select(1, 0)?)?)
    }

    /// Returns an embedding of length 1 for each text: its projected first state, computed without
    /// an image.
    fn embed_texts(&self, texts: &[&[i64]]) -> Result<Vec<Vec<f32>>, TchError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let states = match &self.cpu {
            Some(cpu) => cpu.forward(texts, None)?.first_states()?,
            None => self.texts.forward_without_images(&self.texts.prepare(texts)?)?.f_select(1, 0)?,
        };
        unit_vectors(&self.text_projection.forward(&states)?)
    }

    /// Returns the matching head's logits for the rows of `layout`. Its images are positions in the
    /// batch's features.
    fn matching_logits(
        &self,
        batch: &EncodedBatch<'_>,
        layout: &BatchLayout,
    ) -> Result<Vec<[f32; 2]>, TchError> {
        let texts: Vec<Vec<i64>> = layout
            .rows
            .iter()
            .filter_map(|&row| batch.row(row))
            .map(|input| {
                let mut ids = input.token_ids.to_vec();
                if let (Some(token), Some(first)) = (self.matching_token, ids.first_mut()) {
                    *first = token;
                }
                ids
            })
            .collect();
        let texts: Vec<&[i64]> = texts.iter().map(Vec::as_slice).collect();
        let states = match &self.cpu {
            Some(cpu) => {
                let positions = layout.images.iter().copied();
                let mut images = CpuImageStates::new(&batch.features, positions, None)?;
                cpu.forward(&texts, Some((&mut images, layout)))?.first_states()?
            }
            None => {
                let positions: Vec<i64> = layout.images.iter().map(|&position| position as i64).collect();
                let features = batch.features.gather()?;
                let images = features.f_index_select(0, &to_device(&positions, features.device())?)?;
                let images = ImageStates::of_features(&images);
                self.texts.forward(&self.texts.prepare(&texts)?, images, layout)?.f_select(1, 0)?
            }
        };
        let logits = to_host(&self.matching.forward(&states)?)?;
        let (pairs, _) = logits.as_chunks::<2>();
        Ok(pairs.to_vec())
    }
}

#[cfg(test)]
impl Retrieval {
    /// Sets the matching head's bias to infinity.
    pub(crate) fn break_matching(&mut self) {
        self.matching.bias = self.matching.bias.full_like(f64::INFINITY);
    }
}

/// The rows of a batch by task.
#[derive(Debug, Default)]
struct RetrievalPlan<'a> {
    matched: Vec<usize>,
    embed_texts: Vec<usize>,
    embed_images: Vec<usize>,
    /// Distinct texts to embed.
    texts: Vec<&'a [i64]>,
    /// Indices into `texts`, by row.
    text_of_row: HashMap<usize, usize>,
    /// Positions in the batch's features, by row.
    image_of_row: HashMap<usize, usize>,
}

impl<'a> RetrievalPlan<'a> {
    /// Sorts the rows of `batch`. Rows with another task are reported as unsupported.
    fn of(batch: &EncodedBatch<'a>, rows: &mut dyn RowSink) -> Self {
        let mut plan = Self::default();
        let position: HashMap<usize, usize> =
            batch.layout.images.iter().enumerate().map(|(position, &image)| (image, position)).collect();
        let mut text_of_ids: HashMap<&[i64], usize> = HashMap::new();
        for &row in batch.layout.rows.iter().chain(&batch.texts_without_image) {
            let Some(input) = batch.row(row) else { continue };
            match input.task {
                RowTask::Match => plan.matched.push(row),
                RowTask::EmbedText => plan.embed_texts.push(row),
                RowTask::EmbedImage => plan.embed_images.push(row),
                other => {
                    rows.finish(row, Err(RowError::Unsupported { task: other.name() }));
                    continue;
                }
            }
            if matches!(input.task, RowTask::Match | RowTask::EmbedText) {
                let text = *text_of_ids.entry(input.token_ids).or_insert_with(|| {
                    plan.texts.push(input.token_ids);
                    plan.texts.len() - 1
                });
                plan.text_of_row.insert(row, text);
            }
            if let Some(&position) = input.image.and_then(|image| position.get(&image)) {
                plan.image_of_row.insert(row, position);
            }
        }
        plan
    }

    /// Returns the embedding of the row's image.
    fn image<'v>(&self, row: usize, images: &'v [Vec<f32>]) -> Option<&'v [f32]> {
        images.get(*self.image_of_row.get(&row)?).map(Vec::as_slice)
    }

    /// Returns the embedding of the row's text.
    fn text<'v>(&self, row: usize, texts: &'v [Vec<f32>]) -> Option<&'v [f32]> {
        texts.get(*self.text_of_row.get(&row)?).map(Vec::as_slice)
    }

    /// Returns the position of each row's image in the features, or 0 for a row without image.
    fn image_positions(&self, rows: usize) -> Vec<usize> {
        (0..rows).map(|row| self.image_of_row.get(&row).copied().unwrap_or(0)).collect()
    }
}

/// Reports a row's result. `None` and numbers that are not finite become an error.
fn report(
    batch: &EncodedBatch<'_>,
    row: usize,
    output: Option<RowOutput>,
    times: StageTimes,
    rows: &mut dyn RowSink,
) {
    let finite = output.filter(is_finite).ok_or(RowError::NotFinite);
    rows.finish(row, finite.map(|output| batch.answer(row, output, times)));
}

fn is_finite(output: &RowOutput) -> bool {
    match output {
        RowOutput::Embedding(vector) => vector.iter().all(|value| value.is_finite()),
        RowOutput::Matched(scores) => {
            scores.cosine.is_finite() && scores.logits.iter().all(|logit| logit.is_finite())
        }
        RowOutput::Generated(_) | RowOutput::Ranked(_) | RowOutput::Explained(_) => true,
    }
}

/// Normalizes the rows of `projected` `[rows, width]` to length 1, in f32 for every kind.
fn unit_vectors(projected: &Tensor) -> Result<Vec<Vec<f32>>, TchError> {
    let projected = projected.f_to_kind(Kind::Float)?;
    let length = projected.f_norm_scalaropt_dim(2.0, [-1], true)?.f_clamp_min(1e-12)?;
    let width = projected.size2()?.1;
    let numbers = to_host(&projected.f_div(&length)?)?;
    Ok(numbers.chunks(width.max(1) as usize).map(<[f32]>::to_vec).collect())
}
