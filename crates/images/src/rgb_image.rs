//! Decoded pixels, the output of every codec.

/// A decoded image: 8-bit RGB, rows from top to bottom, without padding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RgbImage {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Samples, `[height, width, 3]`.
    pub data: Vec<u8>,
}
