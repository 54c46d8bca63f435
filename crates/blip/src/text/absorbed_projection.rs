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

use std::sync::Arc;

use tch::{Device, Kind, TchError, Tensor};

use crate::{
    cache::key_value_shape::projection_threshold,
    layers::{linear::Linear, native_linear::packed},
    parallel::{ParallelKernels, image_attention::AbsorbedHead},
};

/// The projections of keys and values, in the shapes that absorption needs on LibTorch.
#[derive(Debug)]
pub(crate) struct AbsorbedProjection {
    /// `[heads, head dim, encoder dim]`.
    key_weight: Tensor,
    /// `[heads, encoder dim, head dim]`.
    value_weight: Tensor,
    /// `[heads, 1, head dim]`.
    value_bias: Tensor,
    heads: i64,
    head_dim: i64,
    encoder_dim: i64,
}

impl AbsorbedProjection {
    /// Creates the projection from a layer that computes keys and values in one product.
    ///
    /// Rows of its weight are all keys, then all values, each in head-major order.
    pub(crate) fn new(key_value: &Linear, heads: i64) -> Result<Self, TchError> {
        let (outputs, encoder_dim) = key_value.weight.size2()?;
        let (hidden, head_dim) = (outputs / 2, outputs / 2 / heads);
        let by_head =
            |first| key_value.weight.f_narrow(0, first, hidden)?.f_view([heads, head_dim, encoder_dim]);
        Ok(Self {
            key_weight: by_head(0)?,
            value_weight: by_head(hidden)?.f_transpose(1, 2)?,
            value_bias: key_value.bias.f_narrow(0, hidden, hidden)?.f_view([heads, 1, head_dim])?,
            heads,
            head_dim,
            encoder_dim,
        })
    }

    /// Returns the projections of each head for the native `kernels`.
    pub(crate) fn native(&self, kernels: &ParallelKernels) -> Result<Arc<[AbsorbedHead]>, TchError> {
        let format = kernels.number_format;
        // The kernels divide the scores by the square root of the width of their queries.
        let factor = (self.encoder_dim as f64 / self.head_dim as f64).sqrt();
        let no_bias = Tensor::f_zeros([self.encoder_dim], (Kind::Float, Device::Cpu))?;
        let layer = |weight: Tensor, bias: Tensor| {
            packed(&Linear { weight: weight.f_transpose(0, 1)?.f_contiguous()?, bias }, format)
        };
        let head = |head| {
            Ok(AbsorbedHead {
                key: layer(self.key_weight.f_get(head)?.f_mul_scalar(factor)?, no_bias.shallow_clone())?,
                value: layer(self.value_weight.f_get(head)?, self.value_bias.f_get(head)?.f_view([-1])?)?,
            })
        };
        (0..self.heads).map(head).collect()
    }

    /// Returns whether absorption needs fewer multiplications than projecting `tokens` tokens and
    /// attending.
    pub(crate) fn is_cheaper(&self, queries: i64, tokens: i64) -> bool {
        queries < self.projection_threshold(tokens)
    }

    /// Returns the number of queries from which absorption needs no fewer multiplications.
    pub(crate) fn projection_threshold(&self, tokens: i64) -> i64 {
        projection_threshold(tokens, self.heads, self.heads * self.head_dim, self.encoder_dim)
    }

    /// Returns the context of `query` `[images, queries, heads, head dim]`, as `[images, heads,
    /// queries, head dim]`. `features` are `[images, tokens, encoder dim]`.
    pub(crate) fn context(&self, query: &Tensor, features: &Tensor) -> Result<Tensor, TchError> {
        let (images, queries, heads, head_dim) = query.size4()?;
        let encoder_dim = self.encoder_dim;
        let head_major = query.f_view([images * queries, heads, head_dim])?.f_transpose(0, 1)?;
        let absorbed = head_major
            .f_bmm(&self.key_weight)?
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
            .f_bmm(&self.value_weight)?
            .f_add(&self.value_bias)?
            .f_view([heads, images, queries, head_dim])?
            .f_transpose(0, 1)
    }
}

#[cfg(test)]
mod tests {
    use cpu_kernels::{Heads, NumberFormat};

    use super::*;
    use crate::{
        layers::{
            attention::attend,
            tensor_slice::{as_slice, filled},
        },
        parallel::image_attention::{AttendedImage, ImageAttention},
        tests::random_layers,
    };

    #[test]
    fn context_equals_attention_to_keys_and_values() {
        let (heads, head_dim, encoder_dim) = (3, 4, 10);
        let layer = random_layers::linear(encoder_dim, 2 * heads * head_dim);
        let (query, features) =
            (random_layers::tensor(&[2, 5, heads, head_dim]), random_layers::tensor(&[2, 7, encoder_dim]));
        let key_value =
            layer.forward(&features).unwrap().view([2, 7, 2, heads, head_dim]).permute([2, 0, 3, 1, 4]);
        let plain = attend(&query.transpose(1, 2), &key_value.get(0), &key_value.get(1), None).unwrap();
        let absorbed = AbsorbedProjection::new(&layer, heads).unwrap();
        let context = absorbed.context(&query, &features).unwrap();
        assert_eq!(context.size(), plain.size());
        assert!((context - &plain).abs().max().double_value(&[]) < 1e-4);
        for threads in [1, 2] {
            let kernels = ParallelKernels::new(threads, NumberFormat::F32).unwrap();
            let projections = absorbed.native(&kernels).unwrap();
            let of_images =
                |tensor: &Tensor| [0, 1].map(|image| as_slice(&tensor.get(image)).unwrap().to_vec());
            let packed = of_images(&features).map(|features| kernels.pack_features(&features, 10));
            let queries = of_images(&query);
            let context = filled(&[2, 5, heads * head_dim], |context| {
                let images = queries.iter().zip(&packed).zip(context.chunks_mut(5 * 12));
                let images = images.map(|((queries, packed), context)| ImageAttention {
                    queries,
                    image: AttendedImage::Features(packed, &projections),
                    context,
                });
                kernels.attend_images(Heads::new(3, 4), 7, images);
                Ok(())
            });
            let by_head = context.unwrap().view([2, 5, heads, head_dim]).transpose(1, 2);
            assert!((by_head - &plain).abs().max().double_value(&[]) < 1e-4, "{threads} threads");
        }
    }
}
