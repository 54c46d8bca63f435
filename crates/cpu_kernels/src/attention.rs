//! Scaled dot-product attention over heads.

use pulp::{Arch, Simd, WithSimd};

use crate::{
    activation::exp,
    panels::lanes,
    tile::{Finish, MAX_ROWS, panel, runs, tile, with_rows, write_row},
};

/// Vectors of a panel of values; one of keys has a single one.
const VALUE_VECTORS: usize = 2;

/// Rows of numbers, each beginning so many behind the one before.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a> {
    /// From the first row's first number on.
    pub numbers: &'a [f32],
    /// From one row's first number to the next one's.
    pub stride: usize,
}

impl<'a> Rows<'a> {
    /// Part of each row, from its number `first` on.
    #[must_use]
    pub fn from(self, first: usize) -> Self {
        Self { numbers: self.numbers.get(first..).unwrap_or_default(), ..self }
    }

    /// Each row's first `width` numbers.
    #[inline(always)]
    fn iter(self, width: usize) -> impl Iterator<Item = &'a [f32]> {
        self.numbers.chunks(self.stride.max(1)).filter_map(move |row| row.get(..width))
    }
}

/// How a row is cut into heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heads {
    heads: usize,
    head_dim: usize,
}

impl Heads {
    /// So many heads of so many numbers, both at least 1.
    #[must_use]
    pub fn new(heads: usize, head_dim: usize) -> Self {
        Self { heads: heads.max(1), head_dim: head_dim.max(1) }
    }

    /// How many they are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.heads
    }

    /// Numbers of a row.
    #[must_use]
    pub fn width(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Numbers that [`Self::pack`] makes of so many tokens.
    #[must_use]
    pub fn packed_len(&self, tokens: usize) -> usize {
        self.packed_len_for(tokens, lanes())
    }

    fn packed_len_for(&self, tokens: usize, lanes: usize) -> usize {
        self.heads * (self.keys_len(tokens, lanes) + self.values_len(tokens, lanes))
    }

    /// Numbers of a head's keys: for each vector of tokens, a line of them for each number of a key.
    #[inline(always)]
    fn keys_len(&self, tokens: usize, lanes: usize) -> usize {
        tokens.next_multiple_of(lanes) * self.head_dim
    }

    /// Numbers of a head's values: for each two vectors of a value, a line of them for each token.
    #[inline(always)]
    fn values_len(&self, tokens: usize, lanes: usize) -> usize {
        tokens * self.head_dim.next_multiple_of(VALUE_VECTORS * lanes)
    }

    /// Lays out the `keys` and `values` of so many `tokens` in `packed`, [`Self::packed_len`] numbers, all of which are written.
    pub fn pack(&self, keys: Rows<'_>, values: Rows<'_>, tokens: usize, packed: &mut [f32]) {
        self.pack_for(lanes(), keys, values, tokens, packed);
    }

    fn pack_for(&self, lanes: usize, keys: Rows<'_>, values: Rows<'_>, tokens: usize, packed: &mut [f32]) {
        let head_dim = self.head_dim;
        let (keys_len, values_len) = (self.keys_len(tokens, lanes), self.values_len(tokens, lanes));
        packed.fill(0.0);
        for (head, packed) in packed.chunks_exact_mut((keys_len + values_len).max(1)).enumerate() {
            let (key_panels, value_panels) = packed.split_at_mut(keys_len);
            let first = head * head_dim;
            for (token, key) in keys.from(first).iter(head_dim).take(tokens).enumerate() {
                let panel = key_panels.chunks_exact_mut(head_dim * lanes).nth(token / lanes);
                for (&number, line) in key.iter().zip(panel.unwrap_or_default().chunks_exact_mut(lanes)) {
                    line.iter_mut().skip(token % lanes).take(1).for_each(|place| *place = number);
                }
            }
            let width = VALUE_VECTORS * lanes;
            for (token, value) in values.from(first).iter(head_dim).take(tokens).enumerate() {
                let lines = value_panels.chunks_exact_mut(width).skip(token).step_by(tokens);
                for (line, numbers) in lines.zip(value.chunks(width)) {
                    line.iter_mut().zip(numbers).for_each(|(place, &number)| *place = number);
                }
            }
        }
    }

    /// `softmax(q k^T / sqrt(head dim)) v` of each of the `queries` over keys and values that [`Self::pack`] laid out, into `out`
    /// `[queries, width]`. `scratch` is for scores and keeps its memory.
    pub fn attend(
        &self,
        queries: Rows<'_>,
        packed: &[f32],
        tokens: usize,
        out: &mut [f32],
        scratch: &mut Vec<f32>,
    ) {
        Arch::new().dispatch(Attend { heads: *self, queries, packed, tokens, out, scratch });
    }
}

