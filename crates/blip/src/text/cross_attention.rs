//! Cross-attention of a text layer.
//!
//! The text encoder attends to images. The text decoder attends to encoder states.

use std::sync::Arc;

use tch::{TchError, Tensor};

use crate::{
    batch::layout::{BatchLayout, ImageGroup, KvSource},
    cache::key_value_shape::KeyValueShape,
    error::LoadError,
    layers::{
        attention::{attend, merge_heads, split_heads},
        dense::Dense,
        layer_norm::LayerNorm,
        linear::Linear,
        weight_path::WeightPath,
    },
    parallel::{ParallelKernels, image_attention::AbsorbedHead},
    text::{
        absorbed_projection::AbsorbedProjection,
        hypotheses::HypothesisLayout,
        image_states::LayerImageStates,
        native_attention::{self, attend_to_tokens},
        padded_batch::PaddedBatch,
    },
};

/// The cross-attention block of a text layer, post-norm.
#[derive(Debug)]
pub(crate) struct CrossAttention {
    pub(crate) query: Dense,
    /// Keys and values in one product. Rows of the weight are all keys, then all values, each in
    /// head-major order.
    pub(crate) key_value: Dense,
    /// A cheaper computation of the same context on LibTorch, for few queries over many tokens.
    absorbed_projection: Option<AbsorbedProjection>,
    /// The same for the native kernels, if the layers use them.
    pub(crate) absorbed_heads: Option<Arc<[AbsorbedHead]>>,
    pub(crate) output: Dense,
    pub(crate) norm: LayerNorm,
    pub(super) heads: i64,
    pub(super) head_dim: i64,
    kernels: Option<ParallelKernels>,
}

impl CrossAttention {
    /// Loads a block of a layer. `absorbs` permits the absorbed projection where it is cheaper.
    pub(crate) fn load(
        path: &WeightPath<'_>,
        hidden: i64,
        encoder_dim: i64,
        heads: i64,
        eps: f64,
        absorbs: bool,
    ) -> Result<Self, LoadError> {
        let attention = path.at("self");
        let key = Linear::load(&attention.at("key"), encoder_dim, hidden)?;
        let value = Linear::load(&attention.at("value"), encoder_dim, hidden)?;
        let key_value = Linear::fused(&[&key, &value])?;
        let absorbed = absorbs.then(|| AbsorbedProjection::new(&key_value, heads)).transpose()?;
        let (absorbed_projection, absorbed_heads) = match (absorbed, path.kernels()) {
            (Some(absorbed), Some(kernels)) => (None, Some(absorbed.native(kernels)?)),
            (absorbed, _) => (absorbed, None),
        };
        Ok(Self {
            query: Dense::load(&attention.at("query"), hidden, hidden)?,
            absorbed_projection,
            absorbed_heads,
            key_value: Dense::new(key_value, path.kernels(), path.cuda_gelu())?,
            output: Dense::load(&path.at("output.dense"), hidden, hidden)?,
            norm: LayerNorm::load(&path.at("output.LayerNorm"), hidden, eps)?,
            heads,
            head_dim: hidden / heads,
            kernels: path.kernels().cloned(),
        })
    }

    /// Projects encoder states `[rows, positions, encoder dim]` to keys and values, `[rows,
    /// positions, 2 * hidden]`.
    pub(crate) fn project(&self, encoder_states: &Tensor) -> Result<Tensor, TchError> {
        self.key_value.forward(encoder_states)
    }

    /// Attends from `states` `[hypotheses, positions, hidden]` to keys and values of
    /// [`Self::project`].
    ///
    /// `layout` states which hypotheses read which row of encoder states. Attention does not order
    /// queries, so all hypotheses of a row are one row of queries.
    pub(crate) fn attend_projected(
        &self,
        states: &Tensor,
        key_value: &Tensor,
        mask: Option<&Tensor>,
        layout: &HypothesisLayout,
    ) -> Result<Tensor, TchError> {
        let query = self.query.forward(states)?;
        let context = match layout.groups() {
            [only] => self.grouped_context(&query, key_value, mask, only.hypotheses)?,
            groups => {
                let contexts = groups.iter().map(|group| {
                    let query =
                        query.f_narrow(0, group.first_hypothesis, group.encoder_rows * group.hypotheses)?;
                    let of_group =
                        |tensor: &Tensor| tensor.f_narrow(0, group.first_encoder_row, group.encoder_rows);
                    let mask = mask.map(of_group).transpose()?;
                    self.grouped_context(&query, &of_group(key_value)?, mask.as_ref(), group.hypotheses)
                });
                Tensor::f_cat(&contexts.collect::<Result<Vec<_>, _>>()?, 0)?
            }
        };
        self.output.forward_residual(&context, states, &self.norm)
    }

