//! One module a format: header, admission, pixels, RGB.

pub(crate) mod bmp;
pub(crate) mod gif;
pub(crate) mod jpeg;
pub(crate) mod png;
pub(crate) mod tiff;
pub(crate) mod webp;

mod orientation;
mod packed_samples;
mod rgb_conversion;
mod tiff_palette;
