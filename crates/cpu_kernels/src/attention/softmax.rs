//! Softmax over a row of scores.

use pulp::Simd;

use crate::activation::exp;

/// The scores of `tokens` become their weights, before these are divided by their sum, which is returned; what is behind them
/// weighs nothing.
#[inline(always)]
pub(super) fn weigh<S: Simd>(simd: S, scores: &mut [f32], tokens: usize, scale: f32) -> f32 {
    if let Some(padding) = scores.get_mut(tokens..) {
        padding.fill(f32::NEG_INFINITY);
    }
    let (vectors, _) = S::as_mut_simd_f32s(scores);
    let mut most = simd.splat_f32s(f32::NEG_INFINITY);
    for &vector in &*vectors {
        most = simd.max_f32s(most, vector);
    }
    let most = simd.splat_f32s(-scale * simd.reduce_max_f32s(most));
    let scales = simd.splat_f32s(scale);
    let mut sum = simd.splat_f32s(0.0);
    for vector in vectors {
        *vector = exp(simd, simd.mul_add_e_f32s(*vector, scales, most));
        sum = simd.add_f32s(sum, *vector);
    }
    simd.reduce_sum_f32s(sum)
}
