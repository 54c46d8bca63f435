//! The choice of a model: by its source on the command line, by a table with options in a file.

use std::{fmt, num::NonZeroUsize, path::PathBuf, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, de::Error as _};

use crate::config::units::Unit;

/// The name of a model or of a candidate list in requests.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// The names allowed, for messages.
    pub const EXPECTED: &str =
        "1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first";

    /// Returns the default name of a model: the last part of its source, as far as a name allows
    /// it.
    #[must_use]
    pub fn of_source(source: &str) -> Self {
        // A folder may have an @ in its name. On the hub, a revision follows the @.
        let is_path = source.starts_with(['/', '.']);
        let without_revision = source.split('@').next().filter(|_| !is_path).unwrap_or(source);
        let last = without_revision.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
        let allowed = |letter: char| if is_allowed(letter) { letter } else { '-' };
        let name: String =
            last.trim_start_matches(|first| !is_allowed_first(first)).chars().map(allowed).take(64).collect();
        Self(if name.is_empty() { "model".into() } else { name.into() })
    }

    /// Returns the name as a shared string.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

fn is_allowed_first(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
}

fn is_allowed(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&letter)
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_valid = (1..=64).contains(&text.len())
            && text.starts_with(is_allowed_first)
            && text.chars().all(is_allowed);
        if is_valid {
            Ok(Self(text.into()))
        } else {
            Err(format!("invalid name, expected {}", Self::EXPECTED))
        }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A number format, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtypeRequest {
    /// The default of the device.
    Auto,
    /// This format.
    Exactly(blip::Dtype),
}

impl FromStr for DtypeRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Exactly)
                .map_err(|error: String| error.replace("expected", "expected auto,")),
        }
    }
}

/// A model to load. The sections `model` and `scheduler` give the options that it leaves open.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelChoice {
    /// Its name in requests. The default is the last part of its source.
    #[serde(default, deserialize_with = "parsed")]
    pub name: Option<ModelName>,
    /// Its source, as `--model` takes it.
    pub source: String,
    /// Its device.
    #[serde(default, deserialize_with = "parsed")]
    pub device: Option<blip::DeviceRequest>,
    /// Its number format.
    #[serde(default, deserialize_with = "parsed")]
    pub dtype: Option<DtypeRequest>,
    /// Its conventions.
    #[serde(default, deserialize_with = "parsed")]
    pub conventions: Option<blip::Conventions>,
    /// The number of its engines.
    pub engines: Option<NonZeroUsize>,
    /// The number of threads of each engine on the CPU.
    pub engine_threads: Option<NonZeroUsize>,
    /// Device memory for cached image features, in bytes.
    #[serde(default, deserialize_with = "bytes")]
    pub feature_cache_bytes: Option<usize>,
    /// Device memory for cached cross-attention keys and values, in bytes.
    #[serde(default, deserialize_with = "bytes")]
    pub cross_attention_cache_bytes: Option<usize>,
    /// Memory for cached answers, in bytes.
    #[serde(default, deserialize_with = "bytes")]
    pub answer_cache_bytes: Option<usize>,
    /// The maximum number of questions that wait or run.
    pub max_queued_questions: Option<usize>,
    /// The maximum number of questions of one client that wait or run.
    pub max_queued_questions_per_client: Option<usize>,
    /// The maximum memory for the scaled images of waiting questions, in bytes.
    #[serde(default, deserialize_with = "bytes")]
    pub max_queued_bytes: Option<usize>,
}

impl ModelChoice {
    /// Creates a choice of a source without options.
    #[must_use]
    pub fn of_source(source: impl Into<String>) -> Self {
        Self {
            name: None,
            source: source.into(),
            device: None,
            dtype: None,
            conventions: None,
            engines: None,
            engine_threads: None,
            feature_cache_bytes: None,
            cross_attention_cache_bytes: None,
            answer_cache_bytes: None,
            max_queued_questions: None,
            max_queued_questions_per_client: None,
            max_queued_bytes: None,
        }
    }

    /// Returns its name in requests.
    #[must_use]
    pub fn name(&self) -> ModelName {
        self.name.clone().unwrap_or_else(|| ModelName::of_source(&self.source))
    }
}

impl FromStr for ModelChoice {
    type Err = String;

    /// Parses `SOURCE`, `NAME=SOURCE`, or a table of a file as JSON.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("no model given".to_owned());
        }
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|error| error.to_string());
        }
        // A path may contain =. The part before it is then hardly a valid name.
        if let Some((name, source)) = text.split_once('=')
            && let Ok(name) = name.parse()
            && !source.is_empty()
        {
            return Ok(Self { name: Some(name), ..Self::of_source(source) });
        }
        Ok(Self::of_source(text))
    }
}

