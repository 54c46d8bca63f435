//! Captioning (`BlipForConditionalGeneration` of the reference).
//!
//! The decoder reads the image features and continues a prompt, which may be empty.

use tch::{Device, TchError, Tensor};

use crate::{
    batch::{layout::BatchLayout, rows::RowSink},
    checkpoint::Checkpoint,
    decoder::TextDecoder,
    device::transfer::to_device,
    encode::encoded_batch::EncodedBatch,
    error::{LoadError, ModelError},
    generation::{
        decode_context::DecodeContext,
        greedy::{DecodeBackend, decode},
        stopping_criteria::StoppingCriteria,
    },
    heads::decoding_plan::DecodingPlan,
    layers::weight_path::WeightPath,
    text::encoder_states::EncoderStates,
};

/// The head of a captioning model.
#[derive(Debug)]
pub(crate) struct Captioning {
    pub(crate) decoder: TextDecoder,
}

impl Captioning {
    /// Loads `text_decoder.*`, whose cross-attention reads image features.
    pub(crate) fn load(
        checkpoint: &Checkpoint,
        root: &WeightPath<'_>,
        device: Device,
    ) -> Result<Self, LoadError> {
        let config = checkpoint.config();
        let encoder_dim = config.vision.hidden_size;
        let decoder = TextDecoder::load(checkpoint.weights(), root, config, encoder_dim, device)?;
        Ok(Self { decoder })
    }

    /// Generates captions. The token ids of a row are the start token and the prompt.
    pub(crate) fn run(
        &self,
        batch: EncodedBatch<'_>,
        stopping: StoppingCriteria,
        rows: &mut dyn RowSink,
    ) -> Result<(), ModelError> {
        let mut plan =
            DecodingPlan::new(&batch, |token_ids| token_ids.get(1..).unwrap_or_default(), stopping, rows);
        let encoder_states = EncoderStates {
            states: encoder_states_of_rows(&batch.features.gather()?, &batch.layout)?,
            padding: None,
        };
        let mut steps = 0;
        if !plan.greedy.is_empty() {
            let greedy = std::mem::take(&mut plan.greedy);
            let selected = encoder_states.select(&plan.greedy_positions)?;
            let state = self.decoder.start(&selected.states, None)?;
            let backend = DecodeBackend::LibTorch { decoder: &self.decoder, state };
            steps += decode(backend, greedy, stopping, &batch.timer, rows)?;
        }
        let context = DecodeContext {
            decoder: &self.decoder,
            encoder_states: &encoder_states,
            stopping,
            batch: &batch,
        };
        steps += plan.decode_others(context, rows)?;
        rows.decode_steps(steps);
        Ok(())
    }
}

/// Returns the features of each row's image, `[rows, tokens, hidden]`, in the order of `layout`.
fn encoder_states_of_rows(features: &Tensor, layout: &BatchLayout) -> Result<Tensor, TchError> {
    let image_of_row: Vec<i64> = layout
        .groups
        .iter()
        .flat_map(|group| {
            let images = group.first_image..group.first_image + group.images;
            images.flat_map(|image| std::iter::repeat_n(image, group.questions as usize))
        })
        .collect();
    if image_of_row.len() == layout.images.len() {
        return Ok(features.shallow_clone());
    }
    features.f_index_select(0, &to_device(&image_of_row, features.device())?)
}