    /// Returns the context of `query` `[encoder rows * hypotheses, positions, hidden]`, in the same
    /// shape.
    fn grouped_context(
        &self,
        query: &Tensor,
        key_value: &Tensor,
        mask: Option<&Tensor>,
        hypotheses: i64,
    ) -> Result<Tensor, TchError> {
        let (rows, positions, hidden) = query.size3()?;
        let query = query.f_view([rows / hypotheses, hypotheses * positions, hidden])?;
        let context = self.context(&split_heads(&query, self.heads)?, key_value, mask)?;
        merge_heads(&context)?.f_view([rows, positions, hidden])
    }

    /// Returns the context of `query` `[rows, heads, queries, head dim]`, in the same shape.
    fn context(&self, query: &Tensor, key_value: &Tensor, mask: Option<&Tensor>) -> Result<Tensor, TchError> {
        let (rows, positions, _) = key_value.size3()?;
        if let (Some(kernels), None) = (&self.kernels, mask)
            && native_attention::is_faster(query.size4()?.2, positions)
        {
            return attend_to_tokens(kernels, query, key_value);
        }
        let key_value =
            key_value.f_view([rows, positions, 2, self.heads, self.head_dim])?.f_permute([2, 0, 3, 1, 4])?;
        attend(query, &key_value.f_select(0, 0)?, &key_value.f_select(0, 1)?, mask)
    }

    /// Attends from the `states` of `texts` to their images, both in the order of `layout`.
    ///
    /// No image token is padding, so no mask is needed.
    pub(crate) fn attend_images(
        &self,
        states: &Tensor,
        texts: &PaddedBatch,
        mut images: LayerImageStates<'_>,
        layout: &BatchLayout,
    ) -> Result<Tensor, TchError> {
        let query = texts.pad(self.query.forward(states)?)?;
        let cached_context = self.cached_context(&query, &images, layout)?;
        let (uncached, _) = layout.split_groups();
        let groups = if cached_context.is_some() { uncached } else { &layout.groups };
        let contexts = groups.iter().enumerate().map(|(index, group)| {
            let source = group.of(&layout.sources).first().copied();
            self.group_context(&query, &mut images, (index, group), source)
        });
        let mut contexts = contexts.collect::<Result<Vec<_>, _>>()?;
        contexts.extend(cached_context);
        let context = texts.unpad(joined(&contexts)?)?;
        self.output.forward_residual(&context, states, &self.norm)
    }

    /// Returns the context of the questions about all cached images, if attention reads their slots
    /// where they are. These questions come last in `query` `[rows, longest, hidden]`.
    fn cached_context(
        &self,
        query: &Tensor,
        images: &LayerImageStates<'_>,
        layout: &BatchLayout,
    ) -> Result<Option<Tensor>, TchError> {
        let Some(slots) = &images.slots else { return Ok(None) };
        let (_, cached) = layout.split_groups();
        let (Some(ranges), Some(first)) = (slots.ranges, cached.first()) else { return Ok(None) };
        let (rows, longest, hidden) = query.size3()?;
        let query = query.f_narrow(0, first.first_row, rows - first.first_row)?;
        let key_values = slots.pool.0.f_view([-1, 2, self.heads, self.head_dim])?;
        let context = ranges.attend(&query.f_view([-1, self.heads, self.head_dim])?, &key_values)?;
        context.f_view([-1, longest, hidden]).map(Some)
    }

