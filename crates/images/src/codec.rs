//! One module a format: header, admission, pixels, RGB.

pub(crate) mod bmp;
pub(crate) mod gif;
pub(crate) mod jpeg;
mod orientation;
pub(crate) mod png;
pub(crate) mod tiff;
mod tiff_palette;
pub(crate) mod webp;
