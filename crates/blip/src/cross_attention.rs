//! Attention from text to a memory: the question encoder's to an image, the answer decoder's to a question.

use tch::{TchError, Tensor};

use crate::{
    attention::{attend, merge_heads, split_heads},
    error::LoadError,
    fold::{Fold, FoldGroup, Source},
    image_memory::LayerMemory,
    lanes::LaneLayout,
    layers::{LayerNorm, Linear},
    weights::Scope,
};

/// The cross-attention block of a text layer, post-norm.
#[derive(Debug)]
pub(crate) struct CrossAttention {
    query: Linear,
    /// Keys and values in one product: rows of the weight are all keys, then all values, head-major inside each.
    key_value: Linear,
    output: Linear,
    norm: LayerNorm,
    heads: i64,
    head_dim: i64,
    memory_dim: i64,
}

impl CrossAttention {
    pub(crate) fn load(
        scope: &Scope<'_>,
        hidden: i64,
        memory_dim: i64,
        heads: i64,
        eps: f64,
    ) -> Result<Self, LoadError> {
        let own = scope.at("self");
        let key = Linear::load(&own.at("key"), memory_dim, hidden)?;
        let value = Linear::load(&own.at("value"), memory_dim, hidden)?;
        Ok(Self {
            query: Linear::load(&own.at("query"), hidden, hidden)?,
            key_value: Linear::fused(&[key, value])?,
            output: Linear::load(&scope.at("output.dense"), hidden, hidden)?,
            norm: LayerNorm::load(&scope.at("output.LayerNorm"), hidden, eps)?,
            heads,
            head_dim: hidden / heads,
            memory_dim,
        })
    }

    /// Keys and values of a memory `[rows, positions, memory dim]`, side by side: `[rows, positions, 2 * hidden]`.
    pub(crate) fn project(&self, memory: &Tensor) -> Result<Tensor, TchError> {
        self.key_value.forward(memory)
    }

    /// Attends from `states` `[lanes, positions, hidden]` to keys and values that [`Self::project`] made; `layout` says which
    /// lanes read which memory. There is no order among queries, so all lanes of a memory are one row of queries over it.
    pub(crate) fn attend_projected(
        &self,
        states: &Tensor,
        key_value: &Tensor,
        mask: Option<&Tensor>,
        layout: &LaneLayout,
    ) -> Result<Tensor, TchError> {
        let query = self.query.forward(states)?;
        let context = match layout.groups() {
            [only] => self.lanes_context(&query, key_value, mask, only.lanes)?,
            groups => {
                let contexts = groups.iter().map(|group| {
                    let query = query.f_narrow(0, group.first_lane, group.memories * group.lanes)?;
                    let of_group = |tensor: &Tensor| tensor.f_narrow(0, group.first_memory, group.memories);
                    let mask = mask.map(of_group).transpose()?;
                    self.lanes_context(&query, &of_group(key_value)?, mask.as_ref(), group.lanes)
                });
                Tensor::f_cat(&contexts.collect::<Result<Vec<_>, _>>()?, 0)?
            }
        };
        self.norm.forward_residual(self.output.forward(&context)?, states)
    }

    /// The context of `query` `[memories * lanes, positions, hidden]`, of the same shape.
    fn lanes_context(
        &self,
        query: &Tensor,
        key_value: &Tensor,
        mask: Option<&Tensor>,
        lanes: i64,
    ) -> Result<Tensor, TchError> {
        let (rows, positions, hidden) = query.size3()?;
        let query = query.f_view([rows / lanes, lanes * positions, hidden])?;
        let context = self.context(&split_heads(&query, self.heads)?, key_value, mask)?;
        merge_heads(&context)?.f_view([rows, positions, hidden])
    }

