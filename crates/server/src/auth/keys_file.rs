//! The keys file: TOML, with one `[[keys]]` table for each API key.

use std::{collections::HashSet, num::NonZeroU32, path::Path, sync::Arc};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::{
    auth::{ApiKey, Quota, Rate},
    config::secret::KeyParseError,
    priority::RequestPriority,
};

/// The maximum size of a keys file, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// The maximum weight of a key.
const MAX_WEIGHT: u32 = 1000;

/// An unusable keys file. No message contains a key.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    /// The file cannot be read.
    #[error("cannot read the keys file {path}: {cause}")]
    Unreadable {
        /// Path of the file.
        path: String,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// The file is not TOML, or a table has an unknown field, a missing field or a wrong type.
    #[error("invalid keys file, line {line}: {cause}")]
    Malformed {
        /// Number of the line, from 1.
        line: usize,
        /// The error in it.
        cause: String,
    },
    /// The text of a key is invalid.
    #[error("key {name:?}: {cause}")]
    Key {
        /// Name of the key.
        name: String,
        /// The error in its text.
        cause: KeyParseError,
    },
    /// The value of a field is not allowed.
    #[error("key {name:?}: invalid {field}: {value}, expected {expected}")]
    Value {
        /// Name of the key.
        name: String,
        /// Name of the field.
        field: &'static str,
        /// Its value.
        value: u32,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// Two entries have the same name or the same key.
    #[error("duplicate key {name:?}")]
    Duplicate {
        /// Name of the second entry.
        name: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<KeyEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyEntry {
    name: String,
    #[serde(deserialize_with = "key_text")]
    key: String,
    #[serde(default)]
    priority: RequestPriority,
    #[serde(default = "one")]
    weight: u32,
    questions_per_s: Option<u32>,
    burst: Option<u32>,
    #[serde(default)]
    admin: bool,
}

fn one() -> u32 {
    1
}

/// Deserializes the text of a key.
///
/// The error does not show a value of another type, because that may be a key without its quotes.
fn key_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(key) => Ok(key),
        other => Err(D::Error::custom(format!("key of type {}, expected text in quotes", other.type_str()))),
    }
}

/// Reads the keys file at `path`.
///
/// # Errors
/// [`KeysFileError`] for the first error in the file.
pub fn read_keys(path: &Path) -> Result<Vec<ApiKey>, KeysFileError> {
    let text = regular_file::read_text(path, MAX_BYTES)
        .map_err(|cause| KeysFileError::Unreadable { path: path.display().to_string(), cause })?;
    parse_keys(&text)
}

/// Parses the text of a keys file.
///
/// # Errors
/// [`KeysFileError`] for the first error in the text.
pub fn parse_keys(text: &str) -> Result<Vec<ApiKey>, KeysFileError> {
    let file: File = toml::from_str(text).map_err(|error| KeysFileError::Malformed {
        line: error
            .span()
            .map_or(1, |span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count()),
        // The full message of the library would show the line, and thus the key.
        cause: error.message().to_owned(),
    })?;
    let (mut names, mut secrets) = (HashSet::new(), HashSet::new());
    let mut keys = Vec::with_capacity(file.keys.len());
    for entry in file.keys {
        let key = api_key(&entry)?;
        if !names.insert(Arc::clone(&key.name)) || !secrets.insert(key.secret) {
            return Err(KeysFileError::Duplicate { name: entry.name });
        }
        keys.push(key);
    }
    Ok(keys)
}

fn api_key(entry: &KeyEntry) -> Result<ApiKey, KeysFileError> {
    let name = || entry.name.clone();
    let wrong = |field, value, expected| KeysFileError::Value { name: name(), field, value, expected };
    let secret = entry.key.parse().map_err(|cause| KeysFileError::Key { name: name(), cause })?;
    if !(1..=MAX_WEIGHT).contains(&entry.weight) {
        return Err(wrong("weight", entry.weight, "1 to 1000"));
    }
    let positive = |field, value| NonZeroU32::new(value).ok_or_else(|| wrong(field, value, "at least 1"));
    let quota = match (entry.questions_per_s, entry.burst) {
        (None, None) => None,
        (None, Some(burst)) => return Err(wrong("burst", burst, "only together with questions_per_s")),
        (Some(rate), burst) => {
            let questions_per_s = positive("questions_per_s", rate)?;
            let burst = burst.map_or(Ok(questions_per_s), |burst| positive("burst", burst))?;
            Some(Arc::new(Quota::new(Rate { questions_per_s, burst })))
        }
    };
    let max_priority = entry.priority.into();
    let (weight, is_admin) = (entry.weight, entry.admin);
    Ok(ApiKey { max_priority, weight, quota, is_admin, ..ApiKey::new(entry.name.as_str(), secret) })
}

#[cfg(test)]
mod tests {
    use scheduler::Priority;

    use super::*;

    #[test]
    fn key_has_the_rights_in_the_file() {
        let keys = parse_keys(
            "[[keys]]\nname = 'app'\nkey = 'correct-horse'\n\
             [[keys]]\nname = 'bulk'\nkey = 'battery-staple'\npriority = 'low'\nweight = 4\nquestions_per_s = 50\n\
             admin = true\n",
        )
        .unwrap();
        let [app, bulk] = keys.as_slice() else { panic!("{keys:?}") };
        assert_eq!(
            (&*app.name, app.max_priority, app.weight, app.rate()),
            ("app", Priority::Normal, 1, None)
        );
        let fifty = NonZeroU32::new(50).unwrap();
        assert_eq!((&*bulk.name, bulk.max_priority, bulk.weight), ("bulk", Priority::Low, 4));
        assert_eq!((app.client().is_admin, bulk.client().is_admin), (false, true));
        assert_eq!(bulk.rate(), Some(Rate { questions_per_s: fifty, burst: fifty }));
    }

    #[test]
    fn error_describes_the_fault_without_the_key() {
        for (text, expected) in [
            ("keys = 3", "line 1"),
            ("[[keys]]\nname = 'a'\nkey = 'secretsecret'\ncolour = 'red'", "colour"),
            ("[[keys]]\nname = 'a'\nkey = 'secret", "line 3"),
            ("[[keys]]\nname = 'a'\nkey = 'secret'", "at least 8"),
            ("[[keys]]\nname = 'a'\nkey = 12345678", "line 3: key of type integer"),
            ("[[keys]]\nname = 'a'\nkey = 12345678", "text in quotes"),
            ("[[keys]]\nname = 'a'\nkey = 'secretsecret'\nweight = 0", "invalid weight: 0"),
            ("[[keys]]\nname = 'a'\nkey = 'secretsecret'\nburst = 3", "questions_per_s"),
            ("[[keys]]\nname = 'a'\nkey = 'secretsecret'\nquestions_per_s = 0", "invalid questions_per_s: 0"),
            (
                "[[keys]]\nname = 'a'\nkey = 'secretsecret'\n[[keys]]\nname = 'b'\nkey = 'secretsecret'",
                "duplicate key \"b\"",
            ),
        ] {
            let message = parse_keys(text).unwrap_err().to_string();
            assert!(
                message.contains(expected) && !message.contains("secretsecret") && !message.contains("123"),
                "{message}"
            );
        }
    }
}
