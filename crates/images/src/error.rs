//! Why an image was not decoded.

use crate::format::Format;

/// A refusal to decode, on one image only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No bytes at all.
    #[error("image is empty")]
    Empty,
    /// The file is longer than [`crate::Limits::max_bytes`].
    #[error("image has {bytes} bytes, the limit is {limit}")]
    TooManyBytes {
        /// Length of the file.
        bytes: usize,
        /// The limit that it passes.
        limit: usize,
    },
    /// The first bytes are no known format's.
    #[error("image is of no known format (known: PNG, JPEG, WebP, GIF, BMP, TIFF)")]
    UnknownFormat,
    /// A side is longer than [`crate::Limits::max_side`].
    #[error("image is {width} x {height} pixels, the limit is {limit} a side")]
    SideTooLong {
        /// Width that the header claims, in pixels.
        width: u32,
        /// Height that the header claims, in pixels.
        height: u32,
        /// The limit that one of them passes.
        limit: u32,
    },
    /// The area is larger than [`crate::Limits::max_pixels`].
    #[error("image is {width} x {height} = {pixels} pixels, the limit is {limit}", pixels = u64::from(*width) * u64::from(*height))]
    TooManyPixels {
        /// Width that the header claims, in pixels.
        width: u32,
        /// Height that the header claims, in pixels.
        height: u32,
        /// The limit that their product passes.
        limit: u64,
    },
    /// Decoding would take more memory than [`crate::Limits::max_decode_bytes_in_flight`].
    #[error("image needs {needed} bytes to decode, the limit is {limit}")]
    TooMuchMemory {
        /// Working memory of this decode, in bytes.
        needed: u64,
        /// The limit that it passes.
        limit: u64,
    },
    /// The file is of a known format but uses a part of it that is not read.
    #[error("{format} image is not supported: {reason}")]
    Unsupported {
        /// The format.
        format: Format,
        /// What is not read.
        reason: String,
    },
    /// The file ends before its image does. The reference refuses such files, and so do we.
    #[error("{format} image is truncated")]
    Truncated {
        /// The format.
        format: Format,
    },
    /// The file contradicts its format.
    #[error("{format} image is corrupt: {reason}")]
    Corrupt {
        /// The format.
        format: Format,
        /// What the format's decoder says.
        reason: String,
    },
}

impl DecodeError {
    pub(crate) fn corrupt(format: Format, reason: impl ToString) -> Self {
        Self::Corrupt { format, reason: reason.to_string() }
    }

    pub(crate) fn unsupported(format: Format, reason: impl ToString) -> Self {
        Self::Unsupported { format, reason: reason.to_string() }
    }

    /// The stable, machine-readable name of this refusal.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Empty => "IMAGE_EMPTY",
            Self::TooManyBytes { .. } => "IMAGE_TOO_MANY_BYTES",
            Self::UnknownFormat => "IMAGE_UNKNOWN_FORMAT",
            Self::SideTooLong { .. } => "IMAGE_SIDE_TOO_LONG",
            Self::TooManyPixels { .. } => "IMAGE_TOO_MANY_PIXELS",
            Self::TooMuchMemory { .. } => "IMAGE_TOO_MUCH_MEMORY",
            Self::Unsupported { .. } => "IMAGE_UNSUPPORTED",
            Self::Truncated { .. } => "IMAGE_TRUNCATED",
            Self::Corrupt { .. } => "IMAGE_CORRUPT",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn message_names_the_value_and_the_limit() {
        let error = DecodeError::TooManyPixels { width: 30_000, height: 30_000, limit: 25_000_000 };
        assert_eq!(error.to_string(), "image is 30000 x 30000 = 900000000 pixels, the limit is 25000000");
    }
}
