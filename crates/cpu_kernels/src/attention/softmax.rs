//! The softmax of attention scores.

use pulp::Simd;

use crate::activation::exp;

/// Replaces the first `tokens` of `scores` by the numerators of their softmax. Returns the
/// denominator.
///
/// Scores are multiplied by `scale` first. The padding after `tokens` becomes 0.
#[inline(always)]
pub(super) fn softmax_numerators<S: Simd>(simd: S, scores: &mut [f32], tokens: usize, scale: f32) -> f32 {
    if let Some(padding) = scores.get_mut(tokens..) {
        padding.fill(f32::NEG_INFINITY);
    }
    let (vectors, _) = S::as_mut_simd_f32s(scores);
    let mut max = simd.splat_f32s(f32::NEG_INFINITY);
    for &vector in &*vectors {
        max = simd.max_f32s(max, vector);
    }
    let offset = simd.splat_f32s(-scale * simd.reduce_max_f32s(max));
    let scales = simd.splat_f32s(scale);
    let mut sum = simd.splat_f32s(0.0);
    for vector in vectors {
        *vector = exp(simd, simd.mul_add_e_f32s(*vector, scales, offset));
        sum = simd.add_f32s(sum, *vector);
    }
    simd.reduce_sum_f32s(sum)
}
