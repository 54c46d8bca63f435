//! The name of an image: the BLAKE3 digest of its undecoded bytes.

use std::fmt;

/// BLAKE3 digest of an image's bytes: equal files are the same image everywhere in the server.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageDigest(pub [u8; 32]);

impl ImageDigest {
    /// The digest of `bytes`, as they came and before any decoding.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        blake3::Hash::from_bytes(self.0).to_hex().fmt(f)
    }
}

impl fmt::Debug for ImageDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Digest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_is_blake3_in_hexadecimal() {
        // The empty input's vector from the BLAKE3 specification.
        let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(ImageDigest::of(b"").to_string(), expected);
    }

    #[test]
    fn one_changed_byte_is_another_image() {
        assert_ne!(ImageDigest::of(b"image"), ImageDigest::of(b"imagf"));
    }
}
