//! Converts rows of stored samples to RGB, by the rules of Pillow.

use crate::{
    codec::{
        packed_samples::{grey_scale, samples},
        rgb_conversion::{push_cmyk, push_first_three, push_grey, push_grey16, push_palette},
        tiff::{
            errors::{corrupt, unsupported},
            samples::Samples,
        },
    },
    error::DecodeError,
};

/// How samples become colours.
pub(super) struct Pixels {
    kind: Kind,
    bits: u8,
    /// The samples of a pixel, those that are not shown included.
    count: usize,
    is_little_endian: bool,
}

enum Kind {
    Grey {
        is_inverted: bool,
    },
    /// Grey levels that are clipped to 0..=255, not scaled.
    Clipped(Number),
    /// Red, green and blue for each index.
    Palette(Vec<u8>),
    Rgb {
        is_premultiplied: bool,
    },
    Cmyk,
}

/// The numbers of a clipped grey level.
#[derive(Clone, Copy)]
enum Number {
    Packed12,
    U16,
    I16,
    I32,
    F32,
}

impl Pixels {
    pub(super) fn new(samples: Samples) -> Result<Self, DecodeError> {
        let Samples { photometric, bits, count, format, ref extra, is_jpeg, .. } = samples;
        let alone = count == 1;
        let kind = match (photometric, bits, format) {
            (0 | 1, 1 | 2 | 4, 1) if alone => Kind::Grey { is_inverted: photometric == 0 },
            (0 | 1, 8, 1 | 2) if alone || count == 2 && extra != &[1] => {
                Kind::Grey { is_inverted: photometric == 0 }
            }
            (0 | 1, 12, 1) if alone => Kind::Clipped(Number::Packed12),
            // The reference ignores white-is-zero at this depth and above.
            (0 | 1, 16, 1) if alone => Kind::Clipped(Number::U16),
            (0 | 1, 16, 2) if alone => Kind::Clipped(Number::I16),
            // The reference reads unsigned numbers as signed ones.
            (0 | 1, 32, 1 | 2) if alone => Kind::Clipped(Number::I32),
            (0 | 1, 32, 3) if alone => Kind::Clipped(Number::F32),
            (2, 8 | 16, 1) if count >= 3 => Kind::Rgb { is_premultiplied: extra.first() == Some(&1) },
            (3, 1 | 2 | 4, 1) if alone => Kind::Palette(palette(&samples)?),
            (3, 8, 1) if alone || count == 2 => Kind::Palette(palette(&samples)?),
            (5, 8 | 16, 1) if count >= 4 => Kind::Cmyk,
            (6, 8, 1) if alone => Kind::Grey { is_inverted: false },
            // The JPEG decoder returns RGB.
            (6, 8, 1) if count == 3 && is_jpeg => Kind::Rgb { is_premultiplied: false },
            (6, ..) => return Err(unsupported("YCbCr that is not compressed as JPEG")),
            _ => {
                let reason = format_args!(
                    "{count} samples of {bits} bits, photometric interpretation {photometric}, sample \
                     format {format}"
                );
                return Err(unsupported(reason));
            }
        };
        Ok(Self { kind, bits, count, is_little_endian: samples.is_little_endian })
    }

    /// Appends the RGB of a row of `width` pixels.
    pub(super) fn push_row(&self, out: &mut Vec<u8>, row: &[u8], width: usize) {
        match &self.kind {
            Kind::Grey { is_inverted } => {
                let (scale, mask) = (grey_scale(self.bits), if *is_inverted { u8::MAX } else { 0 });
                push_grey(out, self.first_samples(row, width).map(|level| (level * scale) ^ mask));
            }
            Kind::Palette(colours) => push_palette(out, colours, self.first_samples(row, width)),
            Kind::Clipped(number) => self.push_clipped(out, row, width, *number),
            Kind::Rgb { is_premultiplied } => self.push_rgb(out, &self.bytes(row), *is_premultiplied),
            Kind::Cmyk => {
                let bytes = self.bytes(row);
                let inks = bytes.chunks_exact(self.count).filter_map(|pixel| pixel.first_chunk::<4>());
                push_cmyk(out, inks.copied());
            }
        }
    }

    /// Returns the first sample of each pixel, of at most 8 bits.
    fn first_samples(&self, row: &[u8], width: usize) -> impl Iterator<Item = u8> {
        samples(row, self.bits, width * self.count).step_by(self.count)
    }

