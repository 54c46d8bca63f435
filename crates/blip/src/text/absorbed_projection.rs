//! Cross-attention without keys and values: their projections are absorbed into queries and
//! results.
//!
//! - `q . (W_k x + b_k) = (W_k^T q) . x + q . b_k`. The last term is equal for all tokens, so the
//!   softmax cancels it.
//! - `sum p (W_v x + b_v) = W_v (sum p x) + b_v`.
//!
//! Both are exact in real arithmetic. A query costs as much as the projection costs for a token.
//! Therefore it is cheaper for few queries over many tokens. See
//! `docs/decisions/cross-attention.md`.

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    layers::{
        linear::Linear,
        native_linear::packed,
        tensor_slice::{as_slice, filled, size},
    },
    parallel::{ParallelKernels, absorbed::AbsorbedHead},
    text::image_states::PackedGroup,
};

/// The projections of keys and values, in the shapes that absorption needs.
#[derive(Debug)]
pub(crate) struct AbsorbedProjection {
    weights: AbsorbedWeights,
    heads: i64,
    head_dim: i64,
    encoder_dim: i64,
}

/// The weights of an absorbed projection, for the kernels that compute it.
#[derive(Debug)]
enum AbsorbedWeights {
    LibTorch {
        /// `[heads, head dim, encoder dim]`.
        key_weight: Tensor,
        /// `[heads, encoder dim, head dim]`.
        value_weight: Tensor,
        /// `[heads, 1, head dim]`.
        value_bias: Tensor,
    },
    Native {
        heads: Vec<AbsorbedHead>,
        kernels: ParallelKernels,
    },
}

impl AbsorbedProjection {
    /// Creates the projection from a layer that computes keys and values in one product. It uses
    /// the native `kernels`, if there are any.
    ///
    /// Rows of its weight are all keys, then all values, each in head-major order.
    pub(crate) fn new(
        key_value: &Linear,
        heads: i64,
        kernels: Option<&ParallelKernels>,
    ) -> Result<Self, TchError> {
        let (outputs, encoder_dim) = key_value.weight.size2()?;
        let (hidden, head_dim) = (outputs / 2, outputs / 2 / heads);
        let by_head =
            |first| key_value.weight.f_narrow(0, first, hidden)?.f_view([heads, head_dim, encoder_dim]);
        let (key_weight, value_weight) = (by_head(0)?, by_head(hidden)?);
        let value_bias = key_value.bias.f_narrow(0, hidden, hidden)?.f_view([heads, 1, head_dim])?;
        let weights = match kernels {
            Some(kernels) => {
                let format = kernels.number_format;
                // The kernels divide the scores by the square root of the width of their queries.
                let factor = (encoder_dim as f64 / head_dim as f64).sqrt();
                let no_bias = Tensor::f_zeros([encoder_dim], (Kind::Float, Device::Cpu))?;
                let head = |head| {
                    let weight =
                        key_weight.f_get(head)?.f_mul_scalar(factor)?.f_transpose(0, 1)?.f_contiguous()?;
                    let key = packed(&Linear { weight, bias: no_bias.shallow_clone() }, format)?;
                    let (weight, bias) = (value_weight.f_get(head)?, value_bias.f_get(head)?.f_view([-1])?);
                    Ok(AbsorbedHead { key, value: packed(&Linear { weight, bias }, format)? })
                };
                let heads = (0..heads).map(head).collect::<Result<_, TchError>>()?;
                AbsorbedWeights::Native { heads, kernels: kernels.clone() }
            }
            None => AbsorbedWeights::LibTorch {
                key_weight,
                value_weight: value_weight.f_transpose(1, 2)?,
                value_bias,
            },
        };
        Ok(Self { weights, heads, head_dim, encoder_dim })
    }

    /// Returns whether absorption needs fewer multiplications than projecting `tokens` tokens and
    /// attending.
    pub(crate) fn is_cheaper(&self, queries: i64, tokens: i64) -> bool {
        queries < self.projection_threshold(tokens)
    }

    /// Returns the number of queries from which absorption needs no fewer multiplications.
    pub(crate) fn projection_threshold(&self, tokens: i64) -> i64 {
        let &Self { heads, head_dim, encoder_dim, .. } = self;
        let hidden = heads * head_dim;
        let projecting = 2 * tokens * encoder_dim * hidden;
        let scores = 2 * tokens * hidden;
        let absorbing = 2 * (heads * tokens * encoder_dim + hidden * encoder_dim);
        match absorbing - scores {
            // Heads are wider than the features, so absorption is always cheaper.
            ..=0 => i64::MAX,
            more_per_query => (projecting + more_per_query - 1) / more_per_query,
        }
    }

