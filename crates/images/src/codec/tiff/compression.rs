//! Decompresses a strip or tile into a buffer of the size that the page describes.
//!
//! Each decoder stops when the buffer is full, so no data can expand beyond it.

use flate2::{Decompress, FlushDecompress, Status};
use weezl::{BitOrder, LzwStatus, decode::Decoder};

use crate::{
    codec::tiff::{
        directory::Directory,
        errors::{corrupt, truncated, unsupported},
        fax,
        fax::Fax,
    },
    error::DecodeError,
};

const COMPRESSION: u16 = 259;
const T4_OPTIONS: u16 = 292;

/// The compression of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Fax(Fax),
    Lzw,
    Jpeg,
    Deflate,
    PackBits,
}

impl Compression {
    pub(super) fn read(directory: &Directory<'_>) -> Result<Self, DecodeError> {
        Ok(match directory.value_or(COMPRESSION, 1)? {
            1 => Self::None,
            2 => Self::Fax(Fax::Rows),
            3 => Self::Fax(Fax::group3(directory.value_or(T4_OPTIONS, 0)?)),
            4 => Self::Fax(Fax::Group4),
            5 => Self::Lzw,
            7 => Self::Jpeg,
            8 | 32_946 => Self::Deflate,
            32_773 => Self::PackBits,
            other => return Err(unsupported(format_args!("compression {}", name(other)))),
        })
    }

    /// Whether samples may be stored as differences.
    pub(super) fn has_predictor(self) -> bool {
        matches!(self, Self::Lzw | Self::Deflate)
    }

    /// Decompresses `data` to all of `out`, which has rows of `row_bytes` bytes and `width` pixels.
    pub(super) fn decompress(
        self,
        data: &[u8],
        out: &mut [u8],
        row_bytes: usize,
        width: u32,
    ) -> Result<(), DecodeError> {
        let decoded = match self {
            Self::None => copy(data, out),
            Self::Fax(fax) => fax::decompress(fax, data, out, row_bytes, width)?,
            Self::Lzw => lzw(data, out)?,
            Self::Deflate => deflate(data, out)?,
            Self::PackBits => pack_bits(data, out),
            Self::Jpeg => return Err(unsupported("JPEG in this place")),
        };
        if decoded < out.len() {
            return Err(truncated());
        }
        Ok(())
    }
}

/// Returns the name of a compression that is not supported, with its number.
fn name(compression: u64) -> String {
    let name = match compression {
        6 => "old-style JPEG",
        32_771 => "CCITT with words",
        34_676 | 34_677 => "SGI LogLuv",
        34_925 => "LZMA",
        50_000 => "ZSTD",
        50_001 => "WebP",
        _ => return compression.to_string(),
    };
    format!("{compression} ({name})")
}

fn copy(data: &[u8], out: &mut [u8]) -> usize {
    let length = data.len().min(out.len());
    for (to, from) in out.iter_mut().zip(data) {
        *to = *from;
    }
    length
}

fn lzw(data: &[u8], out: &mut [u8]) -> Result<usize, DecodeError> {
    let mut decoder = Decoder::with_tiff_size_switch(BitOrder::Msb, 8);
    let (mut rest, mut length) = (data, 0);
    while let Some(free) = out.get_mut(length..).filter(|free| !free.is_empty()) {
        let step = decoder.decode_bytes(rest, free);
        rest = rest.get(step.consumed_in..).unwrap_or_default();
        length += step.consumed_out;
        match step.status.map_err(corrupt)? {
            LzwStatus::Ok if step.consumed_in + step.consumed_out > 0 => {}
            _ => break,
        }
    }
    Ok(length)
}

fn deflate(data: &[u8], out: &mut [u8]) -> Result<usize, DecodeError> {
    let mut decoder = Decompress::new(true);
    loop {
        // Both counts are at most the lengths of slices.
        let (read, written) = (decoder.total_in() as usize, decoder.total_out() as usize);
        let (rest, free) = (data.get(read..).unwrap_or_default(), out.get_mut(written..).unwrap_or_default());
        if free.is_empty() {
            return Ok(written);
        }
        let status = decoder.decompress(rest, free, FlushDecompress::None).map_err(corrupt)?;
        let is_stuck = (decoder.total_in() as usize, decoder.total_out() as usize) == (read, written);
        if status == Status::StreamEnd || is_stuck {
            return Ok(decoder.total_out() as usize);
        }
    }
}

fn pack_bits(data: &[u8], out: &mut [u8]) -> usize {
    let mut rest = data.iter().copied();
    let mut length = 0;
    while length < out.len() {
        let Some(control) = rest.next() else { break };
        let control = control.cast_signed();
        let count = usize::from(control.unsigned_abs()) + 1;
        let free = out.get_mut(length..).unwrap_or_default();
        length += match control {
            i8::MIN => 0,
            0.. => free.iter_mut().take(count).zip(rest.by_ref()).map(|(to, from)| *to = from).count(),
            _ => match rest.next() {
                Some(byte) => free.iter_mut().take(count).map(|to| *to = byte).count(),
                None => break,
            },
        };
    }
    length
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_bits_has_literals_and_runs() {
        let mut out = [0; 7];
        assert_eq!(pack_bits(&[2, 1, 2, 3, 0x80, 0xFD, 9], &mut out), 7);
        assert_eq!(out, [1, 2, 3, 9, 9, 9, 9]);
    }

    #[test]
    fn output_never_exceeds_the_buffer() {
        let mut out = [0; 3];
        assert_eq!(pack_bits(&[0x81, 5], &mut out), 3);
        assert_eq!(pack_bits(&[9, 5], &mut out), 1);
        assert_eq!(pack_bits(&[], &mut out), 0);
    }

    #[test]
    fn short_data_is_truncated() {
        for compression in [Compression::None, Compression::PackBits, Compression::Deflate, Compression::Lzw]
        {
            let error = compression.decompress(&[], &mut [0; 9], 3, 24).unwrap_err();
            assert_eq!(error, truncated(), "{compression:?}");
        }
    }
}
