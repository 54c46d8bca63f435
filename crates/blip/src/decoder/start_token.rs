//! The first token of every answer, up to where it first meets its question: the same for all of them, so computed once.

use tch::{Device, TchError, Tensor};

use crate::{
    decoder::state::LayerState,
    device::transfer::to_device,
    layers::text_embeddings::TextEmbeddings,
    text::{layer::TextLayer, self_attention_cache::SelfAttentionCache},
};

/// A token at position 0, behind the first layer's self-attention.
#[derive(Debug)]
pub(crate) struct CachedStartToken {
    pub(crate) token: i64,
    /// `[1, 1, hidden]`.
    states: Tensor,
    /// The first layer's key and value of one row.
    self_attention: SelfAttentionCache,
}

impl CachedStartToken {
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

    /// Gives it to `rows` rows that have no token yet: their states, `[rows, 1, hidden]`.
    pub(crate) fn enter(&self, rows: i64, layers: &mut [LayerState]) -> Result<Tensor, TchError> {
        if let Some(first) = layers.first_mut() {
            first.self_attention = self.self_attention.for_rows(rows)?;
        }
        self.states.f_expand([rows, -1, -1], false)?.f_contiguous()
    }
}
