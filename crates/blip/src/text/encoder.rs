//! The text encoder: BERT with cross-attention to the image (`text_encoder` of the reference).

use cuda::{CudaStreams, RangeAttention};
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::layout::BatchLayout,
    cache::key_value_shape::KeyValueShape,
    checkpoint::config::BlipConfig,
    device::{torch_panics::return_torch_panics, transfer::to_device},
    error::LoadError,
    layers::{text_embeddings::TextEmbeddings, weight_path::WeightPath},
    text::{
        attention_weights::{AttendedText, attended_text},
        image_states::ImageStates,
        joined_projection::JoinedProjection,
        layer::TextLayer,
        padded_batch::PaddedBatch,
    },
};

/// The text encoder on LibTorch.
#[derive(Debug)]
pub(crate) struct TextEncoder {
    pub(crate) embeddings: TextEmbeddings,
    pub(crate) layers: Vec<TextLayer>,
    /// The layers' projections of image features, on CUDA.
    joined_projection: Option<JoinedProjection>,
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
        let mut layers = (0..text.num_hidden_layers)
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
            .collect::<Result<Vec<_>, _>>()?;
        // Elsewhere the absorbed projection has the weights.
        let joined_projection = if device.is_cuda() { JoinedProjection::join(&mut layers)? } else { None };
        let embeddings = TextEmbeddings::load(&path, text)?;
        Ok(Self { embeddings, layers, joined_projection, pad_token_id: text.pad_token_id, device, kind })
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

    /// Returns attention to cached keys and values of `tokens` tokens where they are, if the device
    /// has it.
    pub(crate) fn range_attention(&self, tokens: i64) -> Option<RangeAttention> {
        let Device::Cuda(index) = self.device else { return None };
        let attention = &self.layers.first()?.cross_attention;
        let sizes = [attention.heads, attention.head_dim, tokens];
        let found = return_torch_panics(|| CudaStreams::open()?.range_attention(index, self.kind, sizes));
        found.unwrap_or_else(|error| {
            tracing::warn!(%error, "each layer copies the cached keys and values of a batch");
            None
        })
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
        let images = self.projected(images)?;
        let mut states = self.embed(batch)?;
        for (index, layer) in self.layers.iter().enumerate() {
            states = layer.forward_with_images(&states, batch, images.layer(index)?, layout)?;
        }
        batch.pad(states)
    }

    /// Projects the features of few images for all layers together.
    fn projected<'a>(&self, images: ImageStates<'a>) -> Result<ImageStates<'a>, TchError> {
        let (Some(projection), Some(features)) = (&self.joined_projection, images.uncached_features()) else {
            return Ok(images);
        };
        Ok(match projection.project(features)? {
            Some(joined) => ImageStates::of_joined(features, joined),
            None => images,
        })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::golden_files::golden;

    #[test]
    fn joined_projection_changes_no_states() {
        let golden = golden("untied_head");
        let config = golden.checkpoint.config();
        let (device, kind) = (Device::Cpu, Kind::Half);
        let root = WeightPath::root(golden.checkpoint.weights(), device, kind);
        let mut encoder = TextEncoder::load(&root, config, device, kind).unwrap();
        let size = |images| [images, config.vision.tokens(), config.vision.hidden_size];
        let questions: [&[i64]; 5] = [&[1, 5, 6, 2], &[1, 7, 2], &[1, 8, 9, 10, 2], &[1, 2], &[1, 3, 2]];
        for (images, of_questions) in [(1, vec![0; 5]), (3, vec![0, 0, 1, 2, 2]), (5, vec![0, 1, 2, 3, 4])] {
            let features = Tensor::randn(size(images), (Kind::Float, device)).to_kind(kind);
            let layout = BatchLayout::new(&of_questions, 0..5);
            let encode = |encoder: &TextEncoder| {
                let ordered: Vec<&[i64]> = layout.rows.iter().map(|&row| questions[row]).collect();
                let batch = encoder.prepare(&ordered).unwrap();
                encoder.forward(&batch, ImageStates::of_features(&features), &layout).unwrap()
            };
            encoder.joined_projection = None;
            let separate = encode(&encoder);
            encoder.joined_projection = JoinedProjection::join(&mut encoder.layers).unwrap();
            assert!(encoder.joined_projection.is_some());
            let difference = (encode(&encoder) - &separate).abs().max().double_value(&[]);
            let largest = separate.abs().max().double_value(&[]);
            assert!(difference < 0.01 * largest, "{images} images: {difference} of {largest}");
        }
    }
}
