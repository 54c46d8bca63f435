//! The start token, computed up to the first cross-attention.
//!
//! This part of the first step is equal for all answers, so it is computed once.

use tch::{Device, TchError, Tensor};

use crate::{
    decoder::state::LayerState,
    device::transfer::to_device,
    layers::text_embeddings::TextEmbeddings,
    text::{layer::TextLayer, self_attention_cache::SelfAttentionCache},
};

/// The start token at position 0, after the first layer's self-attention.
#[derive(Debug)]
pub(crate) struct CachedStartToken {
    pub(crate) token: i64,
    /// Hidden state, `[1, 1, hidden]`.
    states: Tensor,
    /// The first layer's key and value of one row.
    self_attention: SelfAttentionCache,
}

impl CachedStartToken {
    /// Computes the embedding and the first layer's self-attention of `token`.
    pub(crate) fn new(
        token: i64,
        embeddings: &TextEmbeddings,
        first_layer: &TextLayer,
        device: Device,
    ) -> Result<Self, TchError> {
        let ids = to_device(&[token], device)?.f_view([1, 1])?;
        let mut self_attention = SelfAttentionCache::Growing(None);
        let states = first_layer.attend_to_cache(&embeddings.forward(&ids, 0)?, &mut self_attention)?;
        Ok(Self { token, states, self_attention })
    }

    /// Adds the token to the caches of `rows` rows that have no token yet. Returns their states,
    /// `[rows, 1, hidden]`.
    pub(crate) fn start_rows(&self, rows: i64, layers: &mut [LayerState]) -> Result<Tensor, TchError> {
        if let Some(first) = layers.first_mut() {
            first.self_attention = self.self_attention.for_rows(rows)?;
        }
        self.states.f_expand([rows, -1, -1], false)?.f_contiguous()
    }
}
