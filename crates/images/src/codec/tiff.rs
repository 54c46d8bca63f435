//! Decodes the first page of a TIFF and applies its orientation tag.
//!
//! The reference applies the orientation tag for TIFF only. Pages compressed as JPEG may differ
//! from the reference by a few levels.

use std::io::{Cursor, ErrorKind};

use tiff::decoder::{Decoder, DecodingResult, Limits};
use tiff::tags::Tag;
use tiff::{ColorType, TiffError};

use crate::{
    admission::Admission,
    codec::{
        orientation::upright,
        packed_samples::{grey_scale, samples},
        rgb_conversion::{push_cmyk, push_first_three, push_grey, push_grey16, push_palette},
        tiff_palette::{colours, with_indices_as_grey},
    },
    error::DecodeError,
    format::Format,
    rgb_image::RgbImage,
};

/// Memory limit for one directory entry, such as a colour map or a list of strips, in bytes.
const MAX_ENTRY_BYTES: usize = 1 << 20;

pub(crate) fn decode(bytes: &[u8], admission: &Admission) -> Result<RgbImage, DecodeError> {
    let (file, indexed) = with_indices_as_grey(bytes);
    let mut page = Page::open(&file, indexed)?;
    let orientation = page.unsigned(Tag::Orientation)?.unwrap_or(1);
    let admitted = admission.admit((page.width, page.height), page.scratch_bytes_per_pixel())?;
    let mut rgb = admitted.buffer();
    page.push_rgb(&mut rgb)?;
    Ok(upright(admitted.finish(Format::Tiff, rgb)?, orientation))
}

struct Page<'a> {
    decoder: Decoder<Cursor<&'a [u8]>>,
    width: u32,
    height: u32,
    color: ColorType,
    /// Whether the grey levels are indices into the colour map.
    indexed: bool,
}

impl<'a> Page<'a> {
    fn open(bytes: &'a [u8], indexed: bool) -> Result<Self, DecodeError> {
        let mut limits = Limits::default();
        limits.ifd_value_size = MAX_ENTRY_BYTES;
        let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(decode_error)?.with_limits(limits);
        let (width, height) = decoder.dimensions().map_err(decode_error)?;
        let color = decoder.colortype().map_err(decode_error)?;
        let planar: Option<u16> =
            decoder.find_tag_unsigned(Tag::PlanarConfiguration).map_err(decode_error)?;
        if planar == Some(2) && color.num_samples() > 1 {
            return Err(DecodeError::unsupported(Format::Tiff, "separate colour planes"));
        }
        Ok(Self { decoder, width, height, color, indexed })
    }

    /// Returns the memory for stored samples and one strip or tile, later for the rotated image.
    fn scratch_bytes_per_pixel(&self) -> u64 {
        let bits = u64::from(self.color.bit_depth()) * u64::from(self.color.num_samples());
        2 * bits.div_ceil(8).max(3)
    }

