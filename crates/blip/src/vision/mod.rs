//! The vision encoder on LibTorch, and the transfer of pixels to its device.

pub(crate) mod encoder;
mod attention;
pub(crate) mod pixel_uploader;
