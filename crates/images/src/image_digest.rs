//! The identity of an image: the BLAKE3 digest of its undecoded bytes.

use std::fmt;

/// The BLAKE3 digest of an image file. Files with equal digests are the same image to all caches.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ImageDigest(pub [u8; 32]);

impl ImageDigest {
    /// Computes the digest of the undecoded `bytes`.
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
        write!(f, "ImageDigest({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digest_displays_as_blake3_in_hexadecimal() {
        // The test vector of the empty input from the BLAKE3 specification.
        let expected = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262";
        assert_eq!(ImageDigest::of(b"").to_string(), expected);
    }

    #[test]
    fn digest_differs_after_one_changed_byte() {
        assert_ne!(ImageDigest::of(b"image"), ImageDigest::of(b"imagf"));
    }
}
