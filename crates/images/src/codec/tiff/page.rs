//! The description of a page: what its tags say about its samples.

use crate::{
    codec::tiff::{
        compression::Compression,
        directory::Directory,
        errors::{corrupt, unsupported},
        grid::Grid,
        pixels::Pixels,
        samples::{SampleLayout, Samples},
    },
    error::DecodeError,
};

const IMAGE_WIDTH: u16 = 256;
const IMAGE_LENGTH: u16 = 257;
const BITS_PER_SAMPLE: u16 = 258;
const PHOTOMETRIC_INTERPRETATION: u16 = 262;
const FILL_ORDER: u16 = 266;
const ORIENTATION: u16 = 274;
const SAMPLES_PER_PIXEL: u16 = 277;
const PLANAR_CONFIGURATION: u16 = 284;
const PREDICTOR: u16 = 317;
const COLOR_MAP: u16 = 320;
const EXTRA_SAMPLES: u16 = 338;
const SAMPLE_FORMAT: u16 = 339;

/// The largest accepted number of samples of a pixel: CMYK with two more.
const MAX_SAMPLES: u64 = 6;

/// The first page of a file.
pub(super) struct Page {
    pub(super) size: (u32, u32),
    pub(super) orientation: u16,
    pub(super) layout: SampleLayout,
    pub(super) compression: Compression,
    pub(super) predictor: u64,
    /// Whether the first pixel of a byte is in its lowest bit.
    pub(super) is_reversed: bool,
    /// Whether samples are luma and chroma.
    pub(super) is_ycbcr: bool,
    pub(super) pixels: Pixels,
}

impl Page {
    pub(super) fn read(directory: &Directory<'_>) -> Result<Self, DecodeError> {
        let side = |tag| {
            let side = directory.value(tag)?.and_then(|side| u32::try_from(side).ok());
            side.filter(|&side| side > 0).ok_or_else(|| corrupt("no width or height"))
        };
        let size = (side(IMAGE_WIDTH)?, side(IMAGE_LENGTH)?);
        let compression = Compression::read(directory)?;
        let is_planar = directory.value_or(PLANAR_CONFIGURATION, 1)? == 2;
        let mut extra = directory.values(EXTRA_SAMPLES)?.unwrap_or_default();
        let mut count = directory.value_or(SAMPLES_PER_PIXEL, 1)?;
        if is_planar && !extra.is_empty() && extra.iter().all(|&kind| kind == 0) {
            // The reference ignores planes of unspecified samples.
            count = count.saturating_sub(extra.len() as u64);
            extra.clear();
        }
        if !(1..=MAX_SAMPLES).contains(&count) {
            return Err(unsupported(format_args!("{count} samples a pixel, at most {MAX_SAMPLES} allowed")));
        }
        // At most MAX_SAMPLES.
        let count = count as usize;
        let samples = Samples {
            photometric: directory.value_or(PHOTOMETRIC_INTERPRETATION, 0)?,
            bits: bits(directory, count)?,
            count,
            format: sample_format(directory)?,
            extra,
            color_map: directory.values(COLOR_MAP)?,
            is_little_endian: directory.is_little_endian(),
            is_jpeg: matches!(compression, Compression::Jpeg),
        };
        if is_planar && count > 1 && samples.is_jpeg && samples.photometric == 6 {
            return Err(unsupported("YCbCr in separate planes"));
        }
        let planes = if is_planar { count } else { 1 };
        Ok(Self {
            size,
            orientation: u16::try_from(directory.value_or(ORIENTATION, 1)?).unwrap_or(1),
            layout: SampleLayout {
                bits: samples.bits,
                samples: count / planes,
                planes,
                is_little_endian: samples.is_little_endian,
            },
            predictor: if compression.has_predictor() { directory.value_or(PREDICTOR, 1)? } else { 1 },
            compression,
            is_reversed: directory.value_or(FILL_ORDER, 1)? == 2,
            is_ycbcr: samples.photometric == 6 && count == 3,
            pixels: Pixels::new(samples)?,
        })
    }

    pub(super) fn grid(&self, directory: &Directory<'_>) -> Result<Grid, DecodeError> {
        Grid::read(directory, self.size, self.layout.planes)
    }
}

/// Returns the bits of every sample. A single value applies to all samples.
fn bits(directory: &Directory<'_>, count: usize) -> Result<u8, DecodeError> {
    let all = directory.values(BITS_PER_SAMPLE)?.unwrap_or_else(|| vec![1]);
    let used = all.get(..count.min(all.len())).unwrap_or_default();
    let first = used.first().copied().unwrap_or(0);
    if used.len() != count && used.len() != 1 || used.iter().any(|&bits| bits != first) {
        return Err(unsupported(format_args!("samples of {all:?} bits")));
    }
    u8::try_from(first).map_err(|_| unsupported(format_args!("samples of {first} bits")))
}

fn sample_format(directory: &Directory<'_>) -> Result<u64, DecodeError> {
    let all = directory.values(SAMPLE_FORMAT)?.unwrap_or_default();
    let first = all.first().copied().unwrap_or(1);
    if all.iter().any(|&format| format != first) {
        return Err(unsupported(format_args!("samples of formats {all:?}")));
    }
    Ok(first)
}
