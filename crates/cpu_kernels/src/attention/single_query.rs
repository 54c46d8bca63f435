//! Attention of a single query over keys and values that are not packed.

use pulp::{Arch, Simd, WithSimd};

use super::{heads::Heads, matrix_rows::MatrixRows, softmax::softmax_numerators};
use crate::aligned_numbers::AlignedNumbers;

/// Computes [`Heads::attend`] for one `query` `[width]` over unpacked keys and values.
///
/// Each row of `key_values` holds the key and then the value of a token, `[tokens, 2 * width]`.
/// `scratch` holds the scores; its memory is reused between calls.
pub fn attend_single_query(
    heads: Heads,
    query: &[f32],
    key_values: MatrixRows<'_>,
    out: &mut [f32],
    scratch: &mut AlignedNumbers,
) {
    Arch::new().dispatch(SingleQueryKernel { heads, query, key_values, out, scratch });
}

pub(super) struct SingleQueryKernel<'a> {
    pub(super) heads: Heads,
    pub(super) query: &'a [f32],
    pub(super) key_values: MatrixRows<'a>,
    pub(super) out: &'a mut [f32],
    pub(super) scratch: &'a mut AlignedNumbers,
}

impl WithSimd for SingleQueryKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let SingleQueryKernel { heads, query, key_values, out, scratch } = self;
        let (head_dim, width) = (heads.head_dim, heads.width());
        let tokens = key_values.iter(2 * width).count();
        if tokens == 0 {
            return out.fill(0.0);
        }
        let scratch = scratch.take(tokens.next_multiple_of(S::F32_LANES));
        let per_head = query.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
        for (head, (query, out)) in per_head.take(heads.heads).enumerate() {
            let (query, query_tail) = S::as_simd_f32s(query);
            let keys = key_values.skip_columns(head * head_dim);
            for (score, key) in scratch.iter_mut().zip(keys.iter(head_dim)) {
                let (key, key_tail) = S::as_simd_f32s(key);
                let mut sum = simd.splat_f32s(0.0);
                for (&query, &key) in query.iter().zip(key) {
                    sum = simd.mul_add_e_f32s(query, key, sum);
                }
                let tail: f32 = query_tail.iter().zip(key_tail).map(|(query, key)| query * key).sum();
                *score = simd.reduce_sum_f32s(sum) + tail;
            }
            let scale = 1.0 / (head_dim as f32).sqrt();
            let inverse_sum = 1.0 / softmax_numerators(simd, scratch, tokens, scale);
            out.fill(0.0);
            let (out, out_tail) = S::as_mut_simd_f32s(out);
            let values = key_values.skip_columns(width + head * head_dim);
            for (&weight, value) in scratch.iter().zip(values.iter(head_dim)) {
                let weight = weight * inverse_sum;
                let (value, value_tail) = S::as_simd_f32s(value);
                for (out, &value) in out.iter_mut().zip(value) {
                    *out = simd.mul_add_e_f32s(simd.splat_f32s(weight), value, *out);
                }
                out_tail.iter_mut().zip(value_tail).for_each(|(out, value)| *out += weight * value);
            }
        }
    }
}
