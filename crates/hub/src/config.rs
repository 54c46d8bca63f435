//! The configuration of the hub and its cache, from the variables of all tools of Hugging Face.

use std::{
    io,
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use crate::token::Token;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// The default of `huggingface_hub`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// The time in which another process downloads 5 GB at 1.5 MB/s.
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(3600);

/// Concurrent downloads of one model.
const DEFAULT_PARALLEL_DOWNLOADS: usize = 4;

/// The configuration of a hub.
#[derive(Clone, Debug)]
pub struct Config {
    /// The URL of the hub.
    pub endpoint: Url,
    /// The cache folder, which contains the folders `models--org--name`.
    pub cache: PathBuf,
    /// The access token for private and gated models.
    pub token: Option<Token>,
    /// Whether only the cache is used.
    pub offline: bool,
    /// Timeout of a metadata request.
    pub metadata_timeout: Duration,
    /// Timeout of a download without new data.
    pub download_timeout: Duration,
    /// Timeout for the lock of a file that another process downloads.
    pub lock_timeout: Duration,
    /// Largest number of concurrent downloads.
    pub parallel_downloads: usize,
}

/// An invalid environment variable or token file.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable has an invalid value.
    #[error("invalid {variable}: {value:?}, expected {expected}")]
    Variable {
        /// The name of the variable.
        variable: &'static str,
        /// The value.
        value: String,
        /// The allowed values.
        expected: &'static str,
    },
    /// The access token is invalid. The error does not contain it.
    #[error("invalid access token in {origin}: expected one line of visible characters")]
    Token {
        /// The variable or the file.
        origin: String,
    },
    /// The file of the token exists and cannot be read.
    #[error("cannot read the access token in {path}: {source}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// No variable defines the cache folder.
    #[error("no folder for downloaded models: set HF_HOME")]
    NoHome,
}

impl Config {
    /// Reads the configuration from `variable`, which returns the value of a name.
    ///
    /// An empty variable counts as unset.
    ///
    /// # Errors
    /// [`ConfigError`] contains the name of the variable or the path of the file.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let path = |name: &str| set(name).map(|value| expand_home(&value, set("HOME").as_deref()));
        let home = path("HF_HOME")
            .or_else(|| path("XDG_CACHE_HOME").map(|folder| folder.join("huggingface")))
            .or_else(|| path("HOME").map(|folder| folder.join(".cache/huggingface")));
        let cache = path("HF_HUB_CACHE").or_else(|| path("HUGGINGFACE_HUB_CACHE"));
        let cache =
            cache.or_else(|| home.as_ref().map(|home| home.join("hub"))).ok_or(ConfigError::NoHome)?;
        let is_true = |name: &str| set(name).is_some_and(|value| is_true(&value));
        let token = if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            match ["HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"].into_iter().find_map(|name| Some((name, set(name)?)))
            {
                Some((name, value)) => parse_token(&value, name)?,
                None => {
                    let file = path("HF_TOKEN_PATH").or_else(|| home.map(|home| home.join("token")));
                    file.map(|file| read_token_file(&file)).transpose()?.flatten()
                }
            }
        };
        Ok(Self {
            endpoint: endpoint(set("HF_ENDPOINT"))?,
            cache,
            token,
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            metadata_timeout: timeout("HF_HUB_ETAG_TIMEOUT", set("HF_HUB_ETAG_TIMEOUT"))?,
            download_timeout: timeout("HF_HUB_DOWNLOAD_TIMEOUT", set("HF_HUB_DOWNLOAD_TIMEOUT"))?,
            lock_timeout: DEFAULT_LOCK_TIMEOUT,
            parallel_downloads: DEFAULT_PARALLEL_DOWNLOADS,
        })
    }
}

/// Whether `value` means yes to `huggingface_hub`.
fn is_true(value: &str) -> bool {
    ["1", "on", "yes", "true"].iter().any(|word| value.eq_ignore_ascii_case(word))
}

fn expand_home(path: &str, home: Option<&str>) -> PathBuf {
    match (path.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Path::new(home).join(rest),
        _ => PathBuf::from(path),
    }
}

