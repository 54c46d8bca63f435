//! Decodes PNG of every colour type and depth.
//!
//! Of an animated file, it decodes the default image.

use std::io::{Cursor, ErrorKind};

use png::{
    BitDepth, ColorType, DecodingError, InterlaceInfo, Limits, Transformations, expand_interlaced_row,
};

use crate::{
    admission::{Admission, pixel_bytes},
    codec::{
        packed_samples::{grey_scale, samples},
        rgb_conversion::{push_first_three, push_grey, push_grey16, push_palette},
    },
    error::DecodeError,
    format::Format,
    rgb_image::RgbImage,
};

/// Memory limit for ancillary chunks and one row, in bytes.
const MAX_CHUNK_BYTES: usize = 8 << 20;

pub(crate) fn decode(bytes: &[u8], admission: &Admission) -> Result<RgbImage, DecodeError> {
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), Limits { bytes: MAX_CHUNK_BYTES });
    decoder.set_transformations(Transformations::IDENTITY);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // The reference and browsers show images with wrong checksums.
    decoder.ignore_checksums(true);
    let header = decoder.read_header_info().map_err(decode_error)?;
    let size = (header.width, header.height);
    // An interlaced image is decoded completely before the conversion: up to 8 bytes a pixel.
    let scratch = if header.interlaced { header.bytes_per_pixel() as u64 } else { 0 };
    // The library stores chunks before the pixels, and some rows.
    let chunks = bytes.len().min(MAX_CHUNK_BYTES) as u64;
    let rows = pixel_bytes((size.0, 4), header.bytes_per_pixel() as u64);
    let working = pixel_bytes(size, scratch).saturating_add(chunks).saturating_add(rows);
    let admitted = admission.admit(size, working)?;

    let mut reader = decoder.read_info().map_err(decode_error)?;
    let info = reader.info();
    let (color, depth) = (info.color_type, info.bit_depth);
    let interlaced = info.interlaced;
    let palette = info.palette.as_deref().unwrap_or_default().to_vec();
    let width = size.0 as usize;
    let mut rgb = admitted.buffer();
    // Nothing behind the last row is read: it may be missing.
    if interlaced {
        let line = reader.output_line_size(size.0).unwrap_or_default();
        let whole = reader.output_buffer_size().unwrap_or_default();
        if line == 0 {
            return Err(DecodeError::corrupt(Format::Png, "no pixels"));
        }
        let bits = reader.info().bits_per_pixel() as u8;
        let mut raw = vec![0; whole];
        for _ in 0..interlaced_rows(size) {
            let Some(row) = reader.next_interlaced_row().map_err(decode_error)? else { break };
            if let InterlaceInfo::Adam7(place) = row.interlace() {
                expand_interlaced_row(&mut raw, line, row.data(), place, bits);
            }
        }
        for row in raw.chunks_exact(line) {
            push_row(&mut rgb, row, width, (color, depth), &palette);
        }
    } else {
        for _ in 0..size.1 {
            let Some(row) = reader.next_row().map_err(decode_error)? else { break };
            push_row(&mut rgb, row.data(), width, (color, depth), &palette);
        }
    }
    admitted.finish(Format::Png, rgb)
}

/// Returns the number of rows of the seven passes. A pass without columns has no rows.
fn interlaced_rows((width, height): (u32, u32)) -> u32 {
    /// The first column and row of each pass, and the distance between its rows.
    const PASSES: [(u32, u32, u32); 7] =
        [(0, 0, 8), (4, 0, 8), (0, 4, 8), (2, 0, 4), (0, 2, 4), (1, 0, 2), (0, 1, 2)];
    let passes = PASSES.iter().filter(|(column, ..)| *column < width);
    passes.map(|(_, row, distance)| height.saturating_sub(*row).div_ceil(*distance)).sum()
}

fn push_row(out: &mut Vec<u8>, row: &[u8], width: usize, mode: (ColorType, BitDepth), palette: &[u8]) {
    let high_bytes = |row: &[u8]| row.iter().step_by(2).copied().collect::<Vec<_>>();
    match mode {
        (ColorType::Grayscale, BitDepth::Sixteen) => {
            push_grey16(out, row.as_chunks().0.iter().map(|&pair| u16::from_be_bytes(pair)));
        }
        (ColorType::Grayscale, depth) => {
            let scale = grey_scale(depth as u8);
            push_grey(out, samples(row, depth as u8, width).map(|v| v * scale));
        }
        (ColorType::Indexed, depth) => push_palette(out, palette, samples(row, depth as u8, width)),
        // Of a 16-bit sample, the high byte is used.
        (ColorType::GrayscaleAlpha, BitDepth::Sixteen) => push_grey(out, row.iter().step_by(4).copied()),
        (ColorType::GrayscaleAlpha, _) => push_grey(out, row.iter().step_by(2).copied()),
        (ColorType::Rgb, BitDepth::Sixteen) => push_first_three::<3>(out, &high_bytes(row)),
        (ColorType::Rgb, _) => out.extend_from_slice(row),
        (ColorType::Rgba, BitDepth::Sixteen) => push_first_three::<4>(out, &high_bytes(row)),
        (ColorType::Rgba, _) => push_first_three::<4>(out, row),
    }
}

fn decode_error(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Png }
        }
        DecodingError::LimitsExceeded => DecodeError::unsupported(
            Format::Png,
            format_args!("a chunk or row of more than {MAX_CHUNK_BYTES} bytes"),
        ),
        other => DecodeError::corrupt(Format::Png, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interlaced_rows_are_those_of_passes_with_columns() {
        assert_eq!(interlaced_rows((8, 8)), 1 + 1 + 1 + 2 + 2 + 4 + 4);
        assert_eq!(interlaced_rows((1, 8)), 1 + 1 + 2 + 4);
        assert_eq!(interlaced_rows((1, 1)), 1);
    }
}
