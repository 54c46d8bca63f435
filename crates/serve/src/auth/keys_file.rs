//! The file of keys: TOML, one `[[keys]]` table for each.

use std::{collections::HashSet, num::NonZeroU32, path::Path, sync::Arc};

use scheduler::Priority;
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{ApiKey, KeyParseError, Quota, Rate};

/// Largest share of a key.
const MAX_WEIGHT: u32 = 1000;

/// What is wrong with a file of keys. No message holds a key.
#[derive(Debug, thiserror::Error)]
pub enum KeysFileError {
    /// It cannot be read.
    #[error("cannot read the keys file {path}: {cause}")]
    Unreadable {
        /// The file.
        path: String,
        /// The operating system's reason.
        cause: std::io::Error,
    },
    /// It is no TOML, or a table has a field too many, too few or of the wrong type.
    #[error("the keys file is not as it should be, line {line}: {cause}")]
    Malformed {
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        cause: String,
    },
    /// A key is none.
    #[error("key {name:?}: {cause}")]
    Key {
        /// Its name.
        name: String,
        /// What is wrong.
        cause: KeyParseError,
    },
    /// A field has a value that it cannot have.
    #[error("key {name:?}: {field} is {value}, it must be {must}")]
    Value {
        /// The key's name.
        name: String,
        /// The field.
        field: &'static str,
        /// What it is.
        value: u32,
        /// What it may be.
        must: &'static str,
    },
    /// Two keys have the same name, or two names the same key.
    #[error("key {name:?} is there twice")]
    Twice {
        /// The second one's name.
        name: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: String,
    #[serde(deserialize_with = "key_text")]
    key: String,
    #[serde(default)]
    priority: Class,
    #[serde(default = "one")]
    weight: u32,
    questions_per_s: Option<u32>,
    burst: Option<u32>,
    #[serde(default)]
    admin: bool,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Class {
    High,
    #[default]
    Normal,
    Low,
}

fn one() -> u32 {
    1
}

/// A key; what stands in its place but is no text may be one without its quotes, so it is not repeated.
fn key_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    match toml::Value::deserialize(deserializer)? {
        toml::Value::String(key) => Ok(key),
        other => {
            Err(D::Error::custom(format!("the key is of type {}, expected text in quotes", other.type_str())))
        }
    }
}

/// The keys of the file at `path`.
///
/// # Errors
/// [`KeysFileError`], on the first thing that is wrong.
pub fn read_keys(path: &Path) -> Result<Vec<ApiKey>, KeysFileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|cause| KeysFileError::Unreadable { path: path.display().to_string(), cause })?;
    parse_keys(&text)
}

/// The keys of a file's text.
///
/// # Errors
/// [`KeysFileError`], on the first thing that is wrong.
pub fn parse_keys(text: &str) -> Result<Vec<ApiKey>, KeysFileError> {
    let file: File = toml::from_str(text).map_err(|error| KeysFileError::Malformed {
        line: error
            .span()
            .map_or(1, |span| 1 + text.get(..span.start).unwrap_or_default().matches('\n').count()),
        // The library's message shows the line, and with it the key.
        cause: error.message().to_owned(),
    })?;
    let (mut names, mut secrets) = (HashSet::new(), HashSet::new());
    let mut keys = Vec::with_capacity(file.keys.len());
    for entry in file.keys {
        let key = api_key(&entry)?;
        if !names.insert(Arc::clone(&key.name)) || !secrets.insert(key.secret) {
            return Err(KeysFileError::Twice { name: entry.name });
        }
        keys.push(key);
    }
    Ok(keys)
}

fn api_key(entry: &Entry) -> Result<ApiKey, KeysFileError> {
    let name = || entry.name.clone();
    let wrong = |field, value, must| KeysFileError::Value { name: name(), field, value, must };
    let secret = entry.key.parse().map_err(|cause| KeysFileError::Key { name: name(), cause })?;
    if !(1..=MAX_WEIGHT).contains(&entry.weight) {
        return Err(wrong("weight", entry.weight, "1 to 1000"));
    }
    let positive = |field, value| NonZeroU32::new(value).ok_or_else(|| wrong(field, value, "1 at least"));
    let quota = match (entry.questions_per_s, entry.burst) {
        (None, None) => None,
        (None, Some(burst)) => return Err(wrong("burst", burst, "given together with questions_per_s")),
        (Some(rate), burst) => {
            let questions_per_s = positive("questions_per_s", rate)?;
            let burst = burst.map_or(Ok(questions_per_s), |burst| positive("burst", burst))?;
            Some(Arc::new(Quota::new(Rate { questions_per_s, burst })))
        }
    };
    let highest = match entry.priority {
        Class::High => Priority::High,
        Class::Normal => Priority::Normal,
        Class::Low => Priority::Low,
    };
    let (weight, admin) = (entry.weight, entry.admin);
    Ok(ApiKey { highest, weight, quota, admin, ..ApiKey::new(entry.name.as_str(), secret) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_rights_that_the_file_gives_it() {
        let keys = parse_keys(
            "[[keys]]\nname = 'app'\nkey = 'correct-horse'\n\
             [[keys]]\nname = 'bulk'\nkey = 'battery-staple'\npriority = 'low'\nweight = 4\nquestions_per_s = 50\n\
             admin = true\n",
        )
        .unwrap();
        let [app, bulk] = keys.as_slice() else { panic!("{keys:?}") };
        assert_eq!((&*app.name, app.highest, app.weight, app.rate()), ("app", Priority::Normal, 1, None));
        let fifty = NonZeroU32::new(50).unwrap();
        assert_eq!((&*bulk.name, bulk.highest, bulk.weight), ("bulk", Priority::Low, 4));
        assert_eq!((app.caller().admin, bulk.caller().admin), (false, true));
        assert_eq!(bulk.rate(), Some(Rate { questions_per_s: fifty, burst: fifty }));
    }

    #[test]
    fn what_is_wrong_is_told_without_the_key() {
        for (text, told) in [
            ("keys = 3", "line 1"),
            ("[[keys]]\nname = 'a'\nkey = 'secretsecret'\ncolour = 'red'", "colour"),
            ("[[keys]]\nname = 'a'\nkey = 'secret", "line 3"),
            ("[[keys]]\nname = 'a'\nkey = 'secret'", "at least 8"),
            ("[[keys]]\nname = 'a'\nkey = 12345678", "line 3: the key is of type integer"),
            ("[[keys]]\nname = 'a'\nkey = 12345678", "text in quotes"),
            ("[[keys]]\nname = 'a'\nkey = 'secretsecret'\nweight = 0", "weight is 0"),
            ("[[keys]]\nname = 'a'\nkey = 'secretsecret'\nburst = 3", "questions_per_s"),
            ("[[keys]]\nname = 'a'\nkey = 'secretsecret'\nquestions_per_s = 0", "questions_per_s is 0"),
            (
                "[[keys]]\nname = 'a'\nkey = 'secretsecret'\n[[keys]]\nname = 'b'\nkey = 'secretsecret'",
                "\"b\" is there twice",
            ),
        ] {
            let message = parse_keys(text).unwrap_err().to_string();
            assert!(
                message.contains(told) && !message.contains("secretsecret") && !message.contains("123"),
                "{message}"
            );
        }
    }
}
