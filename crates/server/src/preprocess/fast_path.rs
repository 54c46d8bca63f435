//! The decision which inputs are prepared on the calling thread.

use images::ImageDigest;

use crate::request::item::{FileContent, ImageFile, ValidatedItem, ValidatedItems};

/// The largest file that is hashed on the calling thread, in bytes. This takes tens of
/// microseconds.
const MAX_FILE_BYTES: usize = 128 << 10;

/// The most texts of an image that are tokenized on the calling thread.
const MAX_TEXTS: usize = 8;

/// The largest total size of these texts, in bytes.
const MAX_TEXT_BYTES: usize = 256;

/// Returns the digest of the file if the input is small enough for the calling thread, should the
/// image be cached.
pub(crate) fn inline_digest(file: &ImageFile, items: &ValidatedItems) -> Option<ImageDigest> {
    let FileContent::Bytes(bytes) = &file.content else { return None };
    let text_bytes: usize = items.iter().flatten().map(ValidatedItem::bytes).sum();
    let is_small = bytes.len() <= MAX_FILE_BYTES && items.len() <= MAX_TEXTS && text_bytes <= MAX_TEXT_BYTES;
    is_small.then(|| ImageDigest::of(bytes))
}
