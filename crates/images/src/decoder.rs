//! From a stranger's bytes to pixels, within limits.

use std::sync::Arc;

use crate::{
    admission::Admission, codec, error::DecodeError, format::Format, limits::Limits, rgb_image::RgbImage,
};

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
        Self { admission: Arc::new(Admission::new(limits)) }
    }

    /// The limits that it keeps.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.admission.limits()
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
        let limit = self.admission.limits().max_bytes;
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
