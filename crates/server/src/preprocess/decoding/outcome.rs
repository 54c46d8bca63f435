//! What decoding an image ends with.

use std::{sync::Arc, time::Duration};

use blip::Pixels;
use images::DecodeError;

/// An image at the size of the model.
#[derive(Clone, Debug)]
pub struct DecodedImage {
    /// The pixels.
    pub pixels: Arc<Pixels>,
    /// The time from bytes to RGB, including the wait for memory.
    pub decode: Duration,
    /// The time from RGB to the size of the model.
    pub scale: Duration,
}

/// The reason why an image has no pixels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeFailure {
    /// The file is not an image within the limits.
    Image(DecodeError),
    /// Decoding took more CPU time than allowed.
    CpuLimit {
        /// The CPU time that it took until it was ended.
        spent: Duration,
        /// The CPU time allowed.
        limit: Duration,
    },
    /// Decoding took more memory than allowed.
    MemoryLimit {
        /// The memory allowed, in bytes.
        limit: u64,
    },
    /// The deadline of the call has passed.
    Deadline,
    /// The worker process failed, or the caller has left.
    Worker(String),
}
