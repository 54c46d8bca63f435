//! How a model is chosen: on the command line by its source, in a file by a table that may say more.

use std::{fmt, num::NonZeroUsize, path::PathBuf, str::FromStr, sync::Arc};

use serde::{Deserialize, Deserializer, de::Error as _};

use super::DtypeRequest;

/// What requests call a model.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ModelName(Arc<str>);

impl ModelName {
    /// What a name may be, for messages.
    pub const EXPECTED: &str =
        "1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first";

    /// The name of a model from `source` that nobody named: the last part of it, as far as a name can be that.
    #[must_use]
    pub fn of_source(source: &str) -> Self {
        // A folder may have an @ in its name; on a hub a revision follows it.
        let is_path = source.starts_with(['/', '.']);
        let unrevised = source.split('@').next().filter(|_| !is_path).unwrap_or(source);
        let last = unrevised.rsplit('/').find(|part| !part.is_empty()).unwrap_or_default();
        let legal = |letter: char| if is_legal(letter) { letter } else { '-' };
        let name: String =
            last.trim_start_matches(|first| !is_first(first)).chars().map(legal).take(64).collect();
        Self(if name.is_empty() { "model".into() } else { name.into() })
    }

    /// The same, shared.
    #[must_use]
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }
}

fn is_first(letter: char) -> bool {
    letter.is_ascii_alphanumeric()
}

fn is_legal(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || ['.', '-', '_'].contains(&letter)
}

impl FromStr for ModelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fits = (1..=64).contains(&text.len()) && text.starts_with(is_first) && text.chars().all(is_legal);
        if fits { Ok(Self(text.into())) } else { Err(format!("a name is {}", Self::EXPECTED)) }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A model that is wanted. What it leaves open is as the sections `model` and `scheduler` say.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelChoice {
    /// What requests call it; by default the last part of its source.
    #[serde(default, deserialize_with = "parsed")]
    pub name: Option<ModelName>,
    /// Where it comes from.
    pub source: String,
    /// Where it runs.
    #[serde(default, deserialize_with = "parsed")]
    pub device: Option<blip::DeviceRequest>,
    /// Its number format.
    #[serde(default, deserialize_with = "parsed")]
    pub dtype: Option<DtypeRequest>,
    /// Whose conventions it follows.
    #[serde(default, deserialize_with = "parsed")]
    pub flavour: Option<blip::Flavour>,
    /// Engines, each with the whole of it.
    pub engines: Option<NonZeroUsize>,
    /// Threads of each engine on the CPU.
    pub engine_threads: Option<NonZeroUsize>,
    /// Device memory for features of images, in bytes.
    pub feature_cache_bytes: Option<usize>,
    /// Device memory for keys and values of images, in bytes.
    pub key_value_cache_bytes: Option<usize>,
    /// Memory for answers, in bytes.
    pub answer_cache_bytes: Option<usize>,
    /// Questions that may wait or run.
    pub max_queued_questions: Option<usize>,
    /// Questions of one client that may wait or run.
    pub max_queued_questions_per_client: Option<usize>,
    /// Scaled images that waiting questions hold, in bytes.
    pub max_queued_bytes: Option<usize>,
}

impl ModelChoice {
    /// The model from `source`, all else left open.
    #[must_use]
    pub fn of_source(source: impl Into<String>) -> Self {
        Self {
            name: None,
            source: source.into(),
            device: None,
            dtype: None,
            flavour: None,
            engines: None,
            engine_threads: None,
            feature_cache_bytes: None,
            key_value_cache_bytes: None,
            answer_cache_bytes: None,
            max_queued_questions: None,
            max_queued_questions_per_client: None,
            max_queued_bytes: None,
        }
    }

    /// What requests call it.
    #[must_use]
    pub fn name(&self) -> ModelName {
        self.name.clone().unwrap_or_else(|| ModelName::of_source(&self.source))
    }
}

impl FromStr for ModelChoice {
    type Err = String;

    /// `SOURCE`, `NAME=SOURCE`, or a table of a file as JSON.
    fn from_str(text: &str) -> Result<Self, String> {
        if text.trim().is_empty() {
            return Err("no model is named".to_owned());
        }
        if text.starts_with('{') {
            return serde_json::from_str(text).map_err(|error| error.to_string());
        }
        // A path may have a = in it; what stands before that is then hardly a name.
        if let Some((name, source)) = text.split_once('=')
            && let Ok(name) = name.parse()
            && !source.is_empty()
        {
            return Ok(Self { name: Some(name), ..Self::of_source(source) });
        }
        Ok(Self::of_source(text))
    }
}

/// A value that is written as text.
fn parsed<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map(Some).map_err(D::Error::custom)
}

/// A file of answers to choose from, and what requests call it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CandidateFile {
    /// What requests call the list.
    pub name: ModelName,
    /// The file.
    pub file: PathBuf,
}

impl FromStr for CandidateFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, file) = text.split_once('=').ok_or("expected NAME=FILE")?;
        if file.is_empty() {
            return Err("no file is named".to_owned());
        }
        Ok(Self { name: name.parse()?, file: file.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_that_nobody_named_is_called_by_the_last_part_of_its_source() {
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
    fn a_choice_is_a_source_with_or_without_a_name_or_a_table() {
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
        for (text, word) in [
            ("", "no model"),
            (r#"{"name": "a"}"#, "source"),
            (r#"{"source": "demo", "colour": "red"}"#, "colour"),
            (r#"{"source": "demo", "device": "tpu"}"#, "cuda:N"),
            (r#"{"source": "demo", "name": "a/b"}"#, "letters"),
            (r#"{"source": "demo", "engines": 0}"#, "nonzero"),
        ] {
            let error = text.parse::<ModelChoice>().unwrap_err();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn a_list_of_candidates_is_a_name_and_a_file() {
        let list: CandidateFile = "vqa=lists/vqa=3128.txt".parse().unwrap();
        assert_eq!((list.name.to_string().as_str(), list.file.to_str()), ("vqa", Some("lists/vqa=3128.txt")));
        for text in ["vqa", "vqa=", "=a.txt", "a b=c"] {
            assert!(text.parse::<CandidateFile>().is_err(), "{text}");
        }
    }
}
