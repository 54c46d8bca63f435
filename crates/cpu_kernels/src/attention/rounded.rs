//! Attention of many queries over keys and values that are rounded to bf16.

use std::ops::Range;

use bytemuck::{cast_slice, cast_slice_mut, must_cast_ref};
use pulp::{Simd, WithSimd};

use super::{heads::Heads, matrix_rows::MatrixRows};
use crate::{
    aligned_numbers::AlignedNumbers,
    microkernel::{Scale, write_columns},
    tiles::{
        kernel::{Bf16Kernel, PreparedKernel},
        layout::{
            BLOCK_ROWS, LINE_GROUPS, Line, PANEL_COLUMNS, PanelTile, SumRows, Sums, TILE_ROWS, TileFormat,
        },
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
        let layout = Layout::new(&heads, tokens);
        let tiles: &mut [PanelTile] = cast_slice_mut(packed);
        let mut block = TokenBlock::default();
        for (head, tiles) in tiles.chunks_exact_mut((layout.keys() + layout.values()).max(1)).enumerate() {
            let (key_tiles, value_tiles) = tiles.split_at_mut(layout.keys());
            for (panel, key_tiles) in key_tiles.chunks_exact_mut(layout.key_lines).enumerate() {
                let first = panel * LINE_TOKENS;
                let tokens = first..tokens.min(first + LINE_TOKENS);
                for (line, key_tile) in key_tiles.iter_mut().enumerate() {
                    let element = line * PANEL_COLUMNS;
                    let (column, width) = (head * heads.head_dim + element, heads.head_dim - element);
                    keys.skip_columns(column).read(kernel, tokens.clone(), width, &mut block.0);
                    kernel.transpose(&block.0, key_tile);
                    if let Some(value_tile) = value_tiles.get_mut(line * layout.token_lines + panel) {
                        values.skip_columns(column).read(kernel, tokens.clone(), width, &mut block.0);
                        kernel.pair_rows(&block.0, value_tile);
                    }
                }
            }
        }
    }
}

/// 32 numbers of 32 tokens, rounded.
#[derive(Debug, Default)]
#[repr(align(64))]
struct TokenBlock([Line; BLOCK_ROWS]);

/// Computes attention, see [`Heads::attend`].
pub(super) struct AttendRounded<'a> {
    pub(super) kernel: Bf16Kernel,
    pub(super) heads: Heads,
    pub(super) queries: MatrixRows<'a>,
    pub(super) packed: &'a [f32],
    pub(super) tokens: usize,
    pub(super) out: &'a mut [f32],
    pub(super) scratch: &'a mut AlignedNumbers,
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
        let scratch = scratch.take(layout.token_lines * LINE_TOKENS * BLOCK_ROWS);
        let packed: &[PanelTile] = cast_slice(packed);
        for (index, tiles) in
            packed.chunks_exact(layout.keys() + layout.values()).take(heads.heads).enumerate()
        {
            let (keys, values) = tiles.split_at(layout.keys());
            let columns = index * heads.head_dim..(index + 1) * heads.head_dim;
            let head = RoundedHead { kernel, prepared: &prepared, layout, keys, values, tokens };
            let lines = layout.key_lines;
            let tiles = of_queries.begin_bf16(rows, lines);
            for (first, tiles) in (0..rows).step_by(TILE_ROWS).zip(tiles.chunks_exact_mut(lines)) {
                let rows = first..rows.min(first + TILE_ROWS);
                for (element, tile) in (0..heads.head_dim).step_by(PANEL_COLUMNS).zip(tiles) {
                    let queries = queries.skip_columns(columns.start + element);
                    queries.read(kernel, rows.clone(), heads.head_dim - element, tile);
                }
            }
            for (block, out) in of_queries.blocks().zip(out.chunks_mut(BLOCK_ROWS * width)) {
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
        for (index, panel) in keys.chunks_exact(layout.key_lines).enumerate() {
            let numbers = scores.get_mut(index * PANEL_COLUMNS..).unwrap_or_default();
            prepared.multiply_bf16(queries.tiles, rows, panel, SumRows { numbers, stride: padded });
        }
        let scale = 1.0 / (columns.len() as f32).sqrt();
        let mut inverse_sums = [0.0; BLOCK_ROWS];
        let all_scores = scores.chunks_exact_mut(padded).zip(&mut inverse_sums).take(rows);
        let numerators = |(scores, inverse_sum): (&mut [f32], &mut f32), lines: RowLines<'_>| {
            *inverse_sum = 1.0 / kernel.round_softmax(scores, tokens, scale, lines);
            1.0
        };
        rounded.fill(all_scores, rows, layout.token_lines, numerators);
        let (Some(weights), mut sums) = (rounded.blocks().next(), Sums::default()) else { return };
        for (index, panel) in values.chunks_exact(layout.token_lines).enumerate() {
            prepared.multiply_bf16(weights.tiles, rows, panel, sums.rows());
            let rows = sums.0.iter().zip(inverse_sums).take(rows).zip(out.chunks_exact_mut(width));
            for ((sums, inverse_sum), out) in rows {
                let out = out.get_mut(columns.clone()).unwrap_or_default();
                let out = out.get_mut(index * PANEL_COLUMNS..).unwrap_or_default();
                write_columns::<S, PANEL_COLUMNS>(simd, must_cast_ref(sums), out, Scale(inverse_sum));
            }
        }
    }
}
