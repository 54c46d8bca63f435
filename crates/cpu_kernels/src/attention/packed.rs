//! Attention over packed keys and values.

use pulp::{Arch, Simd, WithSimd};

use super::{heads::Heads, rows::Rows, softmax::weigh};
use crate::{
    microkernel::{Finish, MAX_ROWS, panel, runs, tile, with_rows, write_row},
    packed_panels::lanes,
};

/// Vectors of a panel of values; one of keys has a single one.
const VALUE_VECTORS: usize = 2;

impl Heads {
    /// Numbers that [`Self::pack`] makes of so many tokens.
    #[must_use]
    pub fn packed_len(&self, tokens: usize) -> usize {
        self.packed_len_for(tokens, lanes())
    }

    pub(super) fn packed_len_for(&self, tokens: usize, lanes: usize) -> usize {
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

    pub(super) fn pack_for(
        &self,
        lanes: usize,
        keys: Rows<'_>,
        values: Rows<'_>,
        tokens: usize,
        packed: &mut [f32],
    ) {
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

pub(super) struct Attend<'a> {
    pub(super) heads: Heads,
    pub(super) queries: Rows<'a>,
    pub(super) packed: &'a [f32],
    pub(super) tokens: usize,
    pub(super) out: &'a mut [f32],
    pub(super) scratch: &'a mut Vec<f32>,
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
