//! What an image may cost before it is refused.

/// Ceilings on one image and on all decodes in flight.
///
/// The defaults let a 24-megapixel photograph of any camera pass and keep the memory of every
/// decode at once, in the worst format, under [`Limits::max_decode_bytes_in_flight`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest accepted file, in bytes.
    pub max_bytes: usize,
    /// Longest accepted side, in pixels.
    pub max_side: u32,
    /// Largest accepted width times height, in pixels.
    pub max_pixels: u64,
    /// Ceiling on the working memory of all decodes of one [`crate::Decoder`] together, in bytes: a
    /// decode waits until its share is free, and one that alone needs more is refused.
    pub max_decode_bytes_in_flight: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_bytes: 20 << 20,
            max_side: 16_384,
            max_pixels: 25_000_000,
            max_decode_bytes_in_flight: 256 << 20,
        }
    }
}
