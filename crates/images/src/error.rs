//! Errors of decoding an image.

use serde::{Deserialize, Serialize};

use crate::format::Format;

/// The longest reason in an error that another process reports, in characters.
const MAX_REASON_CHARS: usize = 200;

/// The reason why one image was not decoded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DecodeError {
    /// The file has no bytes.
    #[error("image is empty")]
    Empty,
    /// The file is larger than [`crate::Limits::max_bytes`].
    #[error("image is too large: {bytes} bytes, at most {limit} allowed")]
    TooManyBytes {
        /// The size of the file.
        bytes: usize,
        /// The largest allowed size.
        limit: usize,
    },
    /// The first bytes are not the signature of a supported format.
    #[error("unknown image format; supported: PNG, JPEG, WebP, GIF, BMP, TIFF")]
    UnknownFormat,
    /// The width or height is larger than [`crate::Limits::max_side`].
    #[error("image side is too long: {width} x {height} pixels, at most {limit} a side allowed")]
    SideTooLong {
        /// Width that the header claims, in pixels.
        width: u32,
        /// Height that the header claims, in pixels.
        height: u32,
        /// The largest allowed side, in pixels.
        limit: u32,
    },
    /// The area is larger than [`crate::Limits::max_pixels`].
    #[error(
        "image has too many pixels: {width} x {height} = {pixels}, at most {limit} allowed",
        pixels = u64::from(*width) * u64::from(*height)
    )]
    TooManyPixels {
        /// Width that the header claims, in pixels.
        width: u32,
        /// Height that the header claims, in pixels.
        height: u32,
        /// The largest allowed area, in pixels.
        limit: u64,
    },
    /// Decoding needs more memory than [`crate::Limits::max_decode_bytes_in_flight`].
    #[error("image needs too much memory: {needed} bytes to decode, at most {limit} allowed")]
    TooMuchMemory {
        /// The working memory of this decode, in bytes.
        needed: u64,
        /// The memory budget, in bytes.
        limit: u64,
    },
    /// The file uses an unsupported feature of its format.
    #[error("unsupported {format} image: {reason}")]
    Unsupported {
        /// The format.
        format: Format,
        /// The unsupported feature.
        reason: String,
    },
    /// The file ends before its image does. The reference rejects such files, too.
    #[error("truncated {format} image")]
    Truncated {
        /// The format.
        format: Format,
    },
    /// The file contradicts its format.
    #[error("corrupt {format} image: {reason}")]
    Corrupt {
        /// The format.
        format: Format,
        /// The message of the format's decoder.
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

    /// Returns the error with the reason shortened to `MAX_REASON_CHARS`.
    #[must_use]
    pub fn with_short_reason(mut self) -> Self {
        if let Self::Unsupported { reason, .. } | Self::Corrupt { reason, .. } = &mut self
            && let Some((end, _)) = reason.char_indices().nth(MAX_REASON_CHARS)
        {
            reason.truncate(end);
        }
        self
    }

    /// Returns the stable, machine-readable name of this error.
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
    fn message_names_value_and_limit() {
        let error = DecodeError::TooManyPixels { width: 30_000, height: 30_000, limit: 25_000_000 };
        assert_eq!(
            error.to_string(),
            "image has too many pixels: 30000 x 30000 = 900000000, at most 25000000 allowed"
        );
    }
}
