//! Attention of many queries over keys and values that are rounded to bf16.

use std::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut, must_cast, must_cast_ref};
use pulp::{Simd, WithSimd};

use super::{heads::Heads, matrix_rows::MatrixRows};
use crate::{
    microkernel::{Scale, write_columns},
    tiles::{
        kernel::{Bf16Kernel, PreparedKernel},
        layout::{BLOCK_ROWS, LINE_GROUPS, PANEL_COLUMNS, PanelTile, Sums, TileFormat},
        rounded_rows::{RoundedRows, RowBlock, RowLines},
    },
};

/// Tokens that a line of weights covers.
const LINE_TOKENS: usize = 2 * LINE_GROUPS;

/// The layout of a head's packed keys and values.
#[derive(Clone, Copy)]
struct Layout {
    /// Lines of a key.
    key_lines: usize,
    /// Panels of keys, and lines of a column of values.
    token_lines: usize,
    /// Panels of values.
    value_panels: usize,
}

impl Layout {
    fn new(heads: &Heads, tokens: usize) -> Self {
        Self {
            key_lines: TileFormat::Bf16.lines(heads.head_dim),
            token_lines: tokens.div_ceil(LINE_TOKENS),
            value_panels: heads.head_dim.div_ceil(PANEL_COLUMNS),
        }
    }

    /// Returns the number of panel tiles of the keys.
    fn keys(self) -> usize {
        self.token_lines * self.key_lines
    }

    /// Returns the number of panel tiles of the values.
    fn values(self) -> usize {
        self.value_panels * self.token_lines
    }
}

/// Returns the number of values that [`PackRounded`] writes.
pub(super) fn packed_len(heads: &Heads, tokens: usize) -> usize {
    let layout = Layout::new(heads, tokens);
    heads.heads * (layout.keys() + layout.values()) * size_of::<PanelTile>() / size_of::<f32>()
}

/// Rounds and packs keys and values, see [`Heads::pack`].
///
/// Keys are a panel's columns, with a line for 32 elements. Values are its inputs: a line has the
/// same element of 32 tokens.
pub(super) struct PackRounded<'a> {
    pub(super) kernel: Bf16Kernel,
    pub(super) heads: Heads,
    pub(super) keys: MatrixRows<'a>,
    pub(super) values: MatrixRows<'a>,
    pub(super) tokens: usize,
    pub(super) packed: &'a mut [f32],
}

impl WithSimd for PackRounded<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { kernel, heads, keys, values, tokens, packed } = self;
        let (layout, head_dim) = (Layout::new(&heads, tokens), heads.head_dim);
        packed.fill(0.0);
        let tiles: &mut [PanelTile] = cast_slice_mut(packed);
        for (head, tiles) in tiles.chunks_exact_mut((layout.keys() + layout.values()).max(1)).enumerate() {
            let (key_tiles, value_tiles) = tiles.split_at_mut(layout.keys());
            let (keys, values) = (keys.skip_columns(head * head_dim), values.skip_columns(head * head_dim));
            for (token, key) in keys.iter(head_dim).take(tokens).enumerate() {
                let place = token % PANEL_COLUMNS;
                let panel = key_tiles.chunks_exact_mut(layout.key_lines).nth(token / PANEL_COLUMNS);
                for (tile, elements) in panel.unwrap_or_default().iter_mut().zip(key.chunks(LINE_TOKENS)) {
                    let mut line = [0; LINE_GROUPS];
                    kernel.tiles().round(elements, std::iter::once(&mut line));
                    for (halves, group) in tile.iter_mut().zip(line) {
                        let half = halves.get_mut(place / LINE_GROUPS);
                        if let Some(packed) = half.and_then(|half| half.get_mut(place % LINE_GROUPS)) {
                            *packed = group;
                        }
                    }
                }
            }
            let mut tokens = values.iter(head_dim).take(tokens);
            let mut pair = 0;
            while let Some(first) = tokens.next() {
                let second = tokens.next().unwrap_or_default();
                let mut columns = first.chunks(LINE_GROUPS).zip(0..);
                for panel in value_tiles.chunks_exact_mut(layout.token_lines) {
                    let tile = panel.get_mut(pair / LINE_GROUPS);
                    let halves = tile.and_then(|tile| tile.get_mut(pair % LINE_GROUPS));
                    for (packed, (first, index)) in halves.into_iter().flatten().zip(&mut columns) {
                        let second = second.chunks(LINE_GROUPS).nth(index).unwrap_or_default();
                        *packed = kernel.pair(first, second);
                    }
                }
                pair += 1;
            }
        }
    }
}

