//! Where the hub is and where its files are kept, by the variables that all tools of Hugging Face read.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use url::Url;

use crate::token::Token;

const DEFAULT_ENDPOINT: &str = "https://huggingface.co";

/// As in `huggingface_hub`.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// A 5 GB file at 1.5 MB/s takes another process this long.
const DEFAULT_LOCK_TIMEOUT: Duration = Duration::from_secs(3600);

/// Files at a time.
const DEFAULT_PARALLEL_DOWNLOADS: usize = 4;

/// Everything that can be set about a hub.
#[derive(Clone, Debug)]
pub struct Config {
    /// The hub's address.
    pub endpoint: Url,
    /// The folder that holds `models--org--name`.
    pub cache: PathBuf,
    /// What opens private and gated models.
    pub token: Option<Token>,
    /// Whether only the cache may be used.
    pub offline: bool,
    /// How long the hub may take to say something about a file.
    pub metadata_timeout: Duration,
    /// How long a download may stand still.
    pub download_timeout: Duration,
    /// How long another process may take over a file that this one needs, too.
    pub lock_timeout: Duration,
    /// Files downloaded at a time.
    pub parallel_downloads: usize,
}

/// What is wrong with the environment.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A variable holds what it cannot.
    #[error("{variable} is {value:?}, expected {expected}")]
    Variable {
        /// Its name.
        variable: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        expected: &'static str,
    },
    /// A variable that is for nobody's eyes holds what it cannot.
    #[error("{origin} holds no access token: a token is one line of visible characters")]
    Token {
        /// The variable or the file.
        origin: String,
    },
    /// The file of the token is there and cannot be read.
    #[error("cannot read the access token in {path}: {source}")]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// No variable says where files could be kept.
    #[error("no folder for downloaded models: set HF_HOME")]
    NoHome,
}

impl Config {
    /// Reads what `variable` gives for each name; one that is empty is one that is not set.
    ///
    /// # Errors
    /// [`ConfigError`] names the variable or the file.
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

/// Python's words for yes.
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
        // What looks like an address may hold a password.
        value: value.rsplit('@').next().unwrap_or_default().to_owned(),
        expected: "an http or https address without a user name",
    })?;
    url.set_query(None);
    url.set_fragment(None);
    Ok(url)
}

fn timeout(variable: &'static str, value: Option<String>) -> Result<Duration, ConfigError> {
    let Some(value) = value else { return Ok(DEFAULT_TIMEOUT) };
    match value.parse() {
        // Zero stands for the default, as in Python.
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
    let wrong = || ConfigError::Token { origin: origin.to_owned() };
    Token::new(text).map(Some).ok_or_else(wrong)
}

fn read_token_file(path: &Path) -> Result<Option<Token>, ConfigError> {
    match fs::read_to_string(path) {
        Ok(text) => parse_token(&text, &path.display().to_string()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ConfigError::TokenFile { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
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
    fn the_cache_is_where_python_has_it() {
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
    fn a_token_comes_from_its_variable_or_else_from_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().to_str().unwrap();
        let bearer = |variables: &[(&str, &str)]| {
            let token = config(variables).unwrap().token;
            token.map(|token| token.header().to_str().unwrap().to_owned())
        };
        assert_eq!(bearer(&[("HF_HOME", home)]), None);
        fs::write(folder.path().join("token"), "hf_file\n").unwrap();
        assert_eq!(bearer(&[("HF_HOME", home)]).unwrap(), "Bearer hf_file");
        assert_eq!(bearer(&[("HF_HOME", home), ("HF_TOKEN", " hf_own ")]).unwrap(), "Bearer hf_own");
        assert_eq!(bearer(&[("HF_HOME", home), ("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
        let elsewhere = folder.path().join("other");
        fs::write(&elsewhere, "hf_other").unwrap();
        let path = ("HF_TOKEN_PATH", elsewhere.to_str().unwrap());
        assert_eq!(bearer(&[("HF_HOME", home), path]).unwrap(), "Bearer hf_other");
    }

    #[test]
    fn what_is_wrong_is_named_and_secrets_are_not() {
        let home = ("HOME", "/home/me");
        let repository_error = |variable| config(&[home, variable]).unwrap_err().to_string();
        assert_eq!(
            repository_error(("HF_HUB_DOWNLOAD_TIMEOUT", "soon")),
            "HF_HUB_DOWNLOAD_TIMEOUT is \"soon\", expected a whole number of seconds"
        );
        assert!(repository_error(("HF_ENDPOINT", "ftp://example.com")).contains("HF_ENDPOINT"));
        let error = repository_error(("HF_ENDPOINT", "https://me:secret@example.com"));
        assert!(error.contains("example.com") && !error.contains("secret"), "{error}");
        let error = repository_error(("HF_TOKEN", "hf_\u{7}secret"));
        assert!(error.contains("HF_TOKEN") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn offline_takes_the_same_words_as_python() {
        let offline = |variable| config(&[("HOME", "/"), variable]).unwrap().offline;
        for word in ["1", "ON", "yes", "True"] {
            assert!(offline(("HF_HUB_OFFLINE", word)), "{word}");
        }
        assert!(offline(("TRANSFORMERS_OFFLINE", "1")));
        assert!(!offline(("HF_HUB_OFFLINE", "0")));
    }
}
