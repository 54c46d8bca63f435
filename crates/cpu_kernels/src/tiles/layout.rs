//! The layout of rounded numbers in memory.

use bytemuck::cast_slice_mut;

/// Groups of inputs in a line.
pub(crate) const LINE_GROUPS: usize = 16;

/// Rows in a tile.
pub(crate) const TILE_ROWS: usize = 16;

/// Rows that are multiplied by a panel together: two tiles.
pub(crate) const BLOCK_ROWS: usize = 2 * TILE_ROWS;

/// Columns in a panel.
pub(crate) const PANEL_COLUMNS: usize = 32;

/// 64 bytes. Each number holds a group of adjacent inputs: two in bf16 or four in int8.
pub(crate) type Line = [u32; LINE_GROUPS];

/// A line of each of 16 rows.
pub(crate) type Tile = [Line; TILE_ROWS];

/// The weights of 32 columns for the inputs of a line: for each group of inputs one number for each
/// column.
pub(crate) type PanelTile = [[Line; 2]; LINE_GROUPS];

/// A number format of rounded inputs and weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TileFormat {
    /// Products are added up in f32.
    Bf16,
    /// Products are added up in 32-bit integers.
    Int8,
}

impl TileFormat {
    /// Returns the number of inputs that one number of a line holds.
    pub(crate) const fn group_inputs(self) -> usize {
        match self {
            Self::Bf16 => 2,
            Self::Int8 => 4,
        }
    }

    /// Returns the number of lines that hold `inputs` inputs, or their weights for a column.
    pub(crate) const fn lines(self, inputs: usize) -> usize {
        inputs.div_ceil(LINE_GROUPS * self.group_inputs())
    }
}

/// Cuts a row into chunks. The second result is the incomplete last chunk, filled up with zeros.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
pub(crate) fn padded_chunks<const N: usize>(row: &[f32]) -> (&[[f32; N]], Option<[f32; N]>) {
    let (chunks, tail) = row.as_chunks::<N>();
    let mut last = [0.0; N];
    for (padded, &value) in last.iter_mut().zip(tail) {
        *padded = value;
    }
    (chunks, if tail.is_empty() { None } else { Some(last) })
}

/// The sums of a block of rows and a panel.
#[derive(Debug, Default)]
#[repr(align(64))]
pub(crate) struct Sums(pub(crate) [[Line; 2]; BLOCK_ROWS]);

impl Sums {
    /// Returns the sums as rows.
    pub(crate) fn rows(&mut self) -> SumRows<'_> {
        SumRows { numbers: cast_slice_mut(&mut self.0), stride: PANEL_COLUMNS }
    }
}

/// Where the sums of a block go: 32 numbers for each row.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "the fallback does not write"))]
pub(crate) struct SumRows<'a> {
    /// The numbers, from the first one of the first row.
    pub(crate) numbers: &'a mut [f32],
    /// The distance between two adjacent rows, at least 32.
    pub(crate) stride: usize,
}

/// Where the rounded results of a block and a panel go.
#[derive(Debug)]
#[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "the fallback does not write"))]
pub(crate) struct MatrixPart<'a> {
    /// The numbers in bf16, from the first one of the first row.
    pub(crate) numbers: &'a mut [u16],
    /// The distance between two adjacent rows.
    pub(crate) stride: usize,
    /// The first column of the panel.
    pub(crate) first_column: usize,
}
