//! The question encoder: BERT with cross-attention to the image (`text_encoder` of the reference).

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::layout::Fold,
    cache::key_value_shape::KeyValueShape,
    checkpoint::config::BlipConfig,
    error::LoadError,
    layers::{text_embeddings::TextEmbeddings, weight_path::Scope},
    text::{image_states::ImageMemory, layer::TextLayer, padded_batch::QuestionBatch},
};

#[derive(Debug)]
pub(crate) struct QuestionEncoder {
    embeddings: TextEmbeddings,
    layers: Vec<TextLayer>,
    pad_token_id: i64,
    device: Device,
    kind: Kind,
}

impl QuestionEncoder {
    pub(crate) fn load(
        root: &Scope<'_>,
        config: &BlipConfig,
        device: Device,
        kind: Kind,
    ) -> Result<Self, LoadError> {
        let scope = root.at("text_encoder");
        let text = &config.text;
        let layers = (0..text.num_hidden_layers)
            .map(|index| {
                TextLayer::load(
                    &scope.at(format_args!("encoder.layer.{index}")),
                    text,
                    config.vision.hidden_size,
                    // On CUDA one large product beats several that are wide: docs/decisions/cross-attention.md.
                    !device.is_cuda(),
                )
            })
            .collect::<Result<_, _>>()?;
        let embeddings = TextEmbeddings::load(&scope, text)?;
        Ok(Self { embeddings, layers, pad_token_id: text.pad_token_id, device, kind })
    }

    /// Brings questions, given as token ids, to the device.
    pub(crate) fn prepare(&self, questions: &[&[i64]]) -> Result<QuestionBatch, TchError> {
        QuestionBatch::new(questions, self.pad_token_id, self.device, self.kind)
    }

    /// What keys and values its layers make of an image of `tokens`, and how many queries over it are worth making them for.
    pub(crate) fn key_values(&self, tokens: i64) -> Option<(KeyValueShape, i64)> {
        let attention = &self.layers.first()?.cross_attention;
        let shape =
            KeyValueShape { layers: self.layers.len() as i64, tokens, width: attention.key_value_width() };
        Some((shape, attention.queries_worth_projecting(tokens)))
    }

    /// Encodes questions against `images`, both in the order of `fold`; returns `[rows, longest, hidden]`.
    pub(crate) fn forward(
        &self,
        batch: &QuestionBatch,
        images: ImageMemory<'_>,
        fold: &Fold,
    ) -> Result<Tensor, TchError> {
        let mut states = self.embed(batch)?;
        for (index, layer) in self.layers.iter().enumerate() {
            states = layer.forward_question(&states, batch, images.layer(index)?, fold)?;
        }
        batch.pad(states)
    }

    /// Encodes texts that are about no image; returns `[rows, longest, hidden]`.
    pub(crate) fn forward_alone(&self, batch: &QuestionBatch) -> Result<Tensor, TchError> {
        let mut states = self.embed(batch)?;
        for layer in &self.layers {
            states = layer.forward_alone(&states, batch)?;
        }
        batch.pad(states)
    }

    /// The first layer's input: `[tokens, hidden]` if `batch` does without padding, otherwise `[rows, longest, hidden]`.
    fn embed(&self, batch: &QuestionBatch) -> Result<Tensor, TchError> {
        match &batch.unpadding {
            Some(unpadding) => {
                self.embeddings.forward_at(&unpadding.unpad(&batch.ids)?, &unpadding.positions)
            }
            None => self.embeddings.forward(&batch.ids, 0),
        }
    }
}
