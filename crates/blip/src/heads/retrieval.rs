//! Image-text matching and vectors of both (`BlipForImageTextRetrieval` of the reference).
//!
//! A text encoder is used in two ways: with cross-attention to an image, whose first state the matching head judges; and
//! without, whose first state is projected to a vector that is compared with an image's by their cosine.

use std::{collections::HashMap, time::Duration};

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::{
        layout::BatchLayout,
        rows::{RowError, RowSink},
        task::{MatchScores, RowOutput, RowTask},
    },
    checkpoint::Checkpoint,
    device::{
        stage_timer::{BatchStage, StageTimes},
        transfer::{to_device, to_host},
    },
    encode::encoded_batch::EncodedBatch,
    error::{LoadError, ModelError},
    layers::{linear::Linear, weight_path::WeightPath},
    text::{encoder::TextEncoder, image_states::ImageStates},
};

#[derive(Debug)]
pub(crate) struct Retrieval {
    texts: TextEncoder,
    text_projection: Linear,
    image_projection: Linear,
    matching: Linear,
    /// Stands where `[CLS]` would while a text is matched.
    matching_token: Option<i64>,
}

impl Retrieval {
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        root: &WeightPath<'_>,
        device: Device,
        kind: Kind,
    ) -> Result<Self, LoadError> {
        let config = checkpoint.config();
        let (text, images, width) =
            (config.text.hidden_size, config.vision.hidden_size, config.image_text_hidden_size);
        Ok(Self {
            texts: TextEncoder::load(root, config, device, kind)?,
            text_projection: Linear::load(&root.at("text_proj"), text, width)?,
            image_projection: Linear::load(&root.at("vision_proj"), images, width)?,
            matching: Linear::load(&root.at("itm_head"), text, 2)?,
            matching_token: checkpoint.conventions().matching_token(config),
        })
    }

    /// Matches and embeds: rows about images and texts alone, mixed.
    pub(crate) fn run(&self, mut batch: EncodedBatch<'_>, rows: &mut dyn RowSink) -> Result<(), ModelError> {
        let work = Work::of(&batch, rows);
        let images = match work.image_of_row.is_empty() {
            true => Vec::new(),
            false => self.embed_images(&batch.features.gather()?)?,
        };
        let times = batch.timer.times();
        for &row in &work.embed_images {
            let output = work.image(row, &images).map(|image| RowOutput::Embedding(image.to_vec()));
            report(&batch, row, output, times, rows);
        }

        let texts = self.embed_texts(&work.texts)?;
        batch.timer.finish_stage(BatchStage::Text);
        let times = StageTimes { decode: Duration::ZERO, ..batch.timer.times() };
        for &row in &work.embed_texts {
            let output = work.text(row, &texts).map(|text| RowOutput::Embedding(text.to_vec()));
            report(&batch, row, output, times, rows);
        }

        let matched: Vec<usize> =
            work.matched.iter().copied().filter(|&row| !rows.is_cancelled(row)).collect();
        if matched.is_empty() {
            return Ok(());
        }
        let layout = BatchLayout::new(&work.image_positions(batch.rows.len()), matched);
        let logits = self.judge(&batch, &layout)?;
        batch.timer.finish_stage(BatchStage::Text);
        let times = StageTimes { decode: Duration::ZERO, ..batch.timer.times() };
        for (&row, &logits) in layout.rows.iter().zip(&logits) {
            let vectors = (work.image(row, &images), work.text(row, &texts));
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

    /// A vector of length 1 for each image: its class token's state, projected.
    fn embed_images(&self, features: &Tensor) -> Result<Vec<Vec<f32>>, TchError> {
        unit_vectors(&self.image_projection.forward(&features.f_select(1, 0)?)?)
    }

    /// A vector of length 1 for each text: the first state of an encoder that reads no image, projected.
    fn embed_texts(&self, texts: &[&[i64]]) -> Result<Vec<Vec<f32>>, TchError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let states = self.texts.forward_without_images(&self.texts.prepare(texts)?)?;
        unit_vectors(&self.text_projection.forward(&states.f_select(1, 0)?)?)
    }

    /// The matching head's logits for the rows of `layout`, whose images are positions in the batch's features.
    fn judge(&self, batch: &EncodedBatch<'_>, layout: &BatchLayout) -> Result<Vec<[f32; 2]>, TchError> {
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
        let positions: Vec<i64> = layout.images.iter().map(|&position| position as i64).collect();
        let features = batch.features.gather()?;
        let images = features.f_index_select(0, &to_device(&positions, features.device())?)?;
        let states =
            self.texts.forward(&self.texts.prepare(&texts)?, ImageStates::of_features(&images), layout)?;
        let logits = to_host(&self.matching.forward(&states.f_select(1, 0)?)?)?;
        let (pairs, _) = logits.as_chunks::<2>();
        Ok(pairs.to_vec())
    }
}