    fn context(&self, query: &Tensor, key_value: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, TchError> {
        let (rows, positions, _) = key_value.size3()?;
        let key_value =
            key_value.f_view([rows, positions, 2, self.heads, self.head_dim])?.f_permute([2, 0, 3, 1, 4])?;
        attend(query, &key_value.f_select(0, 0)?, &key_value.f_select(0, 1)?, mask)
    }

    /// Attends from questions `[rows, longest, hidden]` to their images, both in the order of `fold`. Every image token is valid,
    /// so there is no mask.
    pub(crate) fn attend_images(
        &self,
        states: &Tensor,
        mut images: LayerMemory<'_>,
        fold: &Fold,
    ) -> Result<Tensor, TchError> {
        let query = self.query.forward(states)?;
        let contexts = fold
            .groups
            .iter()
            .map(|group| self.group_context(&query, &mut images, group, group.of(&fold.sources)))
            .collect::<Result<Vec<_>, _>>()?;
        let context = match contexts.as_slice() {
            [only] => only.shallow_clone(),
            many => Tensor::f_cat(many, 0)?,
        };
        self.norm.forward_residual(self.output.forward(&context)?, states)
    }

    fn group_context(
        &self,
        query: &Tensor,
        images: &mut LayerMemory<'_>,
        group: &FoldGroup,
        sources: &[Source],
    ) -> Result<Tensor, TchError> {
        let (_, longest, hidden) = query.size3()?;
        let rows = group.images * group.questions;
        let queries = group.questions * longest;
        // All questions on an image as one row of queries.
        let query = query.f_narrow(0, group.first_row, rows)?.f_view([
            group.images,
            queries,
            self.heads,
            self.head_dim,
        ])?;
        let by_head = query.f_transpose(1, 2)?;
        let features = || images.features.f_narrow(0, group.first_image, group.images);
        let slots: Vec<i64> = sources.iter().filter_map(|source| source.slot()).collect();
        let context = match (sources.first(), &mut images.key_values) {
            (Some(Source::Kept(_)), Some(kept)) => self.context(&by_head, &kept.gather(&slots)?, None)?,
            (Some(Source::Keep(_)), Some(kept)) => {
                let made = self.project(&features()?)?;
                kept.store(&slots, &made)?;
                self.context(&by_head, &made, None)?
            }
            _ if queries < self.queries_worth_projecting(images.features.size3()?.1) => {
                self.absorbed_context(&query, &features()?)?.f_transpose(1, 2)?
            }
            _ => self.context(&by_head, &self.project(&features()?)?, None)?,
        };
        context.f_transpose(1, 2)?.f_reshape([rows, longest, hidden])
    }

    /// Numbers that a key and a value of one token have together.
    pub(crate) fn key_value_width(&self) -> i64 {
        2 * self.heads * self.head_dim
    }

    /// With so many queries over a memory of `tokens`, projecting it costs no more multiplications than
    /// [`Self::absorbed_context`]; on CUDA it is always the quicker one.
    pub(crate) fn queries_worth_projecting(&self, tokens: i64) -> i64 {
        if self.query.weight.device().is_cuda() {
            return 0;
        }
        let hidden = self.heads * self.head_dim;
        let projecting = 2 * tokens * self.memory_dim * hidden;
        let scores = 2 * tokens * hidden;
        let absorbing = 2 * (self.heads * tokens * self.memory_dim + hidden * self.memory_dim);
        match absorbing - scores {
            // A head as wide as the memory.
            ..=0 => i64::MAX,
            saved => (projecting + saved - 1) / saved,
        }
    }

    /// The same context without keys and values: `q . (W_k x + b_k) = (W_k^T q) . x + q . b_k`, whose last term
    /// is the same for every token and falls out of the softmax; and `sum p (W_v x + b_v) = W_v (sum p x) + b_v`.
    ///
    /// `query` is `[images, queries, heads, head dim]`, `memory` `[images, tokens, memory dim]`; the result has the
    /// shape of `query`.
    fn absorbed_context(&self, query: &Tensor, memory: &Tensor) -> Result<Tensor, TchError> {
        let (images, queries, heads, head_dim) = query.size4()?;
        let hidden = heads * head_dim;
        let by_head = |weight: Tensor| weight.f_view([heads, head_dim, self.memory_dim]);
        let key_weight = by_head(self.key_value.weight.f_narrow(0, 0, hidden)?)?;
        let value_weight = by_head(self.key_value.weight.f_narrow(0, hidden, hidden)?)?;
        let value_bias = self.key_value.bias.f_narrow(0, hidden, hidden)?.f_view([heads, 1, head_dim])?;

        let head_major = query.f_view([images * queries, heads, head_dim])?.f_transpose(0, 1)?;
        let absorbed = head_major
            .f_bmm(&key_weight)?
            .f_view([heads, images, queries, self.memory_dim])?
            .f_transpose(0, 1)?
            .f_reshape([images, 1, heads * queries, self.memory_dim])?;
        let memory = memory.f_unsqueeze(1)?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let mixed = Tensor::f_scaled_dot_product_attention::<Tensor>(
            &absorbed, &memory, &memory, None, 0.0, false, scale, false,
        )?;
        mixed
            .f_view([images, heads, queries, self.memory_dim])?
            .f_transpose(0, 1)?
            .f_reshape([heads, images * queries, self.memory_dim])?
            .f_bmm(&value_weight.f_transpose(1, 2)?)?
            .f_add(&value_bias)?
            .f_transpose(0, 1)?
            .f_reshape([images, queries, heads, head_dim])
    }
}
