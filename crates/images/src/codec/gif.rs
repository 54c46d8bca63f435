//! Decodes the first frame of a GIF, on the same canvas as the reference.

use std::{borrow::Cow, io::ErrorKind};

use gif::{ColorOutput, DecodeOptions, DecodingError};

use crate::{
    admission::{Admission, pixel_bytes},
    codec::rgb_conversion::{push_grey, push_palette},
    error::DecodeError,
    format::Format,
    rgb_image::RgbImage,
};

pub(crate) fn decode(bytes: &[u8], admission: &Admission) -> Result<RgbImage, DecodeError> {
    let mut options = DecodeOptions::new();
    options.set_color_output(ColorOutput::Indexed);
    options.allow_unknown_blocks(true);
    let file = with_palette(bytes);
    let copied = if matches!(file, Cow::Owned(_)) { file.len() as u64 } else { 0 };
    let mut decoder = options.read_info(&*file).map_err(decode_error)?;
    let screen = (decoder.width(), decoder.height());
    let frame = decoder.next_frame_info().map_err(decode_error)?.ok_or_else(no_frame)?;
    let (left, top) = (usize::from(frame.left), usize::from(frame.top));
    let (frame_width, frame_height) = (usize::from(frame.width), usize::from(frame.height));
    let local_palette = frame.palette.clone();
    // Around a smaller frame, the reference shows the transparent colour, or colour 0 without one.
    let background = frame.transparent.unwrap_or(0);

    // A frame that extends beyond the screen enlarges it, as in the reference.
    let width = usize::from(screen.0).max(left + frame_width);
    let height = usize::from(screen.1).max(top + frame_height);
    let (Ok(columns), Ok(rows)) = (u32::try_from(width), u32::try_from(height)) else {
        return Err(DecodeError::corrupt(Format::Gif, "impossible size"));
    };
    let size = (columns, rows);
    // Indices of the frame and of the canvas, and an extension block before the frame.
    let working = pixel_bytes(size, 2).saturating_add(bytes.len() as u64).saturating_add(copied);
    let admitted = admission.admit(size, working)?;
    if frame_width == 0 || frame_height == 0 {
        return Err(no_frame());
    }
    let mut indices = vec![0; frame_width * frame_height];
    decoder.read_into_buffer(&mut indices).map_err(decode_error)?;
    let palette = local_palette.as_deref().or(decoder.global_palette());

    let mut canvas = vec![background; width * height];
    let lines = canvas.chunks_exact_mut(width).skip(top).zip(indices.chunks_exact(frame_width));
    for (line, row) in lines {
        for (pixel, index) in line.iter_mut().skip(left).zip(row) {
            *pixel = *index;
        }
    }
    let mut rgb = admitted.buffer();
    match palette {
        Some(palette) if !is_grey_ramp(palette) => push_palette(&mut rgb, palette, canvas.into_iter()),
        // With a grey ramp as palette, an index is a grey level.
        _ => push_grey(&mut rgb, canvas.into_iter()),
    }
    admitted.finish(Format::Gif, rgb)
}

/// Returns a file whose palette is a grey ramp if it has none for all frames, as in the reference.
///
/// The library rejects a frame without any palette.
fn with_palette(file: &[u8]) -> Cow<'_, [u8]> {
    const HEADER: usize = 13;
    const FLAGS_AT: usize = 10;
    const HAS_PALETTE: u8 = 0x80;
    const COLOURS_256: u8 = 7;
    let Some((header, rest)) = file.split_at_checked(HEADER) else { return Cow::Borrowed(file) };
    let mut copy = header.to_vec();
    match copy.get_mut(FLAGS_AT) {
        Some(flags) if *flags & HAS_PALETTE == 0 => *flags |= HAS_PALETTE | COLOURS_256,
        _ => return Cow::Borrowed(file),
    }
    copy.extend((0..=u8::MAX).flat_map(|level| [level; 3]));
    copy.extend(rest);
    Cow::Owned(copy)
}

/// Whether each colour of the palette is the grey level of its index.
fn is_grey_ramp(palette: &[u8]) -> bool {
    palette.as_chunks::<3>().0.iter().zip(0..=u8::MAX).all(|(&colour, index)| colour == [index; 3])
}

fn no_frame() -> DecodeError {
    DecodeError::corrupt(Format::Gif, "no frame")
}

fn decode_error(error: DecodingError) -> DecodeError {
    match error {
        DecodingError::UnexpectedEof => DecodeError::Truncated { format: Format::Gif },
        DecodingError::Io(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Gif }
        }
        other => DecodeError::corrupt(Format::Gif, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grey_ramp_differs_from_other_greys() {
        assert!(is_grey_ramp(&[0, 0, 0, 1, 1, 1]));
        assert!(!is_grey_ramp(&[0, 0, 0, 255, 255, 255]));
    }
}
