//! Attention of many queries over packed keys and values.

use pulp::{Arch, Simd, WithSimd};

use super::{
    heads::Heads,
    matrix_rows::MatrixRows,
    rounded::{self, AttendRounded, PackRounded},
    softmax::softmax_numerators,
};
use crate::{
    aligned_numbers::AlignedNumbers,
    microkernel::{MAX_TILE_ROWS, Scale, as_panel, multiply_tile, row_tiles, with_tile_rows, write_row},
    vector_len::vector_len,
    weight_lines::F32Lines,
};

/// Vectors in a panel of values.
const VALUE_PANEL_VECTORS: usize = 2;

/// Returns the number of vectors in a panel of keys.
///
/// A tile has up to 12 rows with AVX-512, enough for one vector. Other tiles have 6 and need two.
#[inline(always)]
const fn key_panel_vectors(vector_len: usize) -> usize {
    if vector_len >= 16 { 1 } else { 2 }
}

/// Rounds a number of tokens up to whole panels of keys.
#[inline(always)]
fn padded_tokens(tokens: usize, vector_len: usize) -> usize {
    tokens.next_multiple_of(key_panel_vectors(vector_len) * vector_len)
}

impl Heads {
    /// Returns the number of values that [`Self::pack`] writes for `tokens` tokens.
    #[must_use]
    pub fn packed_len(&self, tokens: usize) -> usize {
        match self.kernel() {
            Some(_) => rounded::packed_len(self, tokens),
            None => self.packed_len_for(tokens, vector_len()),
        }
    }

    pub(super) fn packed_len_for(&self, tokens: usize, vector_len: usize) -> usize {
        self.heads * (self.keys_len(tokens, vector_len) + self.values_len(tokens, vector_len))
    }

    /// Returns the length of a head's packed keys.
    ///
    /// Each panel covers one or two vectors of tokens. It holds as many for each element of a key.
    #[inline(always)]
    fn keys_len(&self, tokens: usize, vector_len: usize) -> usize {
        padded_tokens(tokens, vector_len) * self.head_dim
    }

    /// Returns the length of a head's packed values.
    ///
    /// Each panel covers two vectors of a value's elements. It holds two vectors for each token.
    #[inline(always)]
    fn values_len(&self, tokens: usize, vector_len: usize) -> usize {
        tokens * self.head_dim.next_multiple_of(VALUE_PANEL_VECTORS * vector_len)
    }

    /// Packs the `keys` and `values` of `tokens` tokens, each `[tokens, width]`.
    ///
    /// `packed` has the length [`Self::packed_len`]. Every value in it is written.
    pub fn pack(&self, keys: MatrixRows<'_>, values: MatrixRows<'_>, tokens: usize, packed: &mut [f32]) {
        match self.kernel() {
            Some(kernel) => {
                kernel.vectorize(PackRounded { kernel, heads: *self, keys, values, tokens, packed });
            }
            None => self.pack_for(vector_len(), keys, values, tokens, packed),
        }
    }

    pub(super) fn pack_for(
        &self,
        vector_len: usize,
        keys: MatrixRows<'_>,
        values: MatrixRows<'_>,
        tokens: usize,
        packed: &mut [f32],
    ) {
        let head_dim = self.head_dim;
        let keys_len = self.keys_len(tokens, vector_len);
        let values_len = self.values_len(tokens, vector_len);
        let key_columns = key_panel_vectors(vector_len) * vector_len;
        packed.fill(0.0);
        for (head, packed) in packed.chunks_exact_mut((keys_len + values_len).max(1)).enumerate() {
            let (key_panels, value_panels) = packed.split_at_mut(keys_len);
            let first_column = head * head_dim;
            for (token, key) in keys.skip_columns(first_column).iter(head_dim).take(tokens).enumerate() {
                let panel = key_panels.chunks_exact_mut(head_dim * key_columns).nth(token / key_columns);
                let lines = panel.unwrap_or_default().chunks_exact_mut(key_columns);
                for (&element, line) in key.iter().zip(lines) {
                    line.iter_mut().skip(token % key_columns).take(1).for_each(|packed| *packed = element);
                }
            }
            let width = VALUE_PANEL_VECTORS * vector_len;
            for (token, value) in values.skip_columns(first_column).iter(head_dim).take(tokens).enumerate() {
                let lines = value_panels.chunks_exact_mut(width).skip(token).step_by(tokens);
                for (line, elements) in lines.zip(value.chunks(width)) {
                    line.iter_mut().zip(elements).for_each(|(packed, &element)| *packed = element);
                }
            }
        }
    }