struct Attend<'a> {
    heads: Heads,
    queries: Rows<'a>,
    packed: &'a [f32],
    tokens: usize,
    out: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
}

impl WithSimd for Attend<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Attend { heads, queries, packed, tokens, out, scratch } = self;
        let (lanes, width) = (S::F32_LANES, heads.width());
        let (keys_len, values_len) = (heads.keys_len(tokens, lanes), heads.values_len(tokens, lanes));
        if tokens == 0 {
            return out.fill(0.0);
        }
        let padded = tokens.next_multiple_of(lanes);
        scratch.resize(padded * MAX_ROWS, 0.0);
        for (head, packed) in packed.chunks_exact(keys_len + values_len).take(heads.heads).enumerate() {
            let (keys, values) = packed.split_at(keys_len);
            let part = Part { keys, values, tokens, padded, head_dim: heads.head_dim, width };
            let place = head * heads.head_dim;
            for (first, run) in runs::<S>(out.len() / width) {
                let queries = queries.from(first * queries.stride + place);
                let Some(out) = out.get_mut(first * width + place..) else { return };
                with_rows!(run, attend_part::<S>(simd, queries, &part, out, scratch));
            }
        }
    }
}

/// What one head reads, and the shape of what it writes.
struct Part<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    tokens: usize,
    padded: usize,
    head_dim: usize,
    width: usize,
}

