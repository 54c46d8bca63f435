//! Rows of a matrix, or columns of each.

use std::ops::Range;

use crate::tiles::{kernel::Bf16Kernel, layout::Line};

/// Rows of a matrix that begin at a constant distance.
///
/// They are in f32, or in the format of [`Heads::rows`](crate::Heads::rows).
#[derive(Clone, Copy, Debug)]
pub struct MatrixRows<'a> {
    numbers: Numbers<'a>,
    /// The distance between the first numbers of two adjacent rows.
    stride: usize,
}

/// The numbers, from the first one of the first row.
#[derive(Clone, Copy, Debug)]
enum Numbers<'a> {
    F32(&'a [f32]),
    Bf16(&'a [u16]),
}

impl<'a> MatrixRows<'a> {
    /// Creates rows of `numbers`, from the first one of the first row. Two adjacent rows begin at
    /// the distance `stride`.
    #[must_use]
    pub fn new(numbers: &'a [f32], stride: usize) -> Self {
        Self { numbers: Numbers::F32(numbers), stride: stride.max(1) }
    }

    pub(super) fn bf16(numbers: &'a [u16], stride: usize) -> Self {
        Self { numbers: Numbers::Bf16(numbers), stride: stride.max(1) }
    }

    /// Returns the rows without their first `count` columns.
    #[must_use]
    pub fn skip_columns(self, count: usize) -> Self {
        let numbers = match self.numbers {
            Numbers::F32(numbers) => Numbers::F32(numbers.get(count..).unwrap_or_default()),
            Numbers::Bf16(numbers) => Numbers::Bf16(numbers.get(count..).unwrap_or_default()),
        };
        Self { numbers, ..self }
    }

    /// Returns the rows without the first `count` rows.
    #[must_use]
    pub fn skip_rows(self, count: usize) -> Self {
        self.skip_columns(count * self.stride)
    }

    /// Returns the first `width` numbers of each row in f32. Rows in bf16 have none.
    #[inline(always)]
    pub(super) fn iter(self, width: usize) -> impl Iterator<Item = &'a [f32]> {
        let numbers = match self.numbers {
            Numbers::F32(numbers) => numbers,
            Numbers::Bf16(_) => &[],
        };
        numbers.chunks(self.stride).filter_map(move |row| row.get(..width))
    }

    /// Writes the first `width` numbers, at most 32, of each of the `rows` to one of `lines`,
    /// rounded. Zeros fill the rest.
    #[inline(always)]
    pub(super) fn read(self, kernel: Bf16Kernel, rows: Range<usize>, width: usize, lines: &mut [Line]) {
        let (stride, start, end) = (self.stride, rows.start * self.stride, rows.end * self.stride);
        match self.numbers {
            Numbers::F32(all) => {
                let rows = all.get(start..end.min(all.len())).unwrap_or_default();
                kernel.round_rows(rows, stride, width, lines);
            }
            Numbers::Bf16(all) => {
                let rows = all.get(start..end.min(all.len())).unwrap_or_default();
                kernel.copy_rows(rows, stride, width, lines);
            }
        }
    }
}