/// Deserializes a value that is written as text.
fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

/// Deserializes a number of bytes, which may be a text with a unit.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<usize>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "expected a whole number, or a size such as 4GiB")]
    enum Bytes {
        Number(usize),
        Text(String),
    }
    match Bytes::deserialize(deserializer)? {
        Bytes::Number(number) => Ok(Some(number)),
        Bytes::Text(text) => {
            let number = Unit::Bytes.to_number(&text).map_err(D::Error::custom)?;
            let invalid = |_| format!("{text:?}: expected {}", Unit::Bytes.expected());
            number.parse().map(Some).map_err(invalid).map_err(D::Error::custom)
        }
    }
}

/// A file of candidate answers with its name in requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateFile {
    /// The name of the list in requests.
    pub name: ModelName,
    /// The file.
    pub file: PathBuf,
}

impl FromStr for CandidateFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or("expected NAME=FILE")?;
        if file.is_empty() {
            return Err("no file given, expected NAME=FILE".to_owned());
        }
        Ok(Self { name: name.parse()?, file: file.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_name_is_the_last_part_of_the_source() {
        for (source, name) in [
            ("demo", "demo"),
            ("Salesforce/blip-vqa-base", "blip-vqa-base"),
            ("Salesforce/blip-vqa-base@refs/pr/3", "blip-vqa-base"),
            ("/models/blip@home/", "blip-home"),
            ("./a b", "a-b"),
            (".", "model"),
            ("/", "model"),
            ("/models/.hidden", "hidden"),
        ] {
            assert_eq!(ModelName::of_source(source).to_string(), name, "{source}");
            assert!(name.parse::<ModelName>().is_ok());
        }
        for name in ["", ".a", "a/b", "a b", &"a".repeat(65)] {
            assert!(name.parse::<ModelName>().is_err(), "{name}");
        }
    }

    #[test]
    fn choice_is_a_source_a_named_source_or_a_table() {
        let choice = |text: &str| text.parse::<ModelChoice>().unwrap();
        assert_eq!(choice("./a=b"), ModelChoice::of_source("./a=b"));
        let named = choice("big=Salesforce/blip-vqa-base");
        assert_eq!(
            (named.name().to_string().as_str(), named.source.as_str()),
            ("big", "Salesforce/blip-vqa-base")
        );
        let table =
            choice(r#"{"source": "demo", "name": "a", "device": "cuda:1", "dtype": "f16", "engines": 2}"#);
        assert_eq!(table.device, Some(blip::DeviceRequest::Cuda(1)));
        assert_eq!(table.dtype, Some(DtypeRequest::Exactly(blip::Dtype::F16)));
        assert_eq!(table.engines.map(NonZeroUsize::get), Some(2));
        let caches = r#"{"source": "demo", "feature_cache_bytes": "1GiB", "answer_cache_bytes": 7}"#;
        assert_eq!(choice(caches).feature_cache_bytes, Some(1 << 30));
        assert_eq!(choice(caches).answer_cache_bytes, Some(7));
        for (text, word) in [
            ("", "no model"),
            (r#"{"name": "a"}"#, "source"),
            (r#"{"source": "demo", "colour": "red"}"#, "colour"),
            (r#"{"source": "demo", "device": "tpu"}"#, "cuda:N"),
            (r#"{"source": "demo", "name": "a/b"}"#, "letters"),
            (r#"{"source": "demo", "engines": 0}"#, "nonzero"),
            (r#"{"source": "demo", "feature_cache_bytes": "much"}"#, "4GiB"),
            (r#"{"source": "demo", "feature_cache_bytes": -1}"#, "4GiB"),
        ] {
            let error = text.parse::<ModelChoice>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn candidate_list_is_a_name_and_a_file() {
        let list: CandidateFile = "vqa=lists/vqa=3128.txt".parse().unwrap();
        assert_eq!((list.name.to_string().as_str(), list.file.to_str()), ("vqa", Some("lists/vqa=3128.txt")));
        for text in ["vqa", "vqa=", "=a.txt", "a b=c"] {
            assert!(text.parse::<CandidateFile>().is_err(), "{text}");
        }
    }

    #[test]
    fn unknown_dtype_is_rejected_with_all_known_ones() {
        let message = "int4".parse::<DtypeRequest>().unwrap_err();
        assert!(
            message.contains("int4") && message.contains("auto") && message.contains("bf16"),
            "{message}"
        );
    }
}
