//! Attention to a memory without making its keys and values: their projections are absorbed into queries and results.
//!
//! `q . (W_k x + b_k) = (W_k^T q) . x + q . b_k`, whose last term is the same for every token and falls out of the softmax; and
//! `sum p (W_v x + b_v) = W_v (sum p x) + b_v`. Exact in real arithmetic. It costs for each query what projecting costs for
//! each token of the memory, so it is the cheaper way for a few queries over a long memory. See
//! `docs/decisions/cross-attention.md`.

use tch::{TchError, Tensor};

use crate::layers::linear::Linear;

#[derive(Debug)]
pub(crate) struct AbsorbedProjection {
    /// `[heads, head dim, memory dim]`.
    key_weight: Tensor,
    /// `[heads, memory dim, head dim]`.
    value_weight: Tensor,
    /// `[heads, 1, head dim]`.
    value_bias: Tensor,
}

impl AbsorbedProjection {
    /// Of a layer that makes keys and values in one product: rows of the weight are all keys, then all values, head-major
    /// inside each.
    pub(crate) fn new(key_value: &Linear, heads: i64) -> Result<Self, TchError> {
        let (outputs, encoder_dim) = key_value.weight.size2()?;
        let (hidden, head_dim) = (outputs / 2, outputs / 2 / heads);
        let by_head =
            |first| key_value.weight.f_narrow(0, first, hidden)?.f_view([heads, head_dim, encoder_dim]);
        Ok(Self {
            key_weight: by_head(0)?,
            value_weight: by_head(hidden)?.f_transpose(1, 2)?,
            value_bias: key_value.bias.f_narrow(0, hidden, hidden)?.f_view([heads, 1, head_dim])?,
        })
    }

    /// Whether it takes fewer multiplications than projecting a memory of `tokens` and attending to that.
    pub(crate) fn is_cheaper(&self, queries: i64, tokens: i64) -> bool {
        queries < self.queries_worth_projecting(tokens)
    }

    /// From so many queries on it takes no fewer.
    pub(crate) fn queries_worth_projecting(&self, tokens: i64) -> i64 {
        let Ok((heads, head_dim, encoder_dim)) = self.key_weight.size3() else { return 0 };
        let hidden = heads * head_dim;
        let projecting = 2 * tokens * encoder_dim * hidden;
        let scores = 2 * tokens * hidden;
        let absorbing = 2 * (heads * tokens * encoder_dim + hidden * encoder_dim);
        match absorbing - scores {
            // Heads wider than the memory.
            ..=0 => i64::MAX,
            more_a_query => (projecting + more_a_query - 1) / more_a_query,
        }
    }

    /// The context of `query` `[images, queries, heads, head dim]` over `memory` `[images, tokens, memory dim]`; of the shape of
    /// `query`.
    pub(crate) fn context(&self, query: &Tensor, memory: &Tensor) -> Result<Tensor, TchError> {
        let (images, queries, heads, head_dim) = query.size4()?;
        let encoder_dim = memory.size3()?.2;
        let head_major = query.f_view([images * queries, heads, head_dim])?.f_transpose(0, 1)?;
        let absorbed = head_major
            .f_bmm(&self.key_weight)?
            .f_view([heads, images, queries, encoder_dim])?
            .f_transpose(0, 1)?
            .f_reshape([images, 1, heads * queries, encoder_dim])?;
        let memory = memory.f_unsqueeze(1)?;
        let scale = 1.0 / (head_dim as f64).sqrt();
        let mixed = Tensor::f_scaled_dot_product_attention::<Tensor>(
            &absorbed, &memory, &memory, None, 0.0, false, scale, false,
        )?;
        mixed
            .f_view([images, heads, queries, encoder_dim])?
            .f_transpose(0, 1)?
            .f_reshape([heads, images * queries, encoder_dim])?
            .f_bmm(&self.value_weight)?
            .f_add(&self.value_bias)?
            .f_transpose(0, 1)?
            .f_reshape([images, queries, heads, head_dim])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{layers::attention::attend, tests::random_layers};

    /// What makes keys and values of `hidden` numbers each.
    fn layer(encoder_dim: i64, hidden: i64) -> Linear {
        random_layers::linear(encoder_dim, 2 * hidden)
    }

    #[test]
    fn it_gives_what_attention_to_keys_and_values_does() {
        let (heads, head_dim, encoder_dim) = (3, 4, 10);
        let layer = layer(encoder_dim, heads * head_dim);
        let absorbed_projection = AbsorbedProjection::new(&layer, heads).unwrap();
        let (query, memory) =
            (random_layers::tensor(&[2, 5, heads, head_dim]), random_layers::tensor(&[2, 7, encoder_dim]));
        let key_value =
            layer.forward(&memory).unwrap().view([2, 7, 2, heads, head_dim]).permute([2, 0, 3, 1, 4]);
        let plain = attend(&query.transpose(1, 2), &key_value.get(0), &key_value.get(1), None).unwrap();
        let difference = absorbed_projection.context(&query, &memory).unwrap() - plain.transpose(1, 2);
        assert!(difference.abs().max().double_value(&[]) < 1e-4);
    }

    #[test]
    fn at_the_released_size_five_questions_of_twelve_tokens_are_the_last_that_go_without_keys_and_values() {
        let absorbed_projection = AbsorbedProjection::new(&layer(768, 768), 12).unwrap();
        assert_eq!(absorbed_projection.queries_worth_projecting(577), 63);
        assert!(absorbed_projection.is_cheaper(60, 577) && !absorbed_projection.is_cheaper(72, 577));
    }

    #[test]
    fn with_one_head_a_query_costs_what_a_token_does_and_with_wider_heads_than_the_memory_it_is_always_cheaper()
     {
        assert_eq!(AbsorbedProjection::new(&layer(8, 8), 1).unwrap().queries_worth_projecting(577), 577);
        assert_eq!(
            AbsorbedProjection::new(&layer(4, 16), 1).unwrap().queries_worth_projecting(577),
            i64::MAX
        );
    }
}
