//! The strips or tiles of a page: where they lie in the image and in the file.

use std::ops::Range;

use crate::{
    codec::tiff::{directory::Directory, errors::corrupt},
    error::DecodeError,
};

const STRIP_OFFSETS: u16 = 273;
const ROWS_PER_STRIP: u16 = 278;
const STRIP_BYTE_COUNTS: u16 = 279;
const TILE_WIDTH: u16 = 322;
const TILE_LENGTH: u16 = 323;
const TILE_OFFSETS: u16 = 324;
const TILE_BYTE_COUNTS: u16 = 325;

/// The strips or tiles of each plane, row by row.
pub(super) struct Grid {
    image: (u32, u32),
    /// Width and height of a whole tile or strip, in pixels.
    pub(super) cell: (u32, u32),
    across: usize,
    down: usize,
    is_tiled: bool,
    offsets: Vec<u64>,
    byte_counts: Option<Vec<u64>>,
}

/// A strip or tile.
pub(super) struct Cell {
    /// The position among the cells of one plane.
    pub(super) index: usize,
    /// The position in the image, in pixels.
    pub(super) origin: (u32, u32),
    /// The stored rows. The last strip has fewer than the others, and the last tile has not.
    pub(super) rows: u32,
    /// The columns and rows inside the image.
    pub(super) visible: (u32, u32),
}

impl Grid {
    pub(super) fn read(
        directory: &Directory<'_>,
        image: (u32, u32),
        planes: usize,
    ) -> Result<Self, DecodeError> {
        let (width, height) = image;
        let is_tiled = directory.value(TILE_OFFSETS)?.is_some();
        let (cell, offsets, byte_counts) = if is_tiled {
            let side = |tag| {
                let side = directory.value(tag)?.and_then(|side| u32::try_from(side).ok());
                side.filter(|&side| side > 0).ok_or_else(|| corrupt("tiles without a size"))
            };
            let cell = (side(TILE_WIDTH)?, side(TILE_LENGTH)?);
            (cell, directory.values(TILE_OFFSETS)?, directory.values(TILE_BYTE_COUNTS)?)
        } else {
            let rows = directory.value(ROWS_PER_STRIP)?.filter(|&rows| rows > 0);
            let rows = rows.map_or(height, |rows| u32::try_from(rows).unwrap_or(height).min(height));
            ((width, rows), directory.values(STRIP_OFFSETS)?, directory.values(STRIP_BYTE_COUNTS)?)
        };
        let across = width.div_ceil(cell.0.max(1)) as usize;
        let down = height.div_ceil(cell.1.max(1)) as usize;
        let offsets = offsets.unwrap_or_default();
        let cells = across.saturating_mul(down).saturating_mul(planes);
        if offsets.len() < cells {
            return Err(corrupt(format_args!("{} strips or tiles, {cells} expected", offsets.len())));
        }
        // Some old files lack the counts.
        let byte_counts = byte_counts.filter(|counts| counts.len() >= cells);
        Ok(Self { image, cell, across, down, is_tiled, offsets, byte_counts })
    }

    /// Returns the number of cells of one plane.
    pub(super) fn len(&self) -> usize {
        self.across * self.down
    }

    pub(super) fn cells(&self) -> impl Iterator<Item = Cell> {
        (0..self.len()).map(|index| {
            // Both factors are within the image.
            let (x, y) =
                ((index % self.across) as u32 * self.cell.0, (index / self.across) as u32 * self.cell.1);
            let visible = ((self.image.0 - x).min(self.cell.0), (self.image.1 - y).min(self.cell.1));
            let rows = if self.is_tiled { self.cell.1 } else { visible.1 };
            Cell { index, origin: (x, y), rows, visible }
        })
    }

    /// Returns the bytes of a cell in the file, or `None` if it begins behind the end of the file.
    ///
    /// A cell without a byte count has all bytes up to the end of the file.
    pub(super) fn bytes<'a>(&self, file: &'a [u8], index: usize) -> Option<&'a [u8]> {
        file.get(self.range(file, index))
    }

    /// Returns the bytes of a cell from its offset to the end of the file.
    pub(super) fn bytes_to_end<'a>(&self, file: &'a [u8], index: usize) -> Option<&'a [u8]> {
        file.get(self.range(file, index).start..)
    }

    /// Returns the sum of the bytes of all cells. Cells may share bytes.
    pub(super) fn total_bytes(&self, file: &[u8]) -> u64 {
        (0..self.offsets.len()).map(|index| self.range(file, index).len() as u64).sum()
    }

    fn range(&self, file: &[u8], index: usize) -> Range<usize> {
        let number =
            |values: &[u64]| values.get(index).map(|&value| usize::try_from(value).unwrap_or(usize::MAX));
        let start = number(&self.offsets).unwrap_or(usize::MAX);
        let length = self.byte_counts.as_deref().and_then(number).unwrap_or(usize::MAX);
        start..start.saturating_add(length).min(file.len()).max(start)
    }
}
