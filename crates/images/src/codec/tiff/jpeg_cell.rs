//! Decodes strips and tiles that are compressed as JPEG.
//!
//! The tables of all cells are in a tag. Whatever the markers of a cell declare, the tags of the
//! page decide the colours.

use crate::{
    codec::{
        jpeg::{Decompressor, Failure, OutputColor},
        tiff::errors::{corrupt, truncated, unsupported},
    },
    error::DecodeError,
};

pub(super) const JPEG_TABLES: u16 = 347;

/// The largest accepted number of JPEG files in a page.
///
/// Each costs the setup of a decoder. The largest allowed image has some 1,600 tiles of 128 x 128.
pub(super) const MAX_JPEG_CELLS: usize = 1 << 14;

/// Upper bound of libjpeg's memory for a cell of one scan, in rows of the cell.
pub(super) const WORKING_ROWS: u64 = 64;

/// Decodes a JPEG of `size` pixels and `samples` samples to `out`.
///
/// libjpeg allocates memory by the size in the JPEG itself, so another size is an error. The last
/// strip may have all `full_rows` rows of the others.
pub(super) fn decode(
    tables: Option<&[u8]>,
    data: &[u8],
    (size, samples): ((u32, u32), usize),
    full_rows: u32,
    is_ycbcr: bool,
    out: &mut [u8],
) -> Result<(), DecodeError> {
    let file = Decompressor::open(tables, data, 1).map_err(decode_error)?;
    let is_full = file.size() == (size.0, full_rows) && full_rows > size.1;
    if file.components() != samples || file.size() != size && !is_full {
        let ((width, height), components) = (file.size(), file.components());
        return Err(corrupt(format_args!(
            "JPEG of {width} x {height} pixels and {components} components in a strip or tile of {} x {} \
             pixels and {samples} samples",
            size.0, size.1
        )));
    }
    if file.has_multiple_scans() {
        return Err(unsupported("progressive JPEG in a strip or tile"));
    }
    let color = if is_ycbcr { OutputColor::RgbOfYcbcr } else { OutputColor::Stored };
    if is_full {
        let mut whole = vec![0; size.0 as usize * full_rows as usize * samples];
        file.read(color, false, &mut whole).map_err(decode_error)?;
        out.iter_mut().zip(whole).for_each(|(to, from)| *to = from);
        return Ok(());
    }
    file.read(color, false, out).map_err(decode_error)
}

fn decode_error(failure: Failure) -> DecodeError {
    match failure {
        Failure::Truncated => truncated(),
        Failure::TooManyScans => unsupported("JPEG of several scans in a strip or tile"),
        Failure::Invalid(message) => corrupt(message),
    }
}
