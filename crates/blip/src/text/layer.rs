//! A layer of the text encoder and the text decoder (`BlipTextLayer` of the reference).
//!
//! It has self-attention, cross-attention and a feed-forward block, each with a residual and a norm
//! after it.

use tch::{TchError, Tensor};

use crate::{
    batch::layout::BatchLayout,
    checkpoint::config::text::TextConfig,
    error::LoadError,
    layers::{
        attention::{attend, merge_heads},
        dense::{Dense, FeedForward},
        layer_norm::LayerNorm,
        linear::Linear,
        weight_path::WeightPath,
    },
    text::{
        cross_attention::CrossAttention, hypotheses::HypothesisLayout, image_states::LayerImageStates,
        padded_batch::PaddedBatch, self_attention_cache::SelfAttentionCache,
    },
};

/// A post-norm text layer.
#[derive(Debug)]
pub(crate) struct TextLayer {
    pub(crate) self_attention: SelfAttention,
    pub(crate) cross_attention: CrossAttention,
    pub(crate) feed_forward: FeedForward,
    pub(crate) norm: LayerNorm,
}

impl TextLayer {
    /// Loads `encoder.layer.N.*`.
    ///
    /// `encoder_dim` is the width of what cross-attention reads. `absorbs` permits the absorbed
    /// projection where it is cheaper.
    pub(crate) fn load(
        path: &WeightPath<'_>,
        config: &TextConfig,
        encoder_dim: i64,
        absorbs: bool,
    ) -> Result<Self, LoadError> {
        let (hidden, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let heads = config.num_attention_heads();
        Ok(Self {
            self_attention: SelfAttention::load(&path.at("attention"), hidden, heads, eps)?,
            cross_attention: CrossAttention::load(
                &path.at("crossattention"),
                hidden,
                encoder_dim,
                heads,
                eps,
                absorbs,
            )?,
            feed_forward: FeedForward {
                up: Dense::load(&path.at("intermediate.dense"), hidden, inner)?,
                down: Dense::load(&path.at("output.dense"), inner, hidden)?,
            },
            norm: LayerNorm::load(&path.at("output.LayerNorm"), hidden, eps)?,
        })
    }

    /// Encodes whole texts. Each token attends to all tokens of its text.
    ///
    /// `states` are `[tokens, hidden]` if `texts` is without padding, otherwise `[rows, longest,
    /// hidden]` with a mask.
    pub(crate) fn forward_with_images(
        &self,
        states: &Tensor,
        texts: &PaddedBatch,
        images: LayerImageStates<'_>,
        layout: &BatchLayout,
    ) -> Result<Tensor, TchError> {
        let states = self.self_attention.forward(states, texts)?;
        let states = self.cross_attention.attend_images(&states, texts, images, layout)?;
        self.finish(&states)
    }

    /// Encodes whole texts like [`Self::forward_with_images`], without cross-attention.
    pub(crate) fn forward_without_images(
        &self,
        states: &Tensor,
        texts: &PaddedBatch,
    ) -> Result<Tensor, TchError> {
        self.finish(&self.self_attention.forward(states, texts)?)
    }

    /// Runs self-attention for one token of each row, `states` `[rows, 1, hidden]`.
    ///
    /// The token attends to itself and to the tokens in `cache`, and is added there.
    /// [`Self::finish_step`] completes the layer.
    pub(crate) fn attend_to_cache(
        &self,
        states: &Tensor,
        cache: &mut SelfAttentionCache,
    ) -> Result<Tensor, TchError> {
        self.self_attention.forward_step(states, cache)
    }

    /// Runs the self-attention of one text, `states` `[1, positions, hidden]`.
    ///
    /// `mask` hides positions from others. Without it, each token attends to all.
    pub(crate) fn attend_to_itself(
        &self,
        states: &Tensor,
        mask: Option<&Tensor>,
    ) -> Result<Tensor, TchError> {
        self.self_attention.forward_masked(states, mask)
    }

    /// Completes the layer after [`Self::attend_to_cache`].
    ///
    /// `layout` states which hypotheses read which row of the keys and values in `key_value`.
    pub(crate) fn finish_step(
        &self,
        states: &Tensor,
        key_value: &Tensor,
        padding: Option<&Tensor>,
        layout: &HypothesisLayout,
    ) -> Result<Tensor, TchError> {
        self.finish(&self.cross_attention.attend_projected(states, key_value, padding, layout)?)
    }

    /// Runs the feed-forward block.
    pub(super) fn finish(&self, states: &Tensor) -> Result<Tensor, TchError> {
        self.feed_forward.forward_residual(states, &self.norm)
    }
}

/// The self-attention block of a text layer, post-norm.
#[derive(Debug)]
pub(crate) struct SelfAttention {
    /// Queries, keys and values in one product, each in head-major order.
    pub(crate) qkv: Dense,
    pub(crate) output: Dense,
    pub(crate) norm: LayerNorm,
    heads: i64,
}

impl SelfAttention {
    /// Loads `attention.*` of a layer.
    fn load(path: &WeightPath<'_>, hidden: i64, heads: i64, eps: f64) -> Result<Self, LoadError> {
        let attention = path.at("self");
        let parts = ["query", "key", "value"].map(|part| Linear::load(&attention.at(part), hidden, hidden));
        let [query, key, value] = parts;
        Ok(Self {
            qkv: Dense::new(Linear::fused(&[&query?, &key?, &value?])?, path.kernels(), path.cuda_gelu())?,
            output: Dense::load(&path.at("output.dense"), hidden, hidden)?,
            norm: LayerNorm::load(&path.at("output.LayerNorm"), hidden, eps)?,
            heads,
        })
    }