#[inline(always)]
fn attend_part<S: Simd, const ROWS: usize>(
    simd: S,
    queries: Rows<'_>,
    part: &Part<'_>,
    out: &mut [f32],
    scores: &mut [f32],
) {
    let &Part { keys, values, tokens, padded, head_dim, width } = part;
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (row, query) in rows.iter_mut().zip(queries.iter(head_dim)) {
        *row = query;
    }
    for (number, keys) in keys.chunks_exact(head_dim * S::F32_LANES).enumerate() {
        let sums = tile(simd, rows, panel::<S, 1>(keys));
        for ([sum], scores) in sums.into_iter().zip(scores.chunks_exact_mut(padded)) {
            if let Some(place) = S::as_mut_simd_f32s(scores).0.get_mut(number) {
                *place = sum;
            }
        }
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut weights: [&[f32]; ROWS] = [&[]; ROWS];
    let mut shares = [0.0; ROWS];
    for ((weights, share), scores) in weights.iter_mut().zip(&mut shares).zip(scores.chunks_exact_mut(padded))
    {
        *share = 1.0 / weigh(simd, scores, tokens, scale);
        *weights = scores.get(..tokens).unwrap_or_default();
    }
    let columns = VALUE_VECTORS * S::F32_LANES;
    for (number, values) in values.chunks_exact(tokens * columns).enumerate() {
        let sums = tile(simd, weights, panel::<S, VALUE_VECTORS>(values));
        for ((sums, share), out) in sums.into_iter().zip(shares).zip(out.chunks_mut(width)) {
            let out = out.get_mut(number * columns..head_dim.min((number + 1) * columns)).unwrap_or_default();
            write_row(simd, sums, out, Share(share));
        }
    }
}

/// What a sum of weights is divided by, its inverse.
#[derive(Clone, Copy)]
struct Share(f32);

impl<S: Simd> Finish<S> for Share {
    #[inline(always)]
    fn finish(self, simd: S, _: usize, sum: S::f32s, _: &[f32]) -> S::f32s {
        simd.mul_f32s(sum, simd.splat_f32s(self.0))
    }
}

/// The scores of `tokens` become their weights, before these are divided by their sum, which is returned; what is behind them
/// weighs nothing.
#[inline(always)]
fn weigh<S: Simd>(simd: S, scores: &mut [f32], tokens: usize, scale: f32) -> f32 {
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

struct AttendOne<'a> {
    heads: Heads,
    query: &'a [f32],
    key_values: Rows<'a>,
    out: &'a mut [f32],
    scratch: &'a mut Vec<f32>,
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use pulp::Scalar;

    use super::*;
    use crate::panels::on_every_kind_of_vectors;

    const HEADS: usize = 3;

    fn numbers(count: usize, seed: usize) -> Vec<f32> {
        (0..count).map(|index| (((index + seed) * 7_919) % 1_009) as f32 / 252.0 - 2.0).collect()
    }

    /// Attention in double precision, of `[queries, width]` over `[tokens, 2 * width]`.
    fn expected(queries: &[f32], key_values: &[f32], head_dim: usize) -> Vec<f64> {
        let width = HEADS * head_dim;
        let mut out = Vec::new();
        for query in queries.chunks(width) {
            for head in 0..HEADS {
                let part = |row: &[f32], first: usize| -> Vec<f64> {
                    row[first + head * head_dim..][..head_dim]
                        .iter()
                        .map(|&number| f64::from(number))
                        .collect()
                };
                let query = part(query, 0);
                let weights: Vec<f64> = key_values
                    .chunks(2 * width)
                    .map(|row| query.iter().zip(part(row, 0)).map(|(q, k)| q * k).sum::<f64>())
                    .map(|score| (score / (head_dim as f64).sqrt()).exp())
                    .collect();
                let total: f64 = weights.iter().sum();
                out.extend((0..head_dim).map(|place| {
                    let values = key_values.chunks(2 * width).map(|row| part(row, width)[place]);
                    values.zip(&weights).map(|(value, weight)| value * weight / total).sum::<f64>()
                }));
            }
        }
        out
    }

    /// Attention of `[queries, width]` over `[tokens, 2 * width]` on each kind of vectors that this processor has: all queries at
    /// once, and one by one.
    fn attend(heads: Heads, queries: &[f32], key_values: &[f32]) -> Vec<[Vec<f32>; 2]> {
        let width = heads.width();
        let (key_values, tokens) =
            (Rows { numbers: key_values, stride: 2 * width }, key_values.len() / (2 * width));
        let (mut found, mut scratch) = (Vec::new(), vec![7.0; 3]);
        on_every_kind_of_vectors!(|simd, lanes| {
            let mut packed = vec![f32::NAN; heads.packed_len_for(tokens, lanes)];
            heads.pack_for(lanes, key_values, key_values.from(width), tokens, &mut packed);
            let (mut out, mut ones) = (vec![0.0; queries.len()], vec![0.0; queries.len()]);
            let rows = Rows { numbers: queries, stride: width };
            let (packed, scratch) = (&packed, &mut scratch);
            Simd::vectorize(simd, Attend { heads, queries: rows, packed, tokens, out: &mut out, scratch });
            for (query, out) in queries.chunks(width).zip(ones.chunks_mut(width)) {
                Simd::vectorize(simd, AttendOne { heads, query, key_values, out, scratch: &mut *scratch });
            }
            found.push([out, ones]);
        });
        found
    }

    proptest! {
        #[test]
        fn it_is_what_double_precision_says(queries in 1usize..30, tokens in 1usize..70, head_dim in 1usize..70) {
            let heads = Heads::new(HEADS, head_dim);
            let width = heads.width();
            let (query, key_values) = (numbers(queries * width, 1), numbers(tokens * 2 * width, 2));
            let expected = expected(&query, &key_values, head_dim);
            for found in attend(heads, &query, &key_values).iter().flatten() {
                for (&found, expected) in found.iter().zip(&expected) {
                    prop_assert!((f64::from(found) - expected).abs() < 2e-5, "{found} for {expected}");
                }
            }
        }

        #[test]
        fn a_query_is_the_same_to_the_bit_in_any_company(
            queries in 1usize..30,
            query in 0usize..30,
            tokens in 1usize..40,
            head_dim in 1usize..40,
        ) {
            let (heads, query) = (Heads::new(HEADS, head_dim), query % queries);
            let width = heads.width();
            let (numbers, key_values) = (numbers(queries * width, 3), numbers(tokens * 2 * width, 4));
            let together = attend(heads, &numbers, &key_values);
            let alone = attend(heads, &numbers[query * width..][..width], &key_values);
            for ([together, _], [alone, _]) in together.iter().zip(&alone) {
                prop_assert_eq!(&alone[..], &together[query * width..][..width]);
            }
        }
    }

    #[test]
    fn scores_far_below_0_still_weigh_against_one_another_and_not_against_padding() {
        let mut key_values = [-40.0; 64];
        key_values[32..].fill(5.0);
        for found in attend(Heads::new(1, 32), &[40.0; 32], &key_values).iter().flatten() {
            assert_eq!(found[..], [5.0; 32]);
        }
    }

    #[test]
    fn a_query_that_is_no_number_gives_none_and_harms_no_other() {
        let mut queries = numbers(2 * 32, 2);
        queries[3] = f32::NAN;
        let mut packed = vec![0.0; Heads::new(1, 32).packed_len(5)];
        let (heads, key_values) = (Heads::new(1, 32), numbers(5 * 2 * 32, 1));
        let key_values = Rows { numbers: &key_values, stride: 64 };
        heads.pack(key_values, key_values.from(32), 5, &mut packed);
        let (queries, mut out) = (Rows { numbers: &queries, stride: 32 }, vec![0.0; 64]);
        heads.attend(queries, &packed, 5, &mut out, &mut Vec::new());
        assert!(out[..32].iter().all(|number| number.is_nan()));
        assert!(out[32..].iter().all(|number| number.is_finite()));
    }

    #[test]
    fn over_no_token_it_is_0() {
        for found in attend(Heads::new(1, 2), &[1.0, 2.0], &[]).iter().flatten() {
            assert_eq!(found[..], [0.0; 2]);
        }
    }
}