    fn push_rgb(&mut self, out: &mut Vec<u8>) -> Result<(), DecodeError> {
        let unsupported =
            |color| Err(DecodeError::unsupported(Format::Tiff, format_args!("{color:?} samples")));
        let width = self.width as usize;
        let extra = self.extra_sample()?;
        let premultiplied = extra == Some(1);
        let inverted = self.is_white_zero()?;
        match (self.color, self.read()?) {
            (ColorType::Gray(bits @ (1 | 2 | 4 | 8)), DecodingResult::U8(raw)) if self.indexed => {
                let palette = self.palette(bits)?;
                for row in raw.chunks_exact(row_bytes(width, bits)) {
                    push_palette(out, &palette, samples(row, bits, width));
                }
            }
            (ColorType::Gray(bits @ (1 | 2 | 4 | 8)), DecodingResult::U8(raw)) => {
                let scale = grey_scale(bits);
                for row in raw.chunks_exact(row_bytes(width, bits)) {
                    push_grey(out, samples(row, bits, width).map(|v| v * scale));
                }
            }
            // The decoder inverts white-is-zero. The reference ignores it at this depth.
            (ColorType::Gray(16), DecodingResult::U16(raw)) if inverted => {
                push_grey16(out, raw.into_iter().map(|v| u16::MAX - v));
            }
            (ColorType::Gray(16), DecodingResult::U16(raw)) => push_grey16(out, raw.into_iter()),
            (ColorType::Multiband { bit_depth: 8, num_samples: 2 }, DecodingResult::U8(raw))
                if extra == Some(2) =>
            {
                push_grey(out, raw.into_iter().step_by(2));
            }
            (ColorType::RGB(8), DecodingResult::U8(raw)) => out.extend(raw),
            (ColorType::RGB(16), DecodingResult::U16(raw)) => out.extend(high_bytes(&raw)),
            (ColorType::RGBA(8), DecodingResult::U8(raw)) => push_rgba(out, &raw, premultiplied),
            (ColorType::RGBA(16), DecodingResult::U16(raw)) => {
                push_rgba(out, &high_bytes(&raw).collect::<Vec<_>>(), premultiplied);
            }
            (ColorType::CMYK(8), DecodingResult::U8(raw)) => {
                push_cmyk(out, raw.as_chunks().0.iter().copied());
            }
            (ColorType::CMYK(16), DecodingResult::U16(raw)) => {
                let inks: Vec<u8> = high_bytes(&raw).collect();
                push_cmyk(out, inks.as_chunks().0.iter().copied());
            }
            // In JPEG compression, the decoder has converted YCbCr to RGB.
            (ColorType::YCbCr(8), DecodingResult::U8(raw)) if self.is_jpeg()? => out.extend(raw),
            (color, _) => return unsupported(color),
        }
        Ok(())
    }

    fn read(&mut self) -> Result<DecodingResult, DecodeError> {
        self.decoder.read_image().map_err(decode_error)
    }

    fn unsigned(&mut self, tag: Tag) -> Result<Option<u16>, DecodeError> {
        self.decoder.find_tag_unsigned(tag).map_err(decode_error)
    }

    fn is_white_zero(&mut self) -> Result<bool, DecodeError> {
        Ok(self.unsigned(Tag::PhotometricInterpretation)? == Some(0))
    }

    fn is_jpeg(&mut self) -> Result<bool, DecodeError> {
        Ok(self.unsigned(Tag::Compression)? == Some(7))
    }

    fn extra_sample(&mut self) -> Result<Option<u16>, DecodeError> {
        let extra = self.decoder.find_tag_unsigned_vec::<u16>(Tag::ExtraSamples).map_err(decode_error)?;
        Ok(extra.and_then(|samples| samples.first().copied()))
    }

    fn palette(&mut self, bits: u8) -> Result<Vec<u8>, DecodeError> {
        let map = self
            .decoder
            .find_tag_unsigned_vec::<u16>(Tag::ColorMap)
            .map_err(decode_error)?
            .unwrap_or_default();
        colours(&map, 1 << bits).ok_or_else(|| {
            let reason = format_args!("colour map has {} entries, expected {}", map.len(), 3 << bits);
            DecodeError::corrupt(Format::Tiff, reason)
        })
    }
}

fn row_bytes(width: usize, bits: u8) -> usize {
    (width * usize::from(bits)).div_ceil(8).max(1)
}

fn high_bytes(samples: &[u16]) -> impl Iterator<Item = u8> {
    samples.iter().map(|v| (v >> 8) as u8)
}

/// Appends RGB without alpha. Premultiplied colour is divided by alpha first.
fn push_rgba(out: &mut Vec<u8>, pixels: &[u8], premultiplied: bool) {
    if !premultiplied {
        return push_first_three::<4>(out, pixels);
    }
    let divided =
        |v: u8, alpha: u8| (u32::from(v) * 255).checked_div(u32::from(alpha)).unwrap_or(0).min(255) as u8;
    out.extend(pixels.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, a]| [r, g, b].map(|v| divided(v, a))));
}

fn decode_error(error: TiffError) -> DecodeError {
    match error {
        TiffError::IoError(e) if e.kind() == ErrorKind::UnexpectedEof => {
            DecodeError::Truncated { format: Format::Tiff }
        }
        TiffError::UnsupportedError(e) => DecodeError::unsupported(Format::Tiff, e),
        TiffError::LimitsExceeded => {
            DecodeError::unsupported(Format::Tiff, "an entry or strip over its limit")
        }
        other => DecodeError::corrupt(Format::Tiff, other),
    }
}
