//! Errors of WebP.

use crate::{error::DecodeError, format::Format};

pub(super) fn corrupt(reason: impl ToString) -> DecodeError {
    DecodeError::corrupt(Format::WebP, reason)
}

pub(super) fn truncated() -> DecodeError {
    DecodeError::Truncated { format: Format::WebP }
}