/// Computes attention, see [`Heads::attend`].
pub(super) struct AttendRounded<'a> {
    pub(super) kernel: Bf16Kernel,
    pub(super) heads: Heads,
    pub(super) queries: MatrixRows<'a>,
    pub(super) packed: &'a [f32],
    pub(super) tokens: usize,
    pub(super) out: &'a mut [f32],
    pub(super) scratch: &'a mut Vec<f32>,
}

impl WithSimd for AttendRounded<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { kernel, heads, queries, packed, tokens, out, scratch } = self;
        if tokens == 0 {
            return out.fill(0.0);
        }
        let (layout, width) = (Layout::new(&heads, tokens), heads.width());
        let (rows, prepared) = (out.len() / width, kernel.tiles().prepare());
        let mut rounded = [RoundedRows::reused(), RoundedRows::reused()];
        let [of_queries, of_scores] = &mut rounded;
        scratch.resize(layout.token_lines * LINE_TOKENS * BLOCK_ROWS, 0.0);
        let packed: &[PanelTile] = cast_slice(packed);
        for (index, tiles) in
            packed.chunks_exact(layout.keys() + layout.values()).take(heads.heads).enumerate()
        {
            let (keys, values) = tiles.split_at(layout.keys());
            let first_column = index * heads.head_dim;
            let head = RoundedHead { kernel, prepared: &prepared, layout, keys, values, tokens };
            let of_head = queries.skip_columns(first_column).iter(heads.head_dim);
            of_queries.round(kernel.tiles(), of_head, rows, heads.head_dim);
            let columns = first_column..first_column + heads.head_dim;
            let mut rest = &mut *out;
            for block in of_queries.blocks() {
                let (out, others) = rest.split_at_mut((block.scales.len() * width).min(rest.len()));
                rest = others;
                let place = Place { out, width, columns: columns.clone() };
                head.attend(simd, block, scratch, of_scores, place);
            }
        }
        rounded.into_iter().for_each(RoundedRows::give_back);
    }
}

/// Where the results of a head go.
struct Place<'a> {
    /// `[rows, width]`.
    out: &'a mut [f32],
    width: usize,
    columns: Range<usize>,
}

/// The packed keys and values of one head.
struct RoundedHead<'a> {
    kernel: Bf16Kernel,
    prepared: &'a PreparedKernel,
    layout: Layout,
    keys: &'a [PanelTile],
    values: &'a [PanelTile],
    tokens: usize,
}

impl RoundedHead<'_> {
    /// Computes the results of up to 32 queries. `scores` and `rounded` are scratch memory.
    #[inline(always)]
    fn attend<S: Simd>(
        &self,
        simd: S,
        queries: RowBlock<'_>,
        scores: &mut [f32],
        rounded: &mut RoundedRows,
        place: Place<'_>,
    ) {
        let Self { kernel, prepared, layout, keys, values, tokens } = *self;
        let Place { out, width, columns } = place;
        let (rows, padded) = (queries.scales.len(), layout.token_lines * LINE_TOKENS);
        let mut sums = Sums::default();
        for (index, panel) in keys.chunks_exact(layout.key_lines).enumerate() {
            prepared.multiply(queries.tiles, rows, panel, &Default::default(), &[], &mut sums.0);
            for (sums, scores) in sums.0.iter().take(rows).zip(scores.chunks_exact_mut(padded)) {
                let scores = scores.as_chunks_mut::<PANEL_COLUMNS>().0.get_mut(index);
                *scores.unwrap_or(&mut [0.0; PANEL_COLUMNS]) = must_cast(*sums);
            }
        }
        let scale = 1.0 / (columns.len() as f32).sqrt();
        let mut inverse_sums = [0.0; BLOCK_ROWS];
        let all_scores = scores.chunks_exact_mut(padded).zip(&mut inverse_sums).take(rows);
        let numerators = |(scores, inverse_sum): (&mut [f32], &mut f32), lines: RowLines<'_>| {
            *inverse_sum = 1.0 / kernel.round_softmax(scores, tokens, scale, lines);
            1.0
        };
        rounded.fill(all_scores, rows, layout.token_lines, numerators);
        let Some(weights) = rounded.blocks().next() else { return };
        for (index, panel) in values.chunks_exact(layout.token_lines).enumerate() {
            prepared.multiply(weights.tiles, rows, panel, &Default::default(), &[], &mut sums.0);
            let rows = sums.0.iter().zip(inverse_sums).take(rows).zip(out.chunks_exact_mut(width));
            for ((sums, inverse_sum), out) in rows {
                let out = out.get_mut(columns.clone()).unwrap_or_default();
                let out = out.get_mut(index * PANEL_COLUMNS..).unwrap_or_default();
                write_columns::<S, PANEL_COLUMNS>(simd, must_cast_ref(sums), out, Scale(inverse_sum));
            }
        }
    }
}
