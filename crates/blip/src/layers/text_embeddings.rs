//! Word and position embeddings with their norm, the first stage of text encoder and text decoder.

use cpu_kernels::NumberFormat;
use tch::{Kind, TchError, Tensor};

use crate::{
    checkpoint::config::text::TextConfig,
    error::LoadError,
    layers::{layer_norm::LayerNorm, weight_path::WeightPath},
};

/// Embeddings of the text encoder or of the text decoder.
#[derive(Debug)]
pub(crate) struct TextEmbeddings {
    /// `[vocabulary, hidden]`, in bf16 if products on the CPU are.
    word: Tensor,
    /// `[positions, hidden]`.
    pub(crate) position: Tensor,
    pub(crate) norm: LayerNorm,
}

impl TextEmbeddings {
    /// Loads `embeddings.*` below `path`.
    pub(crate) fn load(path: &WeightPath<'_>, config: &TextConfig) -> Result<Self, LoadError> {
        let path = path.at("embeddings");
        let hidden = config.hidden_size;
        let word = path.tensor("word_embeddings.weight", &[config.vocab_size, hidden])?;
        let is_bf16 = path.kernels().is_some_and(|kernels| kernels.number_format == NumberFormat::Bf16);
        Ok(Self {
            word: if is_bf16 { word.f_to_kind(Kind::BFloat16)? } else { word },
            position: path.tensor("position_embeddings.weight", &[config.max_position_embeddings, hidden])?,
            norm: LayerNorm::load(&path.at("LayerNorm"), hidden, config.layer_norm_eps)?,
        })
    }

    /// Converts token ids `[rows, tokens]` to states `[rows, tokens, hidden]`. The first token has
    /// position `position`.
    pub(crate) fn forward(&self, ids: &Tensor, position: i64) -> Result<Tensor, TchError> {
        let (_, tokens) = ids.size2()?;
        let mut states = self.words(ids)?;
        self.norm.forward(&states.f_add_(&self.position.f_narrow(0, position, tokens)?)?)
    }

    /// Converts token ids to states at given positions. Both tensors are on the device.
    ///
    /// - Ids `[tokens]` with `positions` `[tokens]`: one position for each token.
    /// - Ids `[rows, 1]` with `positions` `[1]`: one position for all rows.
    pub(crate) fn forward_at(&self, ids: &Tensor, positions: &Tensor) -> Result<Tensor, TchError> {
        let mut states = self.words(ids)?;
        self.norm.forward(&states.f_add_(&self.position.f_index_select(0, positions)?)?)
    }

    /// Returns the word embeddings of tokens, in the number format of the model's tensors.
    fn words(&self, ids: &Tensor) -> Result<Tensor, TchError> {
        Tensor::f_embedding(&self.word, ids, -1, false, false)?.f_to_kind(self.position.kind())
    }

    /// Returns the word embeddings, `[vocabulary, hidden]`.
    pub(crate) fn word(&self) -> &Tensor {
        &self.word
    }
}
