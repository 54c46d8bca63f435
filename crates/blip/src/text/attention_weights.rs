//! The weights of cross-attention: how much each text token reads of each encoder state.
//!
//! The ordinary passes use a fused operation that never stores these weights. This pass computes
//! the same states with the weights beside them, for one text.

use tch::{Kind, TchError, Tensor};

use crate::{
    layers::attention::{merge_heads, split_heads},
    text::{cross_attention::CrossAttention, layer::TextLayer},
};

/// States of a text after some layers, with the weights of their cross-attention.
#[derive(Debug)]
pub(crate) struct AttendedText {
    /// `[1, positions, hidden]`.
    pub(crate) states: Tensor,
    /// Mean over layers and heads, `[positions, encoder states]` in f32. Each row has the sum 1.
    pub(crate) weights: Tensor,
}

/// Passes one text through `layers`.
///
/// `states` `[1, positions, hidden]` are the embeddings of its tokens. `mask` hides positions from
/// each other in self-attention. `key_values` are the encoder states' keys and values in each
/// layer, `[1, encoder states, 2 * hidden]`.
pub(crate) fn attended_text(
    layers: &[TextLayer],
    mut states: Tensor,
    mask: Option<&Tensor>,
    key_values: &[Tensor],
) -> Result<AttendedText, TchError> {
    let mut weights = Vec::with_capacity(layers.len());
    for (layer, key_value) in layers.iter().zip(key_values) {
        let attended = layer.attend_to_itself(&states, mask)?;
        let (attended, of_layer) = layer.cross_attention.attend_with_weights(&attended, key_value)?;
        states = layer.finish(&attended)?;
        weights.push(of_layer);
    }
    let weights = Tensor::f_stack(&weights, 0)?.f_mean_dim(0, false, Kind::Float)?;
    Ok(AttendedText { states, weights })
}

impl CrossAttention {
    /// Attends from `states` `[1, positions, hidden]` to keys and values of [`Self::project`].
    ///
    /// Returns the result of the block, and the mean of the heads' attention weights, `[positions,
    /// encoder states]`.
    fn attend_with_weights(&self, states: &Tensor, key_value: &Tensor) -> Result<(Tensor, Tensor), TchError> {
        let query = split_heads(&self.query.forward(states)?, self.heads)?;
        let (rows, tokens, _) = key_value.size3()?;
        let key_value =
            key_value.f_view([rows, tokens, 2, self.heads, self.head_dim])?.f_permute([2, 0, 3, 1, 4])?;
        let in_f32 = |tensor: &Tensor| tensor.f_to_kind(Kind::Float);
        let (key, value) = (in_f32(&key_value.f_select(0, 0)?)?, in_f32(&key_value.f_select(0, 1)?)?);
        // The scale applies to the queries, which are fewer than the scores.
        let scaled = in_f32(&query)?.f_div_scalar((self.head_dim as f64).sqrt())?;
        let weights = scaled.f_matmul(&key.f_transpose(2, 3)?)?.f_softmax(-1, Kind::Float)?;
        let context = merge_heads(&weights.f_matmul(&value)?)?.f_to_kind(states.kind())?;
        let states = self.output.forward_residual(&context, states, &self.norm)?;
        Ok((states, weights.f_squeeze_dim(0)?.f_mean_dim(0, false, Kind::Float)?))
    }
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::{
        Dtype, layers::attention::causal_mask, tests::golden_files::goldens,
        text::hypotheses::HypothesisLayout,
    };

    /// The pass with weights has the states of the ordinary pass, whose attention is fused.
    #[test]
    fn states_equal_those_of_the_pass_without_weights() {
        for golden in goldens() {
            let model = golden.model(Dtype::F32);
            let layer = &model.answering().questions.layers[0];
            let hidden = model.config.text.hidden_size;
            let random = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
            let (states, images) =
                (random(&[1, 7, hidden]), random(&[1, 9, model.config.vision.hidden_size]));
            let key_value = layer.cross_attention.project(&images).unwrap();
            let (found, weights) = layer.cross_attention.attend_with_weights(&states, &key_value).unwrap();
            let expected = layer
                .cross_attention
                .attend_projected(&states, &key_value, None, &HypothesisLayout::one_each(1))
                .unwrap();
            assert!((found - expected).abs().max().double_value(&[]) < 1e-5, "{}", golden.name);
            assert_eq!(weights.size(), [7, 9]);
            let sums = weights.sum_dim_intlist(-1, false, Kind::Float);
            assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-5, "{}", golden.name);
        }
    }

    #[test]
    fn causal_mask_hides_later_tokens() {
        let golden = goldens().remove(0);
        let model = golden.model(Dtype::F32);
        let layer = &model.answering().questions.layers[0];
        let states = Tensor::randn([1, 6, model.config.text.hidden_size], (Kind::Float, Device::Cpu));
        let mask = causal_mask(6, Device::Cpu, Kind::Float).unwrap();
        let all = layer.attend_to_itself(&states, Some(&mask)).unwrap();
        for length in 1..6 {
            let beginning = layer.attend_to_itself(&states.narrow(1, 0, length), None).unwrap();
            let last = length - 1;
            let difference = all.select(1, last) - beginning.select(1, last);
            assert!(difference.abs().max().double_value(&[]) < 1e-5, "{length} tokens");
        }
    }
}
