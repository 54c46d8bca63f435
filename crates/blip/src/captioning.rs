//! Captions (`BlipForConditionalGeneration` of the reference): a decoder that reads the image itself, and goes on from a
//! prompt or from nothing.

use std::time::Duration;

use tch::{Device, TchError, Tensor};

use crate::{
    answer_decoder::AnswerDecoder,
    answer_loop::{LiveRow, Stepper, Stop, decode},
    batch::{RowError, RowSink},
    checkpoint::Checkpoint,
    encoded_batch::EncodedBatch,
    error::{LoadError, ModelError},
    fold::Fold,
    task::RowTask,
    weights::Scope,
};

#[derive(Debug)]
pub(crate) struct Captioning {
    pub(crate) decoder: AnswerDecoder,
}

impl Captioning {
    pub(crate) fn load(checkpoint: &Checkpoint, root: &Scope<'_>, device: Device) -> Result<Self, LoadError> {
        let config = checkpoint.config();
        let memory_dim = config.vision.hidden_size;
        let decoder = AnswerDecoder::load(checkpoint.weights(), root, config, memory_dim, device)?;
        Ok(Self { decoder })
    }

    /// Captions the images of a batch: each row's tokens are its prompt, the start token first.
    pub(crate) fn run(
        &self,
        batch: EncodedBatch<'_>,
        stop: Stop,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        let live: Vec<LiveRow<'_>> = batch
            .folded()
            .map(|(row, input)| {
                let prompt = input.token_ids.get(1..).unwrap_or_default();
                let reused = batch.image_reused(row);
                match input.task {
                    RowTask::Generate(generation) if generation.is_greedy() => {
                        let limit = stop.limit(generation.max_new_tokens, prompt.len());
                        LiveRow::new(row, prompt, limit, generation.report_tokens, reused)
                    }
                    other => {
                        rows.finish(row, Err(RowError::Unsupported { task: other.name() }));
                        LiveRow::done(row)
                    }
                }
            })
            .collect();
        let memory = memory_of_rows(&batch.features, &batch.fold)?;
        let state = self.decoder.start(&memory, None)?;
        let stepper = Stepper::Plain { decoder: &self.decoder, state, device: batch.device };
        let stages = [batch.vision, Duration::ZERO];
        let steps = decode(stepper, live, stop, stages, &batch.stopwatch, rows)?;
        rows.decode_steps(steps);
        Ok(())
    }
}

/// Each row's image, `[rows, tokens, hidden]`, in the order of `fold`.
fn memory_of_rows(features: &Tensor, fold: &Fold) -> Result<Tensor, TchError> {
    let image_of_row: Vec<i64> = fold
        .groups
        .iter()
        .flat_map(|group| {
            let images = group.first_image..group.first_image + group.images;
            images.flat_map(|image| std::iter::repeat_n(image, group.questions as usize))
        })
        .collect();
    if image_of_row.len() == fold.images.len() {
        return Ok(features.shallow_clone());
    }
    features.f_index_select(0, &Tensor::f_from_slice(&image_of_row)?.f_to_device(features.device())?)
}
