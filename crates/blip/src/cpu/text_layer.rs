//! A layer of the text encoder or decoder on slices: weights, and the computation that both share.

use std::sync::Arc;

use cpu_kernels::{CpuLayerNorm, CpuLinear, Epilogue};
use tch::{Kind, TchError, Tensor};

use crate::{
    layers::{
        dense::Dense,
        layer_norm::LayerNorm,
        tensor_slice::{as_bf16_slice, as_slice, size},
        text_embeddings::TextEmbeddings,
    },
    parallel::{ParallelKernels, image_attention::AbsorbedHead, scratch::Buffer},
    text::layer::TextLayer,
};

/// A post-norm layer. It shares its weights with LibTorch's version, see `text/layer.rs`.
#[derive(Debug)]
pub(super) struct CpuTextLayer {
    /// Queries, keys and values of self-attention, each in head-major order.
    qkv: Arc<CpuLinear>,
    /// Completes self-attention.
    pub(super) self_output: Residual,
    /// Queries of cross-attention.
    query: Arc<CpuLinear>,
    /// Keys and values of cross-attention, in this order.
    pub(super) key_value: Arc<CpuLinear>,
    /// The projections that replace keys and values for few queries over an image.
    pub(super) absorbed: Option<Arc<[AbsorbedHead]>>,
    /// Completes cross-attention.
    pub(super) cross_output: Residual,
    up: Arc<CpuLinear>,
    down: Residual,
}

/// Scratch memory of a layer. No layer reads what another one left.
#[derive(Debug, Default)]
pub(super) struct LayerBuffers {
    /// Queries, keys and values of self-attention, `[rows, 3 * hidden]`.
    pub(super) qkv: Buffer,
    /// Queries of cross-attention, `[rows, hidden]`.
    pub(super) queries: Buffer,
    /// Output of attention, `[rows, hidden]`.
    pub(super) context: Buffer,
}

/// A linear layer, the residual addition and the norm after it.
#[derive(Debug)]
pub(super) struct Residual {
    linear: Arc<CpuLinear>,
    norm: Arc<CpuLayerNorm>,
}

impl Residual {
    /// Returns `None` if the layers do not use the native kernels.
    fn new(linear: &Dense, norm: &LayerNorm) -> Option<Self> {
        Some(Self { linear: linear.native()?.clone(), norm: norm.native()?.clone() })
    }

    /// Adds the layer's product of `input` to `states` and normalizes them. Both slices are `[rows,
    /// hidden]` in attention.
    pub(super) fn forward(&self, kernels: &ParallelKernels, input: &[f32], states: &mut [f32]) {
        kernels.linear_residual(&self.linear, &self.norm, input, states);
    }
}

impl CpuTextLayer {
    /// Returns `None` if the layer does not use the native kernels.
    pub(super) fn new(layer: &TextLayer) -> Option<Self> {
        let (attention, cross) = (&layer.self_attention, &layer.cross_attention);
        Some(Self {
            qkv: attention.qkv.native()?.clone(),
            self_output: Residual::new(&attention.output, &attention.norm)?,
            query: cross.query.native()?.clone(),
            key_value: cross.key_value.native()?.clone(),
            absorbed: cross.absorbed_heads.clone(),
            cross_output: Residual::new(&cross.output, &cross.norm)?,
            up: layer.feed_forward.up.native()?.clone(),
            down: Residual::new(&layer.feed_forward.down, &layer.norm)?,
        })
    }

    /// Computes the queries, keys and values of self-attention, `[rows, 3 * hidden]`, from `states`
    /// `[rows, hidden]`.
    pub(super) fn begin(&self, kernels: &ParallelKernels, states: &[f32], qkv: &mut [f32]) {
        kernels.linear(&self.qkv, states, qkv, Epilogue::Store);
    }

    /// Computes the `queries` of cross-attention. Both slices are `[rows, hidden]`.
    pub(super) fn queries(&self, kernels: &ParallelKernels, states: &[f32], queries: &mut [f32]) {
        kernels.linear(&self.query, states, queries, Epilogue::Store);
    }

    /// Computes the feed-forward block of `states` `[rows, hidden]`.
    pub(super) fn finish(&self, kernels: &ParallelKernels, states: &mut [f32]) {
        kernels.feed_forward(&self.up, &self.down.linear, &self.down.norm, states);
    }
}

/// Word and position embeddings with their norm. They share their numbers with LibTorch's version,
/// see `layers/text_embeddings.rs`.
#[derive(Debug)]
pub(super) struct CpuTextEmbeddings {
    /// `[vocabulary, hidden]` in f32 or bf16.
    word: Tensor,
    /// `[positions, hidden]`.
    position: Tensor,
    norm: Arc<CpuLayerNorm>,
}

impl CpuTextEmbeddings {
    /// Returns `None` if the embeddings do not use the native kernels.
    pub(super) fn new(embeddings: &TextEmbeddings) -> Option<Self> {
        Some(Self {
            word: embeddings.word().shallow_clone(),
            position: embeddings.position.shallow_clone(),
            norm: embeddings.norm.native()?.clone(),
        })
    }

    /// Embeds tokens with their positions to `states` `[tokens, hidden]`.
    ///
    /// The model checks every batch, so ids and positions are within the tables.
    ///
    /// # Errors
    /// [`TchError`] if the tables have another number format.
    pub(super) fn forward(
        &self,
        tokens: impl Iterator<Item = (i64, usize)>,
        states: &mut [f32],
    ) -> Result<(), TchError> {
        let hidden = size(self.position.size2()?.1);
        let positions = as_slice(&self.position)?;
        let row = |index: usize| index.saturating_mul(hidden)..index.saturating_add(1).saturating_mul(hidden);
        let words: &dyn Fn(usize, &mut [f32]) = match self.word.kind() {
            Kind::BFloat16 => {
                let words = as_bf16_slice(&self.word)?;
                &move |token, state| {
                    let word = words.get(row(token)).unwrap_or_default();
                    for (state, &bits) in state.iter_mut().zip(word) {
                        *state = f32::from_bits(u32::from(bits) << 16);
                    }
                }
            }
            _ => {
                let words = as_slice(&self.word)?;
                &move |token, state| {
                    let word = words.get(row(token)).unwrap_or_default();
                    state.iter_mut().zip(word).for_each(|(state, &word)| *state = word);
                }
            }
        };
        for ((token, position), state) in tokens.zip(states.chunks_exact_mut(hidden)) {
            words(usize::try_from(token).unwrap_or(0), state);
            let position = positions.get(row(position)).unwrap_or_default();
            state.iter_mut().zip(position).for_each(|(state, position)| *state += position);
        }
        self.norm.forward_in_place(states);
        Ok(())
    }
}
