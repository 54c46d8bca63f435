//! An API key: what is compared, and what its bearer may do.

use std::{fmt, hash::Hash, str::FromStr, sync::Arc};

use scheduler::{ClientId, Priority};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};

use super::{Quota, Rate};
use crate::caller::Caller;

/// What a hashed key begins with.
const HASH_PREFIX: &str = "sha256:";

/// Shortest key that is taken, in bytes: what is shorter can be guessed.
const MIN_BYTES: usize = 8;

/// A key's SHA-256. Keys are long and random, so a slow hash would protect nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Secret([u8; 32]);

/// A key as it was configured, that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyParseError {
    /// It starts as a hash does.
    #[error("sha256: is not followed by 64 hexadecimal digits")]
    Hash,
    /// It is too short to be a secret.
    #[error("the key is {0} bytes long, at least {MIN_BYTES} are needed")]
    Short(usize),
}

impl Secret {
    /// The hash of a key as it is presented.
    #[must_use]
    pub fn of(token: &[u8]) -> Self {
        Self(Sha256::digest(token).into())
    }

    /// Whether both are of the same key, in a time that does not tell how alike they are.
    #[must_use]
    pub fn matches(&self, other: &Self) -> Choice {
        self.0.ct_eq(&other.0)
    }
}

impl FromStr for Secret {
    type Err = KeyParseError;

    /// A key in plain text, or `sha256:` and its hash in hexadecimal digits.
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

/// A key with its rights.
#[derive(Clone, Debug)]
pub struct ApiKey {
    /// What it is called in logs and metrics.
    pub name: Arc<str>,
    /// What is compared.
    pub secret: Secret,
    /// The highest class that its bearer may ask for.
    pub highest: Priority,
    /// Share of the engine beside others of the same class.
    pub weight: u32,
    /// What its bearer may ask; without, as much as there is room for.
    pub quota: Option<Arc<Quota>>,
    /// Whether its bearer may change which models there are.
    pub admin: bool,
}

impl ApiKey {
    /// A key that may ask whatever there is to ask.
    #[must_use]
    pub fn new(name: impl Into<Arc<str>>, secret: Secret) -> Self {
        Self { name: name.into(), secret, highest: Priority::High, weight: 1, quota: None, admin: false }
    }

    /// The rate that its bearer is held to.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        self.quota.as_ref().map(|quota| quota.rate())
    }

    /// Who comes with it.
    #[must_use]
    pub fn caller(&self) -> Caller {
        let [a, b, c, d, e, f, g, h, ..] = self.secret.0;
        Caller {
            key: Some(Arc::clone(&self.name)),
            client: ClientId(u64::from_le_bytes([a, b, c, d, e, f, g, h])),
            highest: self.highest,
            weight: self.weight,
            quota: self.quota.clone(),
            admin: self.admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_and_its_hash_are_the_same_key() {
        // As sha256sum prints it, and in the other case.
        let hash = "9dca666eb54730714630d1519264a7bf1eeaad00b8f2edc90d3ecbfad928d163";
        let plain: Secret = "correct-horse".parse().unwrap();
        for hash in [hash.to_owned(), hash.to_uppercase()] {
            let hashed: Secret = format!("{HASH_PREFIX}{hash}").parse().unwrap();
            assert!(bool::from(plain.matches(&hashed)));
        }
        assert!(!bool::from(plain.matches(&Secret::of(b"correct-house"))));
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_repeated() {
        assert_eq!("sha256:12".parse::<Secret>(), Err(KeyParseError::Hash));
        assert_eq!(format!("sha256:{}", "g".repeat(64)).parse::<Secret>(), Err(KeyParseError::Hash));
        assert_eq!(format!("sha256:{}", "\u{e9}".repeat(32)).parse::<Secret>(), Err(KeyParseError::Hash));
        assert_eq!("short".parse::<Secret>(), Err(KeyParseError::Short(5)));
        assert_eq!(format!("{:?}", Secret::of(b"correct-horse")), "Secret(..)");
    }
}
