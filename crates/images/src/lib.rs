//! Image bytes in, decoded RGB pixels out: every limit on hostile input lives here.
//!
//! A stranger's bytes are named by their [`digest()`], decoded by a [`Decoder`] that refuses a file
//! by its header before it allocates for it, on a [`CpuPool`] that is bounded and drops the work of
//! callers who have left. [`fetch`] brings the bytes behind a URL. Pixels equal those of the reference's `Image.open(..).convert("RGB")`
//! (Pillow 12.3): see `docs/decisions/image-modes.md`.

pub mod fetch;
mod cpu_pool;
mod decoder;
mod codec;
mod admission;
mod memory_budget;
mod error;
mod limits;
mod rgb_image;
mod format;
mod image_digest;

pub use cpu_pool::{CpuPool, PoolCounters, PoolError};
pub use decoder::Decoder;
pub use error::DecodeError;
pub use format::Format;
pub use image_digest::ImageDigest;
pub use limits::Limits;
pub use rgb_image::RgbImage;
