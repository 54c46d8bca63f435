//! Content by its hash: what the hub's ETag promises.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

/// An ETag that says what a file's content is. It is also the name of its blob in the cache, so that it is hexadecimal
/// digits and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContentTag(String);

impl ContentTag {
    /// The tag in an `ETag` or `X-Linked-Etag` header: a SHA-256 of large files, Git's own hash of small ones. Nothing
    /// for any other, which could not be checked.
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

    /// Begins a hash of a file of `size` bytes.
    pub(crate) fn hasher(&self, size: u64) -> Hasher {
        if self.0.len() == 64 {
            return Hasher::Sha256(Sha256::new());
        }
        // Git hashes a file's kind and length ahead of its content.
        Hasher::GitBlob(Sha1::new_with_prefix(format!("blob {size}\0")))
    }
}

/// A hash under way.
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

    /// The hash so far, in hexadecimal digits.
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
    fn small_files_have_the_hash_that_git_gives_them() {
        // git hash-object of a file that says hello.
        assert_eq!(digest(&"0".repeat(40), b"hello\n"), "ce013625030ba8dba906f756967f9e9ca394464a");
    }

    #[test]
    fn large_files_have_their_sha256() {
        let expected = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
        assert_eq!(digest(&format!("\"{expected}\""), b"hello\n"), expected);
    }

    #[test]
    fn a_tag_that_is_no_hash_is_none_and_can_be_no_path() {
        let weak = format!("W/\"{}\"", "a".repeat(40));
        assert_eq!(ContentTag::parse(&weak).unwrap().as_str(), "a".repeat(40));
        for tag in ["", "\"abc\"", "../../etc/passwd", &"g".repeat(40), &"A".repeat(64), &"/".repeat(40)] {
            assert_eq!(ContentTag::parse(tag), None, "{tag}");
        }
    }
}
