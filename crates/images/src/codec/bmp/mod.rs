//! Decodes Windows bitmaps.

mod header;

use std::{
    borrow::Cow,
    io::{Cursor, ErrorKind},
};

use header::repaired;
use image::codecs::bmp::BmpDecoder;
use image::{ColorType, ImageDecoder, ImageError};

use crate::{
    admission::{Admission, pixel_bytes},
    codec::rgb_conversion::{push_first_three, push_grey},
    error::DecodeError,
    format::Format,
    rgb_image::RgbImage,
};

pub(crate) fn decode(bytes: &[u8], admission: &Admission) -> Result<RgbImage, DecodeError> {
    let file = repaired(bytes);
    let copied = if matches!(file, Cow::Owned(_)) { bytes.len() as u64 } else { 0 };
    let decoder = BmpDecoder::new(Cursor::new(&*file)).map_err(decode_error)?;
    let (size, color) = (decoder.dimensions(), decoder.color_type());
    let pixels = if color == ColorType::Rgb8 { 0 } else { pixel_bytes(size, 4) };
    let row = pixel_bytes((size.0, 1), 4);
    let admitted = admission.admit(size, pixels.saturating_add(copied).saturating_add(row))?;
    let whole = usize::try_from(decoder.total_bytes()).unwrap_or_default();
    let mut pixels = vec![0; whole];
    decoder.read_image(&mut pixels).map_err(decode_error)?;
    let mut rgb = match color {
        ColorType::Rgb8 => pixels,
        ColorType::Rgba8 => {
            let mut rgb = admitted.buffer();
            push_first_three::<4>(&mut rgb, &pixels);
            rgb
        }
        ColorType::L8 => {
            let mut rgb = admitted.buffer();
            push_grey(&mut rgb, pixels.into_iter());
            rgb
        }
        other => return Err(DecodeError::unsupported(Format::Bmp, format_args!("{other:?} pixels"))),
    };
    if let Some(bits) = high_colour_bits(&file) {
        for pixel in rgb.as_chunks_mut::<3>().0 {
            for (sample, bits) in pixel.iter_mut().zip(bits) {
                *sample = truncated(*sample, bits);
            }
        }
    }
    admitted.finish(Format::Bmp, rgb)
}

/// Returns the bits of red, green and blue of a 16-bit bitmap, or `None` for any other depth.
fn high_colour_bits(bytes: &[u8]) -> Option<[u32; 3]> {
    let word = |at: usize| Some(u16::from_le_bytes(*bytes.get(at..at + 2)?.as_array()?));
    let double = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..at + 4)?.as_array()?));
    const BITFIELDS: u32 = 3;
    if double(14)? < 40 || word(28)? != 16 {
        return None;
    }
    if double(30)? == BITFIELDS {
        // The masks follow the first 40 bytes of the header. Longer headers contain them.
        return Some([double(54)?, double(58)?, double(62)?].map(u32::count_ones));
    }
    Some([5; 3])
}

/// Converts a sample that the decoder rounded to the sample that the reference truncates.
///
/// Both scale samples of 5 or 6 bits to 0..=255.
fn truncated(rounded: u8, bits: u32) -> u8 {
    if !(1..8).contains(&bits) {
        return rounded;
    }
    let highest = (1u32 << bits) - 1;
    let sample = (u32::from(rounded) * highest + 127) / 255;
    (sample * 255 / highest) as u8
}

fn decode_error(error: ImageError) -> DecodeError {
    match error {
        ImageError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Bmp }
        }
        ImageError::Unsupported(e) => DecodeError::unsupported(Format::Bmp, e),
        other => DecodeError::corrupt(Format::Bmp, other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_of_5_and_6_bits_are_truncated() {
        for bits in [5u32, 6] {
            let highest = (1u32 << bits) - 1;
            for sample in 0..=highest {
                let rounded = (f64::from(sample * 255) / f64::from(highest)).round() as u8;
                assert_eq!(
                    u32::from(truncated(rounded, bits)),
                    sample * 255 / highest,
                    "{sample} of {bits} bits"
                );
            }
        }
    }
}
