//! Decodes PNG of every colour type and depth.
//!
//! Of an animated file, it decodes the default image.

use std::io::{Cursor, ErrorKind};

use png::{BitDepth, ColorType, DecodingError, Limits, Transformations};

use crate::{
    admission::Admission,
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
    let header = decoder.read_header_info().map_err(decode_error)?;
    let size = (header.width, header.height);
    // An interlaced image is decoded completely before the conversion: up to 8 bytes a pixel.
    let scratch = if header.interlaced { header.bytes_per_pixel() as u64 } else { 0 };
    let admitted = admission.admit(size, scratch)?;

    let mut reader = decoder.read_info().map_err(decode_error)?;
    let info = reader.info();
    let (color, depth) = (info.color_type, info.bit_depth);
    let interlaced = info.interlaced;
    let palette = info.palette.as_deref().unwrap_or_default().to_vec();
    let width = size.0 as usize;
    let mut rgb = admitted.buffer();
    if interlaced {
        let line = reader.output_line_size(size.0).unwrap_or_default();
        let whole = reader.output_buffer_size().unwrap_or_default();
        if line == 0 {
            return Err(DecodeError::corrupt(Format::Png, "no pixels"));
        }
        let mut raw = vec![0; whole];
        reader.next_frame(&mut raw).map_err(decode_error)?;
        for row in raw.chunks_exact(line) {
            push_row(&mut rgb, row, width, (color, depth), &palette);
        }
    } else {
        while let Some(row) = reader.next_row().map_err(decode_error)? {
            push_row(&mut rgb, row.data(), width, (color, depth), &palette);
        }
    }
    admitted.finish(Format::Png, rgb)
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
