//! Decompresses bilevel rows that are coded as facsimiles: ITU-T T.4 and T.6.

use hayro_ccitt::{DecodeSettings, Decoder, DecoderContext, EncodingMode, decode};

use crate::{codec::tiff::errors::corrupt, error::DecodeError};

/// A coding of facsimiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fax {
    /// Compression 2: rows in one dimension that begin at bytes, without marks of their ends.
    Rows,
    /// Compression 3: rows with marks of their ends.
    Group3 {
        /// Whether rows may refer to the row above.
        is_two_dimensional: bool,
    },
    /// Compression 4: all rows refer to the row above.
    Group4,
}

impl Fax {
    /// Returns the coding of compression 3 with this value of `T4Options`.
    pub(super) fn group3(options: u64) -> Self {
        Self::Group3 { is_two_dimensional: options & 1 == 1 }
    }
}

/// Decompresses rows of `width` bits, 1 for black, to `out`. Returns the bytes of complete rows.
pub(super) fn decompress(
    fax: Fax,
    data: &[u8],
    out: &mut [u8],
    row_bytes: usize,
    width: u32,
) -> Result<usize, DecodeError> {
    out.fill(0);
    let rows = out.len().checked_div(row_bytes).unwrap_or(0);
    let settings = DecodeSettings {
        columns: width,
        rows: u32::try_from(rows).unwrap_or(u32::MAX),
        end_of_block: true,
        end_of_line: matches!(fax, Fax::Group3 { .. }),
        // Group 3 may fill bits before the mark of a row's end. The decoder skips them.
        rows_are_byte_aligned: fax == Fax::Rows,
        encoding: match fax {
            Fax::Group4 => EncodingMode::Group4,
            Fax::Group3 { is_two_dimensional: true } => EncodingMode::Group3_2D,
            Fax::Group3 { is_two_dimensional: false } | Fax::Rows => EncodingMode::Group3_1D,
        },
        strict: false,
    };
    let mut sink = Rows { width, rows: out.chunks_exact_mut(row_bytes.max(1)), complete: 0 };
    let result = decode(data, &mut sink, &mut DecoderContext::new(settings));
    let decoded = sink.complete * row_bytes;
    match result {
        Err(_) if decoded == 0 => Err(corrupt("invalid facsimile code")),
        _ => Ok(decoded),
    }
}

/// Writes rows of colour changes as bits.
struct Rows<'a> {
    width: u32,
    rows: std::slice::ChunksExactMut<'a, u8>,
    complete: usize,
}

impl Decoder for Rows<'_> {
    fn push_row(&mut self, changes: &[u32]) {
        let Some(row) = self.rows.next() else { return };
        self.complete += 1;
        for run in changes.chunks(2) {
            let start = run.first().copied().unwrap_or(self.width);
            let end = run.get(1).copied().unwrap_or(self.width).min(self.width);
            fill(row, start as usize, end as usize);
        }
    }
}

/// Sets the bits from `start` to `end`.
fn fill(row: &mut [u8], start: usize, end: usize) {
    for (n, byte) in row.iter_mut().enumerate().take(end.div_ceil(8)).skip(start / 8) {
        let from = start.saturating_sub(n * 8).min(8);
        let to = (end - n * 8).min(8);
        *byte |= ((0xFF00u16 >> to) as u8) & ((0xFFu16 >> from) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_set_from_start_to_end() {
        for (start, end) in [(0, 0), (0, 1), (3, 5), (7, 9), (0, 24), (8, 16), (5, 23)] {
            let mut row = [0u8; 3];
            fill(&mut row, start, end);
            for bit in 0..24 {
                let is_set = row[bit / 8] >> (7 - bit % 8) & 1 == 1;
                assert_eq!(is_set, (start..end).contains(&bit), "{start}..{end} at {bit}");
            }
        }
    }
}
