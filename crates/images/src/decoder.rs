//! From a stranger's bytes to pixels, within limits.

use std::sync::Arc;

use crate::codec;
use crate::memory_budget::{MemoryQuota, Share};
use crate::{DecodeError, Format, Limits, RgbImage};

/// Decodes images within its [`Limits`]. Cloning shares the limit on memory in flight.
///
/// The format is told by content. Sides and area are checked by the header before anything of the
/// image's size is allocated. EXIF orientation is ignored, as the reference's preprocessing does.
#[derive(Clone, Debug)]
pub struct Decoder {
    admission: Arc<Admission>,
}

impl Decoder {
    /// A decoder with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        let quota = MemoryQuota::new(limits.max_decode_bytes_in_flight);
        Self { admission: Arc::new(Admission { limits, quota }) }
    }

    /// The limits that it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        &self.admission.limits
    }

    /// The image in `bytes` as RGB, equal to Pillow's `Image.open(..).convert("RGB")`.
    ///
    /// Heavy and blocking (it may wait for memory that other decodes hold): call it on a
    /// [`crate::CpuPool`], never on an async worker.
    ///
    /// # Errors
    /// [`DecodeError`], whatever the bytes are: no input makes this panic.
    pub fn decode(&self, bytes: &[u8]) -> Result<RgbImage, DecodeError> {
        if bytes.is_empty() {
            return Err(DecodeError::Empty);
        }
        let limit = self.admission.limits.max_bytes;
        if bytes.len() > limit {
            return Err(DecodeError::TooManyBytes { bytes: bytes.len(), limit });
        }
        let decode = match Format::sniff(bytes).ok_or(DecodeError::UnknownFormat)? {
            Format::Png => codec::png::decode,
            Format::Jpeg => codec::jpeg::decode,
            Format::WebP => codec::webp::decode,
            Format::Gif => codec::gif::decode,
            Format::Bmp => codec::bmp::decode,
            Format::Tiff => codec::tiff::decode,
        };
        decode(bytes, &self.admission)
    }
}

impl Default for Decoder {
    fn default() -> Self {
        Self::new(Limits::default())
    }
}

/// The gate that every codec passes between reading a header and allocating for its image.
#[derive(Debug)]
pub(crate) struct Admission {
    limits: Limits,
    quota: MemoryQuota,
}

/// Leave to decode an image of this size.
#[derive(Debug)]
pub(crate) struct Admitted<'a> {
    width: u32,
    height: u32,
    _share: Share<'a>,
}

impl Admission {
    /// Lets an image of this size be decoded, once the memory for `scratch_bytes_per_pixel` beside
    /// the RGB result is free.
    pub(crate) fn admit(
        &self,
        (width, height): (u32, u32),
        scratch_bytes_per_pixel: u64,
    ) -> Result<Admitted<'_>, DecodeError> {
        let Limits { max_side, max_pixels, max_decode_bytes_in_flight, .. } = self.limits;
        if width.max(height) > max_side {
            return Err(DecodeError::SideTooLong { width, height, limit: max_side });
        }
        let pixels = u64::from(width) * u64::from(height);
        if pixels > max_pixels {
            return Err(DecodeError::TooManyPixels { width, height, limit: max_pixels });
        }
        let needed = pixels.saturating_mul(scratch_bytes_per_pixel.saturating_add(3));
        let share = self
            .quota
            .take(needed)
            .ok_or(DecodeError::TooMuchMemory { needed, limit: max_decode_bytes_in_flight })?;
        Ok(Admitted { width, height, _share: share })
    }
}

impl Admitted<'_> {
    /// An empty buffer with room for the RGB result.
    pub(crate) fn buffer(&self) -> Vec<u8> {
        Vec::with_capacity(self.width as usize * self.height as usize * 3)
    }

    /// The finished image.
    pub(crate) fn finish(self, format: Format, data: Vec<u8>) -> Result<RgbImage, DecodeError> {
        let Self { width, height, .. } = self;
        if data.is_empty() || data.len() as u64 != u64::from(width) * u64::from(height) * 3 {
            return Err(DecodeError::corrupt(
                format,
                format_args!("no whole image of {width} x {height} pixels"),
            ));
        }
        Ok(RgbImage { width, height, data })
    }
}
