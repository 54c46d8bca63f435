//! Image bytes or an image URL in, decoded RGB pixels out.
//!
//! An image passes through this crate in these steps:
//!
//! 1. [`fetch`] downloads the image at a URL, protected against server-side request forgery.
//! 2. [`ImageDigest`] identifies the bytes, so that equal files share cache entries.
//! 3. [`Decoder`] recognizes the [`Format`], checks the header against the [`Limits`], reserves
//!    memory, and decodes to an [`RgbImage`].
//!
//! This crate enforces all limits on untrusted images. Pixels equal those of the reference's
//! `Image.open(..).convert("RGB")` (Pillow 12.3): see `docs/decisions/image-modes.md`.
//!
//! Modules are listed from entry point to foundation. Each uses only modules below it.

pub mod fetch;
mod decoder;
mod codec;
mod admission;
mod memory_budget;
mod error;
mod limits;
mod rgb_image;
mod format;
mod image_digest;
mod claimed_size;

pub use admission::ReserveMemory;
pub use claimed_size::claimed_pixels;
pub use decoder::Decoder;
pub use error::DecodeError;
pub use format::Format;
pub use image_digest::ImageDigest;
pub use limits::Limits;
pub use rgb_image::RgbImage;
