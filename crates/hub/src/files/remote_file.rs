//! A file on the hub with its hash and size.

use crate::files::checksum::ContentTag;

/// A file of a commit on the hub.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    pub(crate) name: String,
    pub(crate) tag: ContentTag,
    /// Size in bytes.
    pub(crate) size: u64,
}
