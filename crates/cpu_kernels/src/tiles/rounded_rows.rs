//! The rounded inputs of a product.

use std::cell::RefCell;

use super::{
    kernel::TileKernel,
    layout::{BLOCK_ROWS, Line, TILE_ROWS, Tile},
};
use crate::aligned_numbers::AlignedNumbers;

/// Bytes of rows that are multiplied by all weights before the next rows.
const GROUP_BYTES: usize = 1 << 20;

thread_local! {
    /// Memory for the next products on this thread.
    static REUSED: RefCell<Vec<RoundedRows>> = const { RefCell::new(Vec::new()) };
}

/// Rounded rows, in tiles of 16 rows.
#[derive(Debug, Default)]
pub(crate) struct RoundedRows {
    /// For every 16 rows the tiles of all their lines. What follows the last row is unspecified.
    tiles: AlignedNumbers,
    /// For each row, what the integer 1 stands for.
    scales: Vec<f32>,
    /// Lines of a row.
    lines: usize,
}

/// The lines of a row, in order.
#[derive(Debug)]
pub(crate) struct RowLines<'a> {
    tiles: std::slice::IterMut<'a, Tile>,
    /// The place of the row in its tiles.
    place: usize,
}

impl<'a> Iterator for RowLines<'a> {
    type Item = &'a mut Line;

    #[inline(always)]
    fn next(&mut self) -> Option<&'a mut Line> {
        self.tiles.next()?.get_mut(self.place)
    }
}

/// Up to 32 rows that are multiplied together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RowBlock<'a> {
    pub(crate) tiles: [&'a [Tile]; 2],
    pub(crate) scales: &'a [f32],
}

impl RoundedRows {
    /// Returns memory that an earlier product on this thread has given back.
    pub(crate) fn reused() -> Self {
        REUSED.with_borrow_mut(Vec::pop).unwrap_or_default()
    }

    /// Leaves the memory to later products on this thread.
    pub(crate) fn give_back(self) {
        REUSED.with_borrow_mut(|reused| reused.push(self));
    }

    /// Rounds the first `count` of `rows`, all of `width` numbers.
    pub(crate) fn round<'a>(
        &mut self,
        kernel: TileKernel,
        rows: impl Iterator<Item = &'a [f32]>,
        count: usize,
        width: usize,
    ) {
        self.fill(rows, count, kernel.row_lines(width), |row, lines| kernel.round(row, lines));
    }

    /// Writes the first `count` of `rows`, each of which has `lines` lines. `write` returns what
    /// the integer 1 stands for.
    pub(crate) fn fill<T>(
        &mut self,
        rows: impl Iterator<Item = T>,
        count: usize,
        lines: usize,
        mut write: impl FnMut(T, RowLines<'_>) -> f32,
    ) {
        self.lines = lines;
        let tiles = count.div_ceil(TILE_ROWS) * lines;
        self.tiles.grow(tiles * size_of::<Tile>() / size_of::<f32>());
        self.scales.clear();
        let tiles: &mut [Tile] = self.tiles.cast_mut();
        let mut tiles = tiles.chunks_exact_mut(lines.max(1));
        let mut of_rows: &mut [Tile] = &mut [];
        for (index, row) in rows.take(count).enumerate() {
            let place = index % TILE_ROWS;
            if place == 0 {
                of_rows = tiles.next().unwrap_or_default();
            }
            self.scales.push(write(row, RowLines { tiles: of_rows.iter_mut(), place }));
        }
    }

    /// Returns the number of rows.
    pub(crate) fn len(&self) -> usize {
        self.scales.len()
    }

    /// Returns the tiles of `rows` rows in bf16, each of which has `lines` lines. The caller writes
    /// them.
    pub(crate) fn begin_bf16(&mut self, rows: usize, lines: usize) -> &mut [Tile] {
        self.lines = lines;
        self.scales.clear();
        self.scales.resize(rows, 1.0);
        let tiles = rows.div_ceil(TILE_ROWS) * lines;
        self.tiles.grow(tiles * size_of::<Tile>() / size_of::<f32>());
        self.tiles.cast_mut().get_mut(..tiles).unwrap_or_default()
    }

    /// Returns the blocks of rows in groups whose rows fit into a core's second cache.
    pub(crate) fn groups_of_blocks(
        &self,
    ) -> impl Iterator<Item = impl ExactSizeIterator<Item = RowBlock<'_>> + Clone> {
        let of_block = BLOCK_ROWS * self.lines * size_of::<Line>();
        let blocks = self.scales.len().div_ceil(BLOCK_ROWS);
        let groups = (blocks * of_block).div_ceil(GROUP_BYTES).max(1);
        let of_group = blocks.div_ceil(groups).max(1);
        (0..blocks).step_by(of_group).map(move |first| self.blocks_from(first, of_group.min(blocks - first)))
    }

    /// Returns the blocks of rows, in order.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = RowBlock<'_>> {
        self.blocks_from(0, self.scales.len().div_ceil(BLOCK_ROWS))
    }

    fn blocks_from(&self, first: usize, count: usize) -> impl ExactSizeIterator<Item = RowBlock<'_>> + Clone {
        let tiles: &[Tile] = self.tiles.cast();
        let tiles = tiles.chunks(2 * self.lines.max(1)).skip(first);
        self.scales.chunks(BLOCK_ROWS).skip(first).take(count).zip(tiles).map(|(scales, tiles)| {
            let (first, second) = tiles.split_at(self.lines.min(tiles.len()));
            let second = if scales.len() > TILE_ROWS { second } else { &[] };
            RowBlock { tiles: [first, second], scales }
        })
    }
}
