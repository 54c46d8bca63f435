//! Layer norm over the rows of a slice.

use pulp::{Arch, Simd, WithSimd};

/// An affine layer norm with biased variance.
#[derive(Clone, Debug)]
pub struct CpuLayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl CpuLayerNorm {
    /// Creates a norm of rows as long as `weight` and `bias`.
    #[must_use]
    pub fn new(weight: Vec<f32>, bias: Vec<f32>, eps: f32) -> Self {
        Self { weight, bias, eps }
    }

    /// Normalises each row of `input` `[rows, size]` into `out` of the same shape.
    pub fn forward(&self, input: &[f32], out: &mut [f32]) {
        let size = self.weight.len().max(1);
        for (input, out) in input.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
            out.copy_from_slice(input);
        }
        self.forward_in_place(out);
    }

    /// Normalises each row of `states` `[rows, size]`.
    pub fn forward_in_place(&self, states: &mut [f32]) {
        Arch::new().dispatch(NormKernel { norm: self, states });
    }
}

struct NormKernel<'a> {
    norm: &'a CpuLayerNorm,
    states: &'a mut [f32],
}

impl WithSimd for NormKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let CpuLayerNorm { weight, bias, eps } = self.norm;
        let size = weight.len().max(1);
        let (weights, last_weights) = S::as_simd_f32s(weight);
        let (biases, last_biases) = S::as_simd_f32s(bias);
        for row in self.states.chunks_exact_mut(size) {
            let (vectors, tail) = S::as_mut_simd_f32s(row);
            let total =
                sum_differences::<S, false>(simd, vectors, simd.splat_f32s(0.0)) + tail.iter().sum::<f32>();
            let mean = total / size as f32;
            let means = simd.splat_f32s(mean);
            let squares = sum_differences::<S, true>(simd, vectors, means);
            let squares = squares + tail.iter().map(|value| (value - mean) * (value - mean)).sum::<f32>();
            let scale = 1.0 / (squares / size as f32 + eps).sqrt();
            let scales = simd.splat_f32s(scale);
            for ((value, &weight), &bias) in vectors.iter_mut().zip(weights).zip(biases) {
                let normal = simd.mul_f32s(simd.sub_f32s(*value, means), scales);
                *value = simd.mul_add_e_f32s(normal, weight, bias);
            }
            for ((value, weight), bias) in tail.iter_mut().zip(last_weights).zip(last_biases) {
                *value = (*value - mean) * scale * weight + bias;
            }
        }
    }
}

/// Returns the sum of the differences between `vectors` and `mean`, or of their squares.
#[inline(always)]
fn sum_differences<S: Simd, const SQUARED: bool>(simd: S, vectors: &[S::f32s], mean: S::f32s) -> f32 {
    // Four independent sums, so that no addition waits for the previous one.
    let mut sums = [simd.splat_f32s(0.0); 4];
    let one = simd.splat_f32s(1.0);
    for four in vectors.chunks(4) {
        for (sum, &vector) in sums.iter_mut().zip(four) {
            let difference = simd.sub_f32s(vector, mean);
            *sum = simd.mul_add_e_f32s(difference, if SQUARED { difference } else { one }, *sum);
        }
    }
    let [first, second, third, fourth] = sums;
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(first, second), simd.add_f32s(third, fourth)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_match_double_precision(rows in 1usize..5, size in 1usize..150, shift in -9f32..9.0) {
            let number = |index: usize| ((index * 7_919) % 101) as f32 / 50.0 - 1.0 + shift;
            let input: Vec<f32> = (0..rows * size).map(number).collect();
            let weight: Vec<f32> = (0..size).map(|index| 1.0 + index as f32 / 100.0).collect();
            let bias: Vec<f32> = (0..size).map(|index| index as f32 / 10.0).collect();
            let mut out = vec![0.0; input.len()];
            CpuLayerNorm::new(weight.clone(), bias.clone(), 1e-5).forward(&input, &mut out);
            for (input, out) in input.chunks(size).zip(out.chunks(size)) {
                let mean = input.iter().map(|&x| f64::from(x)).sum::<f64>() / size as f64;
                let variance = input.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / size as f64;
                for (column, (&x, &actual)) in input.iter().zip(out).enumerate() {
                    let normal = (f64::from(x) - mean) / (variance + 1e-5).sqrt();
                    let expected = normal * f64::from(weight[column]) + f64::from(bias[column]);
                    prop_assert!((f64::from(actual) - expected).abs() < 2e-3, "{actual} for {expected}");
                }
            }
        }
    }
}