    /// Returns the context of the group `group`, `[rows, longest, hidden]`. All its images have the
    /// same kind of `source`.
    fn group_context(
        &self,
        query: &Tensor,
        images: &mut LayerImageStates<'_>,
        (index, group): (usize, &ImageGroup),
        source: Option<KvSource>,
    ) -> Result<Tensor, TchError> {
        let (_, longest, hidden) = query.size3()?;
        let rows = group.rows();
        let queries = group.questions * longest;
        // All questions about an image are one row of queries.
        let query = query.f_narrow(0, group.first_row, rows)?.f_view([
            group.images,
            queries,
            self.heads,
            self.head_dim,
        ])?;
        let by_head = query.f_transpose(1, 2)?;
        let all_features = images.features;
        let tokens = all_features.size3()?.1;
        let of_group = |tensor: &Tensor| tensor.f_narrow(0, group.first_image, group.images);
        let features = || of_group(all_features);
        let projected = images.joined.as_ref().map(of_group).transpose()?;
        let context = match (source, images.slots_of(index)) {
            (Some(KvSource::Cached(_)), Some((pool, indices))) => {
                let mut first = 0;
                let contexts = pool.read(indices)?.into_iter().map(|key_value| {
                    let images = key_value.size3()?.0;
                    let query = by_head.f_narrow(0, first, images)?;
                    first += images;
                    self.context(&query, &key_value, None)
                });
                joined(&contexts.collect::<Result<Vec<_>, _>>()?)?
            }
            (Some(KvSource::ComputeAndStore(_)), Some((pool, indices))) => {
                let made = self.project(&features()?)?;
                pool.store(indices, &made)?;
                self.context(&by_head, &made, None)?
            }
            _ => match (projected, &self.absorbed_projection) {
                (Some(key_value), _) => self.context(&by_head, &key_value, None)?,
                (None, Some(absorbed_projection)) if absorbed_projection.is_cheaper(queries, tokens) => {
                    absorbed_projection.context(&query, &features()?)?
                }
                _ => self.context(&by_head, &self.project(&features()?)?, None)?,
            },
        };
        context.f_transpose(1, 2)?.f_reshape([rows, longest, hidden])
    }

    /// Returns the shape of an image of `tokens` tokens in the cache, for one layer.
    pub(crate) fn cached_shape(&self, tokens: i64) -> KeyValueShape {
        KeyValueShape { layers: 1, tokens, width: 2 * self.heads * self.head_dim }
    }

    /// Returns the number of queries from which a projection of `tokens` tokens costs no more than
    /// the absorbed projection.
    ///
    /// It is 0 without an absorbed projection.
    pub(crate) fn projection_threshold(&self, tokens: i64) -> i64 {
        self.absorbed_projection
            .as_ref()
            .map_or(0, |absorbed_projection| absorbed_projection.projection_threshold(tokens))
    }
}

/// Concatenates `parts` along their first dimension. A single part is not copied.
fn joined(parts: &[Tensor]) -> Result<Tensor, TchError> {
    match parts {
        [only] => Ok(only.shallow_clone()),
        many => Tensor::f_cat(many, 0),
    }
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::{
        cache::slot_pool::{SlotIndices, SlotPool},
        device::kernel_backend::CudaGelu,
        tests::random_layers,
        text::image_states::LayerSlots,
    };

    #[test]
    fn context_from_cached_keys_and_values_is_equal() {
        let (hidden, heads) = (64, 4);
        let dense =
            |outputs| Dense::new(random_layers::linear(hidden, outputs), None, CudaGelu::Exact).unwrap();
        let attention = CrossAttention {
            query: dense(hidden),
            key_value: dense(2 * hidden),
            absorbed_projection: None,
            absorbed_heads: None,
            output: dense(hidden),
            norm: random_layers::norm(hidden),
            heads,
            head_dim: hidden / heads,
            kernels: None,
        };
        // With the second size, the pool returns each image's slot without a copy.
        for tokens in [9, 2_100] {
            let features = random_layers::tensor(&[3, tokens, hidden]);
            let states = random_layers::tensor(&[4, 5, hidden]);
            let texts = PaddedBatch::new(&[[0; 5].as_slice(); 4], 0, Device::Cpu, Kind::Float).unwrap();
            let shape = attention.cached_shape(tokens);
            let pool = SlotPool(random_layers::tensor(&[4, shape.tokens, shape.width]));
            let indices = |slots: &[i64]| SlotIndices::new(slots.to_vec(), Device::Cpu).unwrap();
            // The first two images have one question each, the third has two.
            let of_groups = [[3, 0].as_slice(), &[2]].map(|slots| Some(indices(slots)));
            let attend = |sources: [KvSource; 3], pool: Option<SlotPool>| {
                let layout = BatchLayout::with_sources(&[0, 1, 2, 2], 0..4, |_| sources.to_vec());
                let slots = pool.map(|pool| LayerSlots { pool, of_groups: &of_groups, ranges: None });
                let images = LayerImageStates { features: &features, slots, joined: None };
                attention.attend_images(&states, &texts, images, &layout).unwrap()
            };
            let made = attend([KvSource::Compute; 3], None);
            let slots = [3, 0, 2];
            for sources in [slots.map(KvSource::ComputeAndStore), slots.map(KvSource::Cached)] {
                let pool = SlotPool(pool.0.shallow_clone());
                let read = attend(sources, Some(pool));
                let difference = (&made - read).abs().max().double_value(&[]);
                assert!(difference < 1e-4, "{tokens} tokens, {sources:?}: {difference}");
            }
        }
    }
}
