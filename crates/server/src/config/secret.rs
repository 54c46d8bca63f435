//! The hash of an API key, as settings and the keys file give it.

use std::{fmt, str::FromStr};

use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

/// The prefix of a hashed key.
const HASH_PREFIX: &str = "sha256:";

/// The minimum length of a key, in bytes. A shorter key can be guessed.
const MIN_BYTES: usize = 8;

/// The SHA-256 hash of a key. Keys are long and random, so a slow hash would add no protection.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Secret([u8; 32]);

/// An invalid key in the configuration. The message does not contain the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyParseError {
    /// The hash is malformed.
    #[error("invalid hash of a key: expected 64 hexadecimal digits after sha256:")]
    Hash,
    /// The key is too short.
    #[error("key too short: {0} bytes, at least {MIN_BYTES} required")]
    Short(usize),
}

impl Secret {
    /// Hashes a key that a client presents.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Compares two hashes in a time that does not depend on their contents.
    #[must_use]
    pub fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }

    /// Returns the first 8 bytes of the hash as a number that identifies the key.
    #[must_use]
    pub fn prefix(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_le_bytes([a, b, c, d, e, f, g, h])
    }
}

impl FromStr for Secret {
    type Err = KeyParseError;

    /// Parses a key in plain text, or `sha256:` and the hash of a key in hexadecimal digits.
    fn from_str(text: &str) -> Result<Self, KeyParseError> {
        let Some(digits) = text.strip_prefix(HASH_PREFIX) else {
            return if text.len() < MIN_BYTES {
                Err(KeyParseError::Short(text.len()))
            } else {
                Ok(Self::of(text.as_bytes()))
            };
        };
        let mut hash = [0; 32];
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(KeyParseError::Hash);
        }
        for (position, byte) in hash.iter_mut().enumerate() {
            let digits = digits.get(2 * position..2 * position + 2).unwrap_or_default();
            *byte = u8::from_str_radix(digits, 16).map_err(|_| KeyParseError::Hash)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_equals_its_hash() {
        // As sha256sum prints it, and in upper case.
        let hash = "9dca666eb54730714630d1519264a7bf1eeaad00b8f2edc90d3ecbfad928d163";
        let plain: Secret = "correct-horse".parse().unwrap();
        for hash in [hash.to_owned(), hash.to_uppercase()] {
            let hashed: Secret = format!("{HASH_PREFIX}{hash}").parse().unwrap();
            assert!(bool::from(plain.matches(&hashed)));
        }
        assert!(!bool::from(plain.matches(&Secret::of(b"correct-house"))));
    }

    #[test]
    fn invalid_key_is_rejected_without_being_shown() {
        assert_eq!("sha256:12".parse::<Secret>(), Err(KeyParseError::Hash));
        assert_eq!(format!("sha256:{}", "g".repeat(64)).parse::<Secret>(), Err(KeyParseError::Hash));
        assert_eq!(format!("sha256:{}", "\u{e9}".repeat(32)).parse::<Secret>(), Err(KeyParseError::Hash));
        assert_eq!("short".parse::<Secret>(), Err(KeyParseError::Short(5)));
        assert_eq!(format!("{:?}", Secret::of(b"correct-horse")), "Secret(..)");
    }
}