    /// Splits `qkv` `[rows, positions, 3 * hidden]` into heads, `[3, rows, heads, positions, head
    /// dim]`.
    fn by_head(&self, qkv: &Tensor) -> Result<Tensor, TchError> {
        let (rows, positions, width) = qkv.size3()?;
        qkv.f_view([rows, positions, 3, self.heads, width / 3 / self.heads])?.f_permute([2, 0, 3, 1, 4])
    }

    /// Attends among all tokens of each text. Padding is masked.
    fn forward(&self, states: &Tensor, texts: &PaddedBatch) -> Result<Tensor, TchError> {
        let qkv = self.by_head(&texts.pad(self.qkv.forward(states)?)?)?;
        let context = attend_among(&qkv, texts.padding.as_ref())?;
        self.finish(&texts.unpad(merge_heads(&context)?)?, states)
    }

    /// Attends among the tokens of texts of equal length, `states` `[rows, positions, hidden]`.
    fn forward_masked(&self, states: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, TchError> {
        let qkv = self.by_head(&self.qkv.forward(states)?)?;
        self.finish(&merge_heads(&attend_among(&qkv, mask)?)?, states)
    }

    /// Attends from one token of each row to itself and to the tokens in `cache`.
    fn forward_step(&self, states: &Tensor, cache: &mut SelfAttentionCache) -> Result<Tensor, TchError> {
        let qkv = self.by_head(&self.qkv.forward(states)?)?;
        let is_first = cache.is_empty();
        let (key_value, visible) = cache.append(qkv.f_narrow(0, 1, 2)?)?;
        let (key, value) = (key_value.f_select(0, 0)?, key_value.f_select(0, 1)?);
        let context = match is_first {
            // A token without predecessors attends only to itself: the softmax of one score is 1.
            true => value,
            false => attend(&qkv.f_select(0, 0)?, &key, &value, visible)?,
        };
        self.finish(&merge_heads(&context)?, states)
    }

    /// Projects `context` with merged heads, adds `states` and normalizes.
    fn finish(&self, context: &Tensor, states: &Tensor) -> Result<Tensor, TchError> {
        self.output.forward_residual(context, states, &self.norm)
    }
}

/// Returns the context of `qkv` `[3, rows, heads, positions, head dim]`: queries, keys and values.
fn attend_among(qkv: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, TchError> {
    attend(&qkv.f_select(0, 0)?, &qkv.f_select(0, 1)?, &qkv.f_select(0, 2)?, mask)
}
