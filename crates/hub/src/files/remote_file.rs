//! A file on the hub.

use crate::files::checksum::ContentTag;

/// A file of a commit.
#[derive(Clone, Debug)]
pub(crate) struct RemoteFile {
    pub(crate) name: String,
    pub(crate) tag: ContentTag,
    /// In bytes.
    pub(crate) size: u64,
}
