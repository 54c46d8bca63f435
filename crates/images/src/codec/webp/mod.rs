//! Decodes WebP, lossy and lossless. Of an animated file, it decodes the first frame.
//!
//! The reference drops alpha, and libwebp blends the first frame with nothing. So the colours of
//! the first image alone are the result, on a black canvas.

mod container;
mod lossless_codes;
mod errors;

use std::io::{Cursor, ErrorKind};

use container::{Bitstream, first_bitstream};
use errors::{corrupt, truncated};
use image_webp::{DecodingError, WebPDecoder};
use lossless_codes::code_bytes;

use crate::{
    admission::{Admission, pixel_bytes},
    codec::rgb_conversion::push_first_three,
    error::DecodeError,
    format::Format,
    rgb_image::RgbImage,
};

pub(crate) fn decode(bytes: &[u8], admission: &Admission) -> Result<RgbImage, DecodeError> {
    let bitstream = first_bitstream(bytes)?;
    if let Some(canvas) = bitstream.canvas {
        admission.check_size(canvas)?;
    }
    let mut decoder = WebPDecoder::new(Cursor::new(file_of(&bitstream))).map_err(decode_error)?;
    let size = decoder.dimensions();
    admission.check_size(size)?;
    let canvas = bitstream.canvas.unwrap_or(size);
    let is_inside =
        |start: u32, length: u32, whole: u32| start.checked_add(length).is_some_and(|end| end <= whole);
    let ((x, y), (width, height)) = (bitstream.origin, size);
    if !is_inside(x, width, canvas.0) || !is_inside(y, height, canvas.1) {
        let reason = format_args!(
            "image of {width} x {height} at ({x}, {y}) on a canvas of {} x {}",
            canvas.0, canvas.1
        );
        return Err(corrupt(reason));
    }
    let beside_canvas = if canvas == size { 0 } else { pixel_bytes(size, 3) };
    let working = working_bytes(&bitstream, size, admission.limits().max_decode_bytes_in_flight)?;
    let admitted = admission.admit(canvas, working.saturating_add(beside_canvas))?;
    let mut pixels = vec![0; decoder.output_buffer_size().unwrap_or_default()];
    decoder.read_image(&mut pixels).map_err(decode_error)?;
    let rgb = if decoder.has_alpha() {
        let mut rgb = Vec::with_capacity(width as usize * height as usize * 3);
        push_first_three::<4>(&mut rgb, &pixels);
        rgb
    } else {
        pixels
    };
    if canvas == size {
        return admitted.finish(Format::WebP, rgb);
    }
    let mut whole = vec![0; admitted.pixels() * 3];
    let lines = whole.chunks_exact_mut(canvas.0 as usize * 3).skip(y as usize);
    for (line, row) in lines.zip(rgb.chunks_exact(width as usize * 3)) {
        line.iter_mut().skip(x as usize * 3).zip(row).for_each(|(to, from)| *to = *from);
    }
    admitted.finish(Format::WebP, whole)
}

/// Returns a file with only this image.
fn file_of(bitstream: &Bitstream<'_>) -> Vec<u8> {
    let name = if bitstream.is_lossless { b"VP8L" } else { b"VP8 " };
    let size = bitstream.data.len() as u32;
    let padding = if size % 2 == 1 { &[0][..] } else { &[] };
    let riff = (12 + size + size % 2).to_le_bytes();
    [b"RIFF", &riff[..], b"WEBP", name, &size.to_le_bytes(), bitstream.data, padding].concat()
}

/// Returns the memory of the decoder and of the copied file, without the pixels of the image.
fn working_bytes(bitstream: &Bitstream<'_>, size: (u32, u32), limit: u64) -> Result<u64, DecodeError> {
    let copies = 3 * bitstream.data.len() as u64;
    if bitstream.is_lossless {
        let codes = code_bytes(bitstream.data, limit)?;
        // RGBA, and up to three images of one pixel for each block of 4 x 4.
        return Ok(pixel_bytes(size, 5).saturating_add(copies).saturating_add(codes));
    }
    // Luma and chroma in whole blocks of 16 x 16.
    let padded = (size.0.next_multiple_of(16), size.1.next_multiple_of(16));
    Ok(pixel_bytes(padded, 2).saturating_add(copies))
}

fn decode_error(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => truncated(),
        other => corrupt(other),
    }
}
