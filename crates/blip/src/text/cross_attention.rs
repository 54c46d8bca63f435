//! Cross-attention of a text layer.
//!
//! The text encoder attends to images. The text decoder attends to encoder states.

use cpu_kernels::Heads;
use tch::{Device, Kind, TchError, Tensor};

use crate::{
    batch::layout::{BatchLayout, ImageGroup, KvSource},
    cache::{
        key_value_shape::KeyValueShape,
        slot_pool::{SlotIndices, SlotPool},
    },
    error::LoadError,
    layers::{
        attention::{attend, merge_heads, split_heads},
        dense::Dense,
        layer_norm::LayerNorm,
        linear::Linear,
        tensor_slice::size,
        weight_path::WeightPath,
    },
    parallel::ParallelKernels,
    text::{
        absorbed_projection::AbsorbedProjection,
        hypotheses::HypothesisLayout,
        image_states::LayerImageStates,
        native_attention::{self, attend_to_packed, attend_to_tokens},
        padded_batch::PaddedBatch,
    },
};

/// The cross-attention block of a text layer, post-norm.
#[derive(Debug)]
pub(crate) struct CrossAttention {
    pub(super) query: Dense,
    /// Keys and values in one product. Rows of the weight are all keys, then all values, each in
    /// head-major order.
    key_value: Dense,
    /// A cheaper computation of the same context, for few queries over many tokens.
    absorbed_projection: Option<AbsorbedProjection>,
    pub(super) output: Dense,
    pub(super) norm: LayerNorm,
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
        let key_value = Linear::fused(&[key, value])?;
        Ok(Self {
            query: Dense::load(&attention.at("query"), hidden, hidden)?,
            absorbed_projection: absorbs
                .then(|| AbsorbedProjection::new(&key_value, heads, path.kernels()))
                .transpose()?,
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
        let contexts = layout
            .groups
            .iter()
            .enumerate()
            .map(|(index, group)| {
                let source = group.of(&layout.sources).first().copied();
                self.group_context(&query, &mut images, (index, group), source)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let context = texts.unpad(joined(&contexts)?)?;
        self.output.forward_residual(&context, states, &self.norm)
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
        let rows = group.images * group.questions;
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
        let features = || all_features.f_narrow(0, group.first_image, group.images);
        let context = match (source, images.slots_of(index)) {
            (Some(KvSource::Cached(_)), Some((pool, indices))) => {
                let mut first = 0;
                let contexts = pool.read(indices)?.into_iter().map(|key_value| {
                    let images = key_value.size3()?.0;
                    let query = by_head.f_narrow(0, first, images)?;
                    first += images;
                    self.cached_context(&query, &key_value, tokens)
                });
                joined(&contexts.collect::<Result<Vec<_>, _>>()?)?
            }
            (Some(KvSource::ComputeAndStore(_)), Some((pool, indices))) => {
                match self.native_context(&by_head, &features()?, Some((pool, indices))) {
                    Some(context) => context?,
                    None => {
                        let made = self.project(&features()?)?;
                        pool.store(indices, &made)?;
                        self.context(&by_head, &made, None)?
                    }
                }
            }
            _ => match &self.absorbed_projection {
                Some(absorbed_projection) if absorbed_projection.is_cheaper(queries, tokens) => {
                    absorbed_projection.context(&query, &features()?, images.packed_of(index))?
                }
                _ => match self.native_context(&by_head, &features()?, None) {
                    Some(context) => context?,
                    None => self.context(&by_head, &self.project(&features()?)?, None)?,
                },
            },
        };
        context.f_transpose(1, 2)?.f_reshape([rows, longest, hidden])
    }

    /// Returns the context of `query` `[images, heads, queries, head dim]` over `features`
    /// `[images, tokens, encoder dim]` with the native kernels, in the same shape. Packed keys and
    /// values stay in `slots`.
    ///
    /// `None` without native kernels.
    fn native_context(
        &self,
        query: &Tensor,
        features: &Tensor,
        slots: Option<(&mut SlotPool, &SlotIndices)>,
    ) -> Option<Result<Tensor, TchError>> {
        let (Some(kernels), Dense::Native(key_value)) = (&self.kernels, &self.key_value) else { return None };
        let context_of = |image: usize, tokens| {
            let mut packed = match &slots {
                Some((pool, indices)) => pool.slot(indices, image)?,
                None => {
                    let shape = self.cached_shape(tokens);
                    Tensor::f_empty([1, shape.tokens, shape.width], (Kind::Float, Device::Cpu))?
                }
            };
            let of_image = |tensor: &Tensor| tensor.f_narrow(0, image as i64, 1);
            key_value.project(self.head_layout(), &of_image(features)?, &mut packed)?;
            attend_to_packed(kernels, &of_image(query)?, &packed, tokens)
        };
        Some(features.size3().and_then(|(images, tokens, _)| {
            let contexts = (0..size(images)).map(|image| context_of(image, tokens));
            joined(&contexts.collect::<Result<Vec<_>, _>>()?)
        }))
    }

    /// Returns the context of `query` `[images, heads, queries, head dim]` over cached keys and
    /// values of `tokens` tokens, see [`Self::cached_shape`], in the same shape.
    fn cached_context(&self, query: &Tensor, key_value: &Tensor, tokens: i64) -> Result<Tensor, TchError> {
        match &self.kernels {
            Some(kernels) => attend_to_packed(kernels, query, key_value, tokens),
            None => self.context(query, key_value, None),
        }
    }

    /// Returns the shape of an image of `tokens` tokens in the cache, for one layer. The native
    /// kernels read packed keys and values, as one token.
    pub(crate) fn cached_shape(&self, tokens: i64) -> KeyValueShape {
        match &self.kernels {
            Some(kernels) => {
                let width = kernels.packed_len(self.head_layout(), size(tokens)) as i64;
                KeyValueShape { layers: 1, tokens: 1, width }
            }
            None => KeyValueShape { layers: 1, tokens, width: 2 * self.heads * self.head_dim },
        }
    }

    fn head_layout(&self) -> Heads {
        Heads::new(size(self.heads), size(self.head_dim))
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
    use cpu_kernels::NumberFormat;

    use super::*;
    use crate::{device::kernel_backend::CudaGelu, tests::random_layers, text::image_states::PackedGroups};

    #[test]
    fn context_from_cached_keys_and_values_is_equal() {
        let (hidden, heads) = (64, 4);
        let native = ParallelKernels::new(2, NumberFormat::F32).unwrap();
        let attention = |kernels: Option<ParallelKernels>| {
            let dense = |outputs| {
                Dense::new(random_layers::linear(hidden, outputs), kernels.as_ref(), CudaGelu::Exact).unwrap()
            };
            CrossAttention {
                query: dense(hidden),
                key_value: dense(2 * hidden),
                absorbed_projection: None,
                output: dense(hidden),
                norm: random_layers::norm(hidden),
                heads,
                head_dim: hidden / heads,
                kernels,
            }
        };
        // With the second size, the pool returns each image's slot without a copy.
        for (tokens, kernels) in [9, 2_100]
            .into_iter()
            .flat_map(|tokens| [None, Some(native.clone())].map(|kernels| (tokens, kernels)))
        {
            let attention = attention(kernels);
            let features = random_layers::tensor(&[3, tokens, hidden]);
            let states = random_layers::tensor(&[4, 5, hidden]);
            let texts = PaddedBatch::new(&[[0; 5].as_slice(); 4], 0, Device::Cpu, Kind::Float).unwrap();
            let shape = attention.cached_shape(tokens);
            let pool = SlotPool(random_layers::tensor(&[4, shape.tokens, shape.width]));
            let indices = |slots: &[i64]| SlotIndices::new(slots.to_vec(), Device::Cpu).unwrap();
            // The first two images have one question each, the third has two.
            let of_groups = [[3, 0].as_slice(), &[2]].map(|slots| Some(indices(slots)));
            let attend = |sources: [KvSource; 3], pool| {
                let layout = BatchLayout::with_sources(&[0, 1, 2, 2], 0..4, |_| sources.to_vec());
                let packed = PackedGroups::default();
                let images = LayerImageStates { features: &features, packed: &packed, key_values: pool };
                attention.attend_images(&states, &texts, images, &layout).unwrap()
            };
            let made = attend([KvSource::Compute; 3], None);
            let slots = [3, 0, 2];
            for sources in [slots.map(KvSource::ComputeAndStore), slots.map(KvSource::Cached)] {
                let pool = SlotPool(pool.0.shallow_clone());
                let read = attend(sources, Some((pool, of_groups.as_slice())));
                let difference = (&made - read).abs().max().double_value(&[]);
                assert!(difference < 1e-4, "{tokens} tokens, {sources:?}: {difference}");
            }
        }
    }
}