    /// Returns samples of 8 bits. Of 16 bits, the high byte is used.
    fn bytes<'a>(&self, row: &'a [u8]) -> std::borrow::Cow<'a, [u8]> {
        if self.bits == 8 {
            return row.into();
        }
        row.iter().skip(usize::from(self.is_little_endian)).step_by(2).copied().collect()
    }

    fn push_rgb(&self, out: &mut Vec<u8>, bytes: &[u8], is_premultiplied: bool) {
        match (self.count, is_premultiplied) {
            (3, _) => out.extend_from_slice(bytes),
            (4, false) => push_first_three::<4>(out, bytes),
            (_, false) => {
                out.extend(bytes.chunks_exact(self.count).filter_map(|p| p.first_chunk::<3>()).flatten())
            }
            (_, true) => {
                let pixels = bytes.chunks_exact(self.count).filter_map(|pixel| pixel.first_chunk::<4>());
                out.extend(pixels.flat_map(|&[r, g, b, alpha]| [r, g, b].map(|v| divided(v, alpha))));
            }
        }
    }

    fn push_clipped(&self, out: &mut Vec<u8>, row: &[u8], width: usize, number: Number) {
        let clip = |level: i32| level.clamp(0, 255) as u8;
        let little = self.is_little_endian;
        let short =
            |pair: &[u8; 2]| if little { u16::from_le_bytes(*pair) } else { u16::from_be_bytes(*pair) };
        let long =
            |four: &[u8; 4]| if little { u32::from_le_bytes(*four) } else { u32::from_be_bytes(*four) };
        let (shorts, longs) = (row.as_chunks::<2>().0.iter(), row.as_chunks::<4>().0.iter());
        match number {
            Number::Packed12 => push_grey16(out, packed12(row, width)),
            Number::U16 => push_grey16(out, shorts.map(short)),
            Number::I16 => push_grey(out, shorts.map(|pair| clip(short(pair).cast_signed().into()))),
            Number::I32 => push_grey(out, longs.map(|four| clip(long(four).cast_signed()))),
            // The conversion cuts the fraction and saturates.
            Number::F32 => push_grey(out, longs.map(|four| f32::from_bits(long(four)) as u8)),
        }
    }
}

/// Divides a colour by the alpha that it was multiplied with.
fn divided(level: u8, alpha: u8) -> u8 {
    (u32::from(level) * 255).checked_div(u32::from(alpha)).unwrap_or(0).min(255) as u8
}

/// Returns the first `width` samples of 12 bits, two in three bytes.
fn packed12(row: &[u8], width: usize) -> impl Iterator<Item = u16> {
    let byte = |at: usize| row.get(at).copied().map_or(0, u16::from);
    (0..width).map(move |n| {
        let at = n / 2 * 3;
        if n % 2 == 0 { byte(at) << 4 | byte(at + 1) >> 4 } else { (byte(at + 1) & 15) << 8 | byte(at + 2) }
    })
}

/// Converts the colour map to RGB triples.
///
/// The map contains the reds, then as many greens, then as many blues, 16 bits each.
fn palette(samples: &Samples) -> Result<Vec<u8>, DecodeError> {
    let map = samples.color_map.as_deref().unwrap_or_default();
    let colours = 1usize << samples.bits;
    if map.len() != 3 * colours {
        return Err(corrupt(format_args!("colour map of {} entries, {} expected", map.len(), 3 * colours)));
    }
    let (reds, others) = map.split_at(colours);
    let (greens, blues) = others.split_at(colours);
    let triples = reds.iter().zip(greens).zip(blues);
    Ok(triples.flat_map(|((r, g), b)| [r, g, b].map(|v| (v >> 8) as u8)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(photometric: u64, bits: u8, count: usize, format: u64) -> Samples {
        let color_map = Some(vec![0x0100, 0x0200, 0x0300, 0x0400, 0x0500, 0x06FF]);
        Samples {
            photometric,
            bits,
            count,
            format,
            extra: Vec::new(),
            color_map,
            is_little_endian: false,
            is_jpeg: false,
        }
    }

    fn row(samples: Samples, row: &[u8], width: usize) -> Vec<u8> {
        let mut out = Vec::new();
        Pixels::new(samples).unwrap().push_row(&mut out, row, width);
        out
    }

    #[test]
    fn colour_map_is_transposed_to_rgb_triples() {
        assert_eq!(row(stored(3, 1, 1, 1), &[0b0100_0000], 2), [1, 3, 5, 2, 4, 6]);
    }

    #[test]
    fn grey_of_12_bits_is_clipped() {
        assert_eq!(
            row(stored(1, 12, 1, 1), &[0x00, 0xF1, 0x01, 0x01, 0x10], 3),
            [15, 15, 15, 255, 255, 255, 17, 17, 17]
        );
    }

    #[test]
    fn signed_and_real_grey_is_clipped() {
        let shorts = [-5i16, 7].map(i16::to_be_bytes).concat();
        assert_eq!(row(stored(1, 16, 1, 2), &shorts, 2), [0, 0, 0, 7, 7, 7]);
        let reals = [7.9f32, 300.0].map(f32::to_be_bytes).concat();
        assert_eq!(row(stored(1, 32, 1, 3), &reals, 2), [7, 7, 7, 255, 255, 255]);
    }
}
