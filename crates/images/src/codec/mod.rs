//! One module for each format.
//!
//! Each `decode` function reads the header, requests admission, decodes the pixels and converts
//! them to RGB.

pub(crate) mod png;
pub(crate) mod tiff;
pub(crate) mod jpeg;
pub(crate) mod webp;
pub(crate) mod gif;
pub(crate) mod bmp;

mod orientation;
mod packed_samples;
mod rgb_conversion;