fn endpoint(value: Option<String>) -> Result<Url, ConfigError> {
    let value = value.unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned());
    let usable = |url: &Url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
    };
    let mut url = Url::parse(&value).ok().filter(usable).ok_or_else(|| ConfigError::Variable {
        variable: "HF_ENDPOINT",
        // The value may contain a password before the @.
        value: value.rsplit('@').next().unwrap_or_default().to_owned(),
        expected: "an http or https url without a user name",
    })?;
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn timeout(variable: &'static str, value: Option<String>) -> Result<Duration, ConfigError> {
    let Some(value) = value else { return Ok(DEFAULT_TIMEOUT) };
    match value.parse() {
        // Zero means the default, as in Python.
        Ok(0) => Ok(DEFAULT_TIMEOUT),
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => Err(ConfigError::Variable { variable, value, expected: "a whole number of seconds" }),
    }
}

fn parse_token(text: &str, origin: &str) -> Result<Option<Token>, ConfigError> {
    let text = text.trim();
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = || ConfigError::Token { origin: origin.to_owned() };
    Token::new(text).map(Some).ok_or_else(invalid)
}

/// Size of the largest file with a token, in bytes.
const MAX_TOKEN_BYTES: u64 = 16 << 10;

fn read_token_file(path: &Path) -> Result<Option<Token>, ConfigError> {
    match regular_file::read_text(path, MAX_TOKEN_BYTES) {
        Ok(text) => parse_token(&text, &path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::TokenFile { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::from_environment(|name| {
            variables.iter().find(|(set, _)| *set == name).map(|(_, value)| (*value).to_owned())
        })
    }

    fn cache(variables: &[(&str, &str)]) -> String {
        config(variables).unwrap().cache.display().to_string()
    }

    #[test]
    fn cache_folder_equals_pythons() {
        let home = ("HOME", "/home/me");
        assert_eq!(cache(&[home]), "/home/me/.cache/huggingface/hub");
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x")]), "/x/huggingface/hub");
        assert_eq!(cache(&[home, ("XDG_CACHE_HOME", "/x"), ("HF_HOME", "~/hf")]), "/home/me/hf/hub");
        assert_eq!(cache(&[("HF_HOME", "/hf"), ("HUGGINGFACE_HUB_CACHE", "/old")]), "/old");
        let both = [("HF_HUB_CACHE", "/new"), ("HUGGINGFACE_HUB_CACHE", "/old")];
        assert_eq!(cache(&both), "/new");
        assert_eq!(cache(&[home, ("HF_HOME", "")]), "/home/me/.cache/huggingface/hub");
        assert!(matches!(config(&[]), Err(ConfigError::NoHome)));
    }

    #[test]
    fn token_variable_precedes_token_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let bearer = |variables: &[(&str, &str)]| {
            let token = config(variables).unwrap().token;
            token.map(|token| token.header().to_str().unwrap().to_owned())
        };
        assert_eq!(bearer(&[("HF_HOME", home)]), None);
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(bearer(&[("HF_HOME", home)]).unwrap(), "Bearer hf_file");
        assert_eq!(
            bearer(&[("HF_HOME", home), ("HF_TOKEN", " hf_variable ")]).unwrap(),
            "Bearer hf_variable"
        );
        assert_eq!(bearer(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let other_file = folder.path().join("other");
        fs::write(&other_file, "hf_other").unwrap();
        let path = ("HF_TOKEN_PATH", other_file.to_str().unwrap());
        assert_eq!(bearer(&[("HF_HOME", home), path]).unwrap(), "Bearer hf_other");
    }

    #[test]
    fn errors_contain_variables_and_no_secrets() {
        let home = ("HOME", "/home/me");
        let message = |variable| config(&[home, variable]).unwrap_err().to_string();
        assert_eq!(
            message(("HF_HUB_DOWNLOAD_TIMEOUT", "soon")),
            "invalid HF_HUB_DOWNLOAD_TIMEOUT: \"soon\", expected a whole number of seconds"
        );
        assert!(message(("HF_ENDPOINT", "ftp://example.com")).contains("HF_ENDPOINT"));
        let error = message(("HF_ENDPOINT", "https://me:secret@example.com"));
        assert!(error.contains("example.com") && !error.contains("secret"), "{error}");
        let error = message(("HF_TOKEN", "hf_\u{7}secret"));
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn offline_accepts_the_values_of_python() {
        let offline = |variable| config(&[("HOME", "/"), variable]).unwrap().offline;
        for word in ["1", "ON", "yes", "True"] {
            assert!(offline(("HF_HUB_OFFLINE", word)), "{word}");
        }
        assert!(offline(("TRANSFORMERS_OFFLINE", "1")));
        assert!(!offline(("HF_HUB_OFFLINE", "0")));
    }
}
