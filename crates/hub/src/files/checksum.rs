//! Verifies content by the hash in the hub's ETag.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// An ETag that is the hash of a file's content.
///
/// It is also the name of the blob in the cache, so it contains only hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentTag(String);

impl ContentTag {
    /// Parses an `ETag` or `X-Linked-Etag` header.
    ///
    /// The tag of a large file is its SHA-256, the tag of a small file its Git blob hash. Returns
    /// `None` for all other tags, because content cannot be verified with them.
    pub(crate) fn parse(header: &str) -> Option<Self> {
        let text = header.trim();
        let text = text.strip_prefix("W/").unwrap_or(text).trim_matches('"');
        let is_hash = matches!(text.len(), 40 | 64)
            && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then(|| Self(text.to_owned()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }

    /// Starts the hash of a file of `size` bytes.
    pub(crate) fn hasher(&self, size: u64) -> Hasher {
        if self.0.len() == 64 {
            return Hasher::Sha256(Sha256::new());
        }
        // Git hashes the object type and the length before the content.
        Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0")))
    }
}

/// A hash of the content so far.
#[derive(Clone, Debug)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    GitBlob(Sha1),
}

impl Hasher {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hash) => hash.update(bytes),
            Self::GitBlob(hash) => hash.update(bytes),
        }
    }

    /// Returns the hash so far, in hexadecimal digits.
    pub(crate) fn digest(&self) -> String {
        match self {
            Self::Sha256(hash) => format!("{:x}", hash.clone().finalize()),
            Self::GitBlob(hash) => format!("{:x}", hash.clone().finalize()),
        }
    }

    pub(crate) fn algorithm(&self) -> &'static str {
        match self {
            Self::Sha256(_) => "sha256",
            Self::GitBlob(_) => "git hash",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(tag: &str, content: &[u8]) -> String {
        let mut hasher = ContentTag::parse(tag).unwrap().hasher(content.len() as u64);
        hasher.update(content);
        hasher.digest()
    }

    #[test]
    fn small_file_hash_equals_git_blob_hash() {
        // The output of git hash-object for a file with this content.
        assert_eq!(digest(&"0".repeat(40), b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn large_file_hash_equals_sha256() {
        let expected = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(digest(&format!("\"{expected}\""), b"hello\n"), expected);
    }

    #[test]
    fn tag_that_is_not_a_hash_is_rejected() {
        let weak = format!("W/\"{}\"", "a".repeat(40));
        assert_eq!(ContentTag::parse(&weak).unwrap().as_str(), "a".repeat(40));
        for tag in ["", "\"abc\"", "../../etc/passwd", &"g".repeat(40), &"A".repeat(64), &"/".repeat(40)] {
            assert_eq!(ContentTag::parse(tag), None, "{tag}");
        }
    }
}