#[cfg(test)]
impl Retrieval {
    /// Makes the matching head's every number infinite.
    pub(crate) fn break_matching(&mut self) {
        self.matching.bias = self.matching.bias.full_like(f64::INFINITY);
    }
}

/// Which rows of a batch want what.
#[derive(Debug, Default)]
struct Work<'a> {
    matched: Vec<usize>,
    embed_texts: Vec<usize>,
    embed_images: Vec<usize>,
    /// The texts that are to become vectors, each once.
    texts: Vec<&'a [i64]>,
    /// Indices into `texts`.
    text_of_row: HashMap<usize, usize>,
    /// Positions in the batch's features.
    image_of_row: HashMap<usize, usize>,
}

impl<'a> Work<'a> {
    fn of(batch: &EncodedBatch<'a>, rows: &mut dyn RowSink) -> Self {
        let mut work = Self::default();
        let position: HashMap<usize, usize> =
            batch.layout.images.iter().enumerate().map(|(position, &image)| (image, position)).collect();
        let mut text_of_ids: HashMap<&[i64], usize> = HashMap::new();
        for &row in batch.layout.rows.iter().chain(&batch.texts_without_image) {
            let Some(input) = batch.row(row) else { continue };
            match input.task {
                RowTask::Match => work.matched.push(row),
                RowTask::EmbedText => work.embed_texts.push(row),
                RowTask::EmbedImage => work.embed_images.push(row),
                other => {
                    rows.finish(row, Err(RowError::Unsupported { task: other.name() }));
                    continue;
                }
            }
            if matches!(input.task, RowTask::Match | RowTask::EmbedText) {
                let text = *text_of_ids.entry(input.token_ids).or_insert_with(|| {
                    work.texts.push(input.token_ids);
                    work.texts.len() - 1
                });
                work.text_of_row.insert(row, text);
            }
            if let Some(&position) = input.image.and_then(|image| position.get(&image)) {
                work.image_of_row.insert(row, position);
            }
        }
        work
    }

    fn image<'v>(&self, row: usize, images: &'v [Vec<f32>]) -> Option<&'v [f32]> {
        images.get(*self.image_of_row.get(&row)?).map(Vec::as_slice)
    }

    fn text<'v>(&self, row: usize, texts: &'v [Vec<f32>]) -> Option<&'v [f32]> {
        texts.get(*self.text_of_row.get(&row)?).map(Vec::as_slice)
    }

    /// For each of the caller's rows the position of its image in the features; 0 where it has none.
    fn image_positions(&self, rows: usize) -> Vec<usize> {
        (0..rows).map(|row| self.image_of_row.get(&row).copied().unwrap_or(0)).collect()
    }
}

/// Tells what came of a row; `None` stands for a number that is not one.
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
        RowOutput::Generated(_) | RowOutput::Ranked(_) => true,
    }
}

/// The rows of `projected` `[rows, width]` at length 1, in f32 whatever the kind.
fn unit_vectors(projected: &Tensor) -> Result<Vec<Vec<f32>>, TchError> {
    let projected = projected.f_to_kind(Kind::Float)?;
    let length = projected.f_norm_scalaropt_dim(2.0, [-1], true)?.f_clamp_min(1e-12)?;
    let width = projected.size2()?.1;
    let numbers = to_host(&projected.f_div(&length)?)?;
    Ok(numbers.chunks(width.max(1) as usize).map(<[f32]>::to_vec).collect())
}