    /// Returns the context of `query` `[images, queries, heads, head dim]`, as `[images, heads,
    /// queries, head dim]`.
    ///
    /// `features` are `[images, tokens, encoder dim]`. `packed` holds them in the layout of the
    /// native kernels, for all layers.
    pub(crate) fn context(
        &self,
        query: &Tensor,
        features: &Tensor,
        packed: PackedGroup<'_>,
    ) -> Result<Tensor, TchError> {
        match &self.weights {
            AbsorbedWeights::LibTorch { key_weight, value_weight, value_bias } => {
                self.libtorch_context(query, features, [key_weight, value_weight, value_bias])
            }
            AbsorbedWeights::Native { heads, kernels } => {
                let (images, queries, of_query, head_dim) = query.size4()?;
                let features = packed.get_or_pack(|| {
                    let (tokens, width) = (size(features.size3()?.1), size(self.encoder_dim));
                    Ok(kernels.pack_features(as_slice(&features.f_contiguous()?)?, tokens, width))
                })?;
                let query = query.f_contiguous()?;
                filled(&[images, of_query, queries, head_dim], |context| {
                    kernels.attend_absorbed(heads, as_slice(&query)?, &features, context);
                    Ok(())
                })
            }
        }
    }

    fn libtorch_context(
        &self,
        query: &Tensor,
        features: &Tensor,
        [key_weight, value_weight, value_bias]: [&Tensor; 3],
    ) -> Result<Tensor, TchError> {
        let (images, queries, heads, head_dim) = query.size4()?;
        let encoder_dim = self.encoder_dim;
        let head_major = query.f_view([images * queries, heads, head_dim])?.f_transpose(0, 1)?;
        let absorbed = head_major
            .f_bmm(key_weight)?
            .f_view([heads, images, queries, encoder_dim])?
            .f_transpose(0, 1)?
            .f_reshape([images, 1, heads * queries, encoder_dim])?;
        let features = features.f_unsqueeze(1)?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let mixed = Tensor::f_scaled_dot_product_attention::<Tensor>(
            &absorbed, &features, &features, None, 0.0, false, scale, false,
        )?;
        mixed
            .f_view([images, heads, queries, encoder_dim])?
            .f_transpose(0, 1)?
            .f_reshape([heads, images * queries, encoder_dim])?
            .f_bmm(value_weight)?
            .f_add(value_bias)?
            .f_view([heads, images, queries, head_dim])?
            .f_transpose(0, 1)
    }
}

#[cfg(test)]
mod tests {
    use cpu_kernels::NumberFormat;

    use super::*;
    use crate::{layers::attention::attend, tests::random_layers, text::image_states::PackedGroups};

    /// Returns a layer that computes keys and values of `hidden` numbers each.
    fn layer(encoder_dim: i64, hidden: i64) -> Linear {
        random_layers::linear(encoder_dim, 2 * hidden)
    }

    #[test]
    fn context_equals_attention_to_keys_and_values() {
        let (heads, head_dim, encoder_dim) = (3, 4, 10);
        let layer = layer(encoder_dim, heads * head_dim);
        let (query, features) =
            (random_layers::tensor(&[2, 5, heads, head_dim]), random_layers::tensor(&[2, 7, encoder_dim]));
        let key_value =
            layer.forward(&features).unwrap().view([2, 7, 2, heads, head_dim]).permute([2, 0, 3, 1, 4]);
        let plain = attend(&query.transpose(1, 2), &key_value.get(0), &key_value.get(1), None).unwrap();
        let native = |threads| Some(ParallelKernels::new(threads, NumberFormat::F32).unwrap());
        for kernels in [None, native(1), native(2)] {
            let absorbed = AbsorbedProjection::new(&layer, heads, kernels.as_ref()).unwrap();
            let packed = PackedGroups::default();
            // The second layer of a batch reads what the first one has packed.
            for _ in 0..2 {
                let context = absorbed.context(&query, &features, packed.group(0)).unwrap();
                assert_eq!(context.size(), plain.size());
                let difference = (context - &plain).abs().max().double_value(&[]);
                assert!(difference < 1e-4, "{kernels:?}: {difference}");
            }
        }
    }

    /// At the released size, five questions of twelve tokens are the most for which absorption is
    /// cheaper.
    #[test]
    fn threshold_at_the_released_size_is_63_queries() {
        let absorbed_projection = AbsorbedProjection::new(&layer(768, 768), 12, None).unwrap();
        assert_eq!(absorbed_projection.projection_threshold(577), 63);
        assert!(absorbed_projection.is_cheaper(60, 577) && !absorbed_projection.is_cheaper(72, 577));
    }

    /// With one head, a query costs as much as a token. With heads wider than the features,
    /// absorption is always cheaper.
    #[test]
    fn threshold_with_one_head_depends_on_the_width() {
        assert_eq!(AbsorbedProjection::new(&layer(8, 8), 1, None).unwrap().projection_threshold(577), 577);
        assert_eq!(
            AbsorbedProjection::new(&layer(4, 16), 1, None).unwrap().projection_threshold(577),
            i64::MAX
        );
    }
}
