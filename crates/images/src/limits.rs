//! Limits on the images that a decoder accepts.

use serde::{Deserialize, Serialize};

/// Limits on one image and on all concurrent decodes.
///
/// The defaults accept a 24-megapixel photograph of any camera, and a long screenshot. In every
/// format, they bound the memory of all concurrent decodes by
/// [`Limits::max_decode_bytes_in_flight`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Largest accepted file, in bytes.
    pub max_bytes: usize,
    /// Largest accepted width or height, in pixels.
    ///
    /// Tables for scaling have some 16 bytes for each pixel of a side.
    pub max_side: u32,
    /// Largest accepted product of width and height, in pixels.
    pub max_pixels: u64,
    /// Largest working memory of all concurrent decodes of one [`crate::Decoder`], in bytes.
    ///
    /// A decode waits until its memory is free. An image that needs more by itself is an error.
    pub max_decode_bytes_in_flight: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 20 << 20,
            max_side: 65_535,
            max_pixels: 25_000_000,
            max_decode_bytes_in_flight: 256 << 20,
        }
    }
}
