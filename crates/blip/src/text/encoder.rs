//! The text encoder: BERT with cross-attention to the image (`text_encoder` of the reference).

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::layout::BatchLayout,
    cache::key_value_shape::KeyValueShape,
    checkpoint::config::BlipConfig,
    device::transfer::to_device,
    error::LoadError,
    layers::{text_embeddings::TextEmbeddings, weight_path::WeightPath},
    text::{
        attention_weights::{AttendedText, attended_text},
        image_states::ImageStates,
        layer::TextLayer,
        padded_batch::PaddedBatch,
    },
};

/// The text encoder on LibTorch.
#[derive(Debug)]
pub(crate) struct TextEncoder {
    pub(crate) embeddings: TextEmbeddings,
    pub(crate) layers: Vec<TextLayer>,
    pad_token_id: i64,
    device: Device,
    kind: Kind,
}

impl TextEncoder {
    /// Loads `text_encoder.*`.
    pub(crate) fn load(
        root: &WeightPath<'_>,
        config: &BlipConfig,
        device: Device,
        kind: Kind,
    ) -> Result<Self, LoadError> {
        let path = root.at("text_encoder");
        let text = &config.text;
        let layers = (0..text.num_hidden_layers)
            .map(|index| {
                TextLayer::load(
                    &path.at(format_args!("encoder.layer.{index}")),
                    text,
                    config.vision.hidden_size,
                    // On CUDA one large product is faster than several smaller ones. See
                    // docs/decisions/cross-attention.md.
                    !device.is_cuda(),
                )
            })
            .collect::<Result<_, _>>()?;
        let embeddings = TextEmbeddings::load(&path, text)?;
        Ok(Self { embeddings, layers, pad_token_id: text.pad_token_id, device, kind })
    }

    /// Transfers questions, given as token ids, to the device.
    pub(crate) fn prepare(&self, questions: &[&[i64]]) -> Result<PaddedBatch, TchError> {
        PaddedBatch::new(questions, self.pad_token_id, self.device, self.kind)
    }

    /// Returns the shape of an image's keys and values, and the admission threshold in query
    /// tokens.
    ///
    /// `None` if the encoder has no layers.
    pub(crate) fn key_values(&self, tokens: i64) -> Option<(KeyValueShape, i64)> {
        let attention = &self.layers.first()?.cross_attention;
        let shape = KeyValueShape { layers: self.layers.len() as i64, ..attention.cached_shape(tokens) };
        Some((shape, attention.projection_threshold(tokens)))
    }

    /// Encodes questions with cross-attention to `images`, both in the order of `layout`.
    ///
    /// Returns `[rows, longest, hidden]`.
    pub(crate) fn forward(
        &self,
        batch: &PaddedBatch,
        images: ImageStates<'_>,
        layout: &BatchLayout,
    ) -> Result<Tensor, TchError> {
        let mut states = self.embed(batch)?;
        for (index, layer) in self.layers.iter().enumerate() {
            states = layer.forward_with_images(&states, batch, images.layer(index)?, layout)?;
        }
        batch.pad(states)
    }

    /// Projects the `features` `[1, tokens, hidden]` of an image to its keys and values in each
    /// layer.
    pub(crate) fn project(&self, features: &Tensor) -> Result<Vec<Tensor>, TchError> {
        self.layers.iter().map(|layer| layer.cross_attention.project(features)).collect()
    }

    /// Encodes one question with the weights of its attention to an image, whose keys and values
    /// [`Self::project`] returned.
    pub(crate) fn attend(&self, question: &[i64], key_values: &[Tensor]) -> Result<AttendedText, TchError> {
        let ids = to_device(question, self.device)?.f_unsqueeze(0)?;
        attended_text(&self.layers, self.embeddings.forward(&ids, 0)?, None, key_values)
    }

    /// Encodes texts without images. Returns `[rows, longest, hidden]`.
    pub(crate) fn forward_without_images(&self, batch: &PaddedBatch) -> Result<Tensor, TchError> {
        let mut states = self.embed(batch)?;
        for layer in &self.layers {
            states = layer.forward_without_images(&states, batch)?;
        }
        batch.pad(states)
    }

    /// Returns the first layer's input: `[tokens, hidden]` if `batch` is without padding, otherwise
    /// `[rows, longest, hidden]`.
    fn embed(&self, batch: &PaddedBatch) -> Result<Tensor, TchError> {
        match &batch.unpadding {
            Some(unpadding) => {
                self.embeddings.forward_at(&unpadding.unpad(&batch.ids)?, &unpadding.positions)
            }
            None => self.embeddings.forward(&batch.ids, 0),
        }
    }
}
