//! Decodes an untrusted image file to pixels, within limits.

use std::sync::Arc;

use crate::{
    admission::{Admission, ReserveMemory},
    codec,
    error::DecodeError,
    format::Format,
    limits::Limits,
    rgb_image::RgbImage,
};

/// A decoder of images with its [`Limits`]. Clones share one memory budget.
///
/// The first bytes decide the format. The header's width, height and area are checked before memory
/// for the pixels is allocated. EXIF orientation is ignored, as in the reference's preprocessing.
#[derive(Clone, Debug)]
pub struct Decoder {
    admission: Arc<Admission>,
}

impl Decoder {
    /// Creates a decoder with these limits.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { admission: Arc::new(Admission::new(limits, None)) }
    }

    /// Creates a decoder that also reserves the memory of each image by `reserve`, in a budget that
    /// several processes share.
    #[must_use]
    pub fn with_reservations(limits: Limits, reserve: ReserveMemory) -> Self {
        Self { admission: Arc::new(Admission::new(limits, Some(reserve))) }
    }

    /// Returns the limits that this decoder enforces.
    #[must_use]
    pub fn limits(&self) -> &Limits {
        self.admission.limits()
    }

    /// Checks the size of a file and its first bytes.
    ///
    /// # Errors
    /// An empty file, one above [`Limits::max_bytes`], or one without a known signature.
    pub fn check(&self, bytes: &[u8]) -> Result<Format, DecodeError> {
        let limit = self.admission.limits().max_bytes;
        match bytes.len() {
            0 => Err(DecodeError::Empty),
            bytes if bytes > limit => Err(DecodeError::TooManyBytes { bytes, limit }),
            _ => Format::sniff(bytes).ok_or(DecodeError::UnknownFormat),
        }
    }

    /// Decodes `bytes` to RGB, equal to Pillow's `Image.open(..).convert("RGB")`.
    ///
    /// Blocks the thread, possibly until other decodes release memory. Never call it on an async
    /// worker.
    ///
    /// # Errors
    /// [`DecodeError`] for every input that is not decoded. No input causes a panic.
    pub fn decode(&self, bytes: &[u8]) -> Result<RgbImage, DecodeError> {
        let decode = match self.check(bytes)? {
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