    /// Computes `softmax(q k^T / sqrt(head_dim)) v` for each of the `queries` `[queries, width]`.
    ///
    /// `packed` holds keys and values as [`Self::pack`] writes them. `out` is `[queries, width]`.
    /// `scratch` holds the scores; its memory is reused between calls.
    pub fn attend(
        &self,
        queries: MatrixRows<'_>,
        packed: &[f32],
        tokens: usize,
        out: &mut [f32],
        scratch: &mut AlignedNumbers,
    ) {
        let heads = *self;
        match self.kernel() {
            Some(kernel) => {
                let attend = AttendRounded { kernel, heads, queries, packed, tokens, out, scratch };
                kernel.vectorize(attend);
            }
            None => Arch::new().dispatch(PackedKernel { heads, queries, packed, tokens, out, scratch }),
        }
    }
}

pub(super) struct PackedKernel<'a> {
    pub(super) heads: Heads,
    pub(super) queries: MatrixRows<'a>,
    pub(super) packed: &'a [f32],
    pub(super) tokens: usize,
    pub(super) out: &'a mut [f32],
    pub(super) scratch: &'a mut AlignedNumbers,
}

impl WithSimd for PackedKernel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let PackedKernel { heads, queries, packed, tokens, out, scratch } = self;
        let (vector_len, width) = (S::F32_LANES, heads.width());
        let keys_len = heads.keys_len(tokens, vector_len);
        let values_len = heads.values_len(tokens, vector_len);
        if tokens == 0 {
            return out.fill(0.0);
        }
        let padded_tokens = padded_tokens(tokens, vector_len);
        let scratch = scratch.take(padded_tokens * MAX_TILE_ROWS);
        for (index, packed) in packed.chunks_exact(keys_len + values_len).take(heads.heads).enumerate() {
            let (keys, values) = packed.split_at(keys_len);
            let head = PackedHead { keys, values, tokens, padded_tokens, head_dim: heads.head_dim, width };
            let first_column = index * heads.head_dim;
            for (first, tile_rows) in row_tiles::<S>(out.len() / width) {
                let queries = queries.skip_rows(first).skip_columns(first_column);
                let Some(out) = out.get_mut(first * width + first_column..) else { return };
                with_tile_rows!(tile_rows, attend_tile::<S>(simd, queries, &head, out, scratch));
            }
        }
    }
}

/// The packed keys and values of one head.
struct PackedHead<'a> {
    keys: &'a [f32],
    values: &'a [f32],
    tokens: usize,
    /// `tokens`, rounded up to whole panels of keys.
    padded_tokens: usize,
    head_dim: usize,
    /// Length of an output row, which holds all heads.
    width: usize,
}

#[inline(always)]
fn attend_tile<S: Simd, const ROWS: usize>(
    simd: S,
    queries: MatrixRows<'_>,
    head: &PackedHead<'_>,
    out: &mut [f32],
    scores: &mut [f32],
) {
    let &PackedHead { values, tokens, padded_tokens, head_dim, width, .. } = head;
    let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
    for (row, query) in rows.iter_mut().zip(queries.iter(head_dim)) {
        *row = query;
    }
    match key_panel_vectors(S::F32_LANES) {
        1 => write_scores::<S, ROWS, 1>(simd, rows, head, scores),
        _ => write_scores::<S, ROWS, 2>(simd, rows, head, scores),
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut weights: [&[f32]; ROWS] = [&[]; ROWS];
    let mut inverse_sums = [0.0; ROWS];
    let scores = scores.chunks_exact_mut(padded_tokens);
    for ((weights, inverse_sum), scores) in weights.iter_mut().zip(&mut inverse_sums).zip(scores) {
        *inverse_sum = 1.0 / softmax_numerators(simd, scores, tokens, scale);
        *weights = scores.get(..tokens).unwrap_or_default();
    }
    let columns = VALUE_PANEL_VECTORS * S::F32_LANES;
    for (index, values) in values.chunks_exact(tokens * columns).enumerate() {
        let sums = multiply_tile(simd, weights, as_panel::<S, VALUE_PANEL_VECTORS>(values), F32Lines);
        for ((sums, inverse_sum), out) in sums.into_iter().zip(inverse_sums).zip(out.chunks_mut(width)) {
            let columns = index * columns..head_dim.min((index + 1) * columns);
            write_row(simd, sums, out.get_mut(columns).unwrap_or_default(), Scale(inverse_sum));
        }
    }
}

/// Writes the products of `rows` and the keys of `head` to `scores`.
#[inline(always)]
fn write_scores<S: Simd, const ROWS: usize, const VECTORS: usize>(
    simd: S,
    rows: [&[f32]; ROWS],
    head: &PackedHead<'_>,
    scores: &mut [f32],
) {
    for (index, keys) in head.keys.chunks_exact(head.head_dim * VECTORS * S::F32_LANES).enumerate() {
        let sums = multiply_tile(simd, rows, as_panel::<S, VECTORS>(keys), F32Lines);
        for (sums, scores) in sums.into_iter().zip(scores.chunks_exact_mut(head.padded_tokens)) {
            let panels = S::as_mut_simd_f32s(scores).0.as_chunks_mut::<VECTORS>().0;
            if let Some(scores) = panels.get_mut(index) {
                *scores = sums;
            }
        }
    }
}
