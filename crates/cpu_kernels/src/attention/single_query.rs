//! Attention of one query over rows as they are.

use pulp::{Arch, Simd, WithSimd};

use super::{heads::Heads, rows::Rows, softmax::weigh};

/// As [`Heads::attend`], of one `query` over rows as they are: keys and behind them, in the same row, values.
pub fn attend_one(
    heads: Heads,
    query: &[f32],
    key_values: Rows<'_>,
    out: &mut [f32],
    scratch: &mut Vec<f32>,
) {
    Arch::new().dispatch(AttendOne { heads, query, key_values, out, scratch });
}

pub(super) struct AttendOne<'a> {
    pub(super) heads: Heads,
    pub(super) query: &'a [f32],
    pub(super) key_values: Rows<'a>,
    pub(super) out: &'a mut [f32],
    pub(super) scratch: &'a mut Vec<f32>,
}

impl WithSimd for AttendOne<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let AttendOne { heads, query, key_values, out, scratch } = self;
        let (head_dim, width) = (heads.head_dim, heads.width());
        let tokens = key_values.iter(2 * width).count();
        if tokens == 0 {
            return out.fill(0.0);
        }
        scratch.resize(tokens.next_multiple_of(S::F32_LANES), 0.0);
        let of_heads = query.chunks_exact(head_dim).zip(out.chunks_exact_mut(head_dim));
        for (head, (query, out)) in of_heads.take(heads.heads).enumerate() {
            let (query, query_end) = S::as_simd_f32s(query);
            let keys = key_values.from(head * head_dim);
            for (score, key) in scratch.iter_mut().zip(keys.iter(head_dim)) {
                let (key, key_end) = S::as_simd_f32s(key);
                let mut sum = simd.splat_f32s(0.0);
                for (&number, &key) in query.iter().zip(key) {
                    sum = simd.mul_add_e_f32s(number, key, sum);
                }
                let end: f32 = query_end.iter().zip(key_end).map(|(number, key)| number * key).sum();
                *score = simd.reduce_sum_f32s(sum) + end;
            }
            let share = 1.0 / weigh(simd, scratch, tokens, 1.0 / (head_dim as f32).sqrt());
            out.fill(0.0);
            let (places, end) = S::as_mut_simd_f32s(out);
            let values = key_values.from(width + head * head_dim);
            for (&weight, value) in scratch.iter().zip(values.iter(head_dim)) {
                let weight = weight * share;
                let (value, value_end) = S::as_simd_f32s(value);
                for (place, &number) in places.iter_mut().zip(value) {
                    *place = simd.mul_add_e_f32s(simd.splat_f32s(weight), number, *place);
                }
                end.iter_mut().zip(value_end).for_each(|(place, number)| *place += weight * number);
            }
        }
    }
}
