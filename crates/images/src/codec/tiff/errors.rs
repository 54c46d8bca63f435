//! Errors of TIFF.

use crate::{error::DecodeError, format::Format};

pub(super) fn corrupt(reason: impl ToString) -> DecodeError {
    DecodeError::corrupt(Format::Tiff, reason)
}

pub(super) fn unsupported(reason: impl ToString) -> DecodeError {
    DecodeError::unsupported(Format::Tiff, reason)
}

pub(super) fn truncated() -> DecodeError {
    DecodeError::Truncated { format: Format::Tiff }
}
