//! The place of a file: a path, or the URL of an object.

use std::{
    ffi::{OsStr, OsString},
    fmt,
    path::{Path, PathBuf},
};

/// The schemes of object stores and of web servers.
const SCHEMES: [&str; 5] = ["s3", "gs", "az", "http", "https"];

/// The place of a file, a folder or an object.
///
/// It is shown without what a URL can have of secrets: a user, a password and a query.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Location {
    /// A path of this machine.
    Path(PathBuf),
    /// A URL of a supported scheme.
    Url(ObjectUrl),
}

/// The URL of an object, or of a folder if it ends in a slash.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ObjectUrl {
    text: String,
    /// The length of the scheme.
    scheme: usize,
}

impl Location {
    /// Returns the path, or `None` for a URL.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Url(_) => None,
        }
    }

    /// Returns the last part, such as `a.tar`. It is empty for a folder by URL.
    #[must_use]
    pub fn name(&self) -> &OsStr {
        match self {
            Self::Path(path) => path.file_name().unwrap_or_default(),
            Self::Url(url) => OsStr::new(url.address().rsplit('/').next().unwrap_or_default()),
        }
    }

    /// Returns the location of `name` in this folder.
    #[must_use]
    pub fn join(&self, name: &OsStr) -> Self {
        match self {
            Self::Path(path) => Self::Path(path.join(name)),
            Self::Url(url) => {
                let (address, query) = url.split();
                let address = address.trim_end_matches('/');
                Self::Url(url.with_text(format!("{address}/{}{query}", name.to_string_lossy())))
            }
        }
    }

    /// Returns the folder. That of a URL has no query.
    #[must_use]
    pub fn folder(&self) -> Self {
        match self {
            Self::Path(path) => Self::Path(path.parent().unwrap_or(Path::new("")).to_owned()),
            Self::Url(url) => {
                let end = url.address().rfind('/').map_or(0, |at| at + 1);
                Self::Url(url.with_text(url.text.get(..end).unwrap_or_default().to_owned()))
            }
        }
    }

    /// Returns whether the name has this extension, in small or capital letters.
    #[must_use]
    pub fn has_extension(&self, expected: &str) -> bool {
        Path::new(self.name()).extension().is_some_and(|found| found.eq_ignore_ascii_case(expected))
    }

    /// Returns the text of the location, with what it can have of secrets, or `None` for a path
    /// that is not UTF-8.
    pub(crate) fn text(&self) -> Option<&str> {
        match self {
            Self::Path(path) => path.to_str(),
            Self::Url(url) => Some(&url.text),
        }
    }
}

impl ObjectUrl {
    /// Returns a URL of a supported scheme, or `None`.
    fn parse(text: &str) -> Option<Self> {
        let (scheme, _) = text.split_once("://")?;
        let is_known = SCHEMES.iter().any(|known| known.eq_ignore_ascii_case(scheme));
        // A location has one text. Letters of the scheme may be large or small.
        let rest = text.get(scheme.len()..).unwrap_or_default();
        is_known
            .then(|| Self { text: format!("{}{rest}", scheme.to_ascii_lowercase()), scheme: scheme.len() })
    }

    fn with_text(&self, text: String) -> Self {
        Self { text, scheme: self.scheme }
    }

    /// Returns the scheme in small letters.
    pub(super) fn scheme(&self) -> &str {
        self.text.get(..self.scheme).unwrap_or_default()
    }

    /// Returns whether it is one of a web server. Names in object stores have no query.
    pub(super) fn is_web(&self) -> bool {
        self.scheme().starts_with("http")
    }

    /// Returns the error of a build without object stores.
    #[cfg(not(feature = "object_store"))]
    pub(super) fn unsupported<T>(&self) -> std::io::Result<T> {
        let message = "this build reads and writes no URLs, which is the cargo feature object_store";
        Err(std::io::Error::new(std::io::ErrorKind::Unsupported, message))
    }

    /// Returns the URL without its query.
    pub(super) fn address(&self) -> &str {
        self.split().0
    }

    /// Returns the bucket or the server, and the name of the object.
    #[cfg(feature = "object_store")]
    pub(super) fn parts(&self) -> (&str, &str) {
        let rest = self.address().get(self.scheme + 3..).unwrap_or_default();
        rest.split_once('/').unwrap_or((rest, ""))
    }

    /// Returns the URL up to its query, and its query.
    pub(super) fn split(&self) -> (&str, &str) {
        let end = self.text.find(['?', '#']).filter(|_| self.is_web());
        self.text.split_at_checked(end.unwrap_or(self.text.len())).unwrap_or((&self.text, ""))
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        match path.to_str().and_then(ObjectUrl::parse) {
            Some(url) => Self::Url(url),
            None => Self::Path(path.to_owned()),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::from(path.as_path())
    }
}

impl From<OsString> for Location {
    fn from(text: OsString) -> Self {
        Self::from(PathBuf::from(text))
    }
}

impl From<String> for Location {
    fn from(text: String) -> Self {
        Self::from(PathBuf::from(text))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => path.display().fmt(formatter),
            Self::Url(url) => url.fmt(formatter),
        }
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rest = self.address().get(self.scheme + 3..).unwrap_or_default();
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
        write!(formatter, "{}://{host}{path}", self.scheme())
    }
}

impl fmt::Debug for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.to_string())
    }
}

impl fmt::Debug for ObjectUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn location(text: &str) -> Location {
        Location::from(Path::new(text))
    }

    #[test]
    fn url_is_shown_without_secrets() {
        for (text, shown) in [
            ("https://me:secret@host:1/a/b.tar?sig=secret#x", "https://host:1/a/b.tar"),
            ("http://host?sig=secret", "http://host"),
            ("s3://bucket/a?b.tar", "s3://bucket/a?b.tar"),
            ("a/b?c.tar", "a/b?c.tar"),
        ] {
            assert_eq!(location(text).to_string(), shown);
            assert_eq!(format!("{:?}", location(text)), format!("{shown:?}"));
        }
    }

    #[test]
    fn scheme_has_one_form() {
        assert_eq!(location("S3://bucket/A.tar"), location("s3://bucket/A.tar"));
        assert_ne!(location("s3://bucket/A.tar"), location("s3://bucket/a.tar"));
    }

    #[test]
    fn name_folder_and_extension_ignore_the_query() {
        let url = location("https://host/a/b.TAR?sig=x/y.parquet");
        assert_eq!(url.name(), "b.TAR");
        assert!(url.has_extension("tar") && !url.has_extension("parquet"));
        assert_eq!(url.folder(), location("https://host/a/"));
        assert_eq!(location("s3://bucket/out").join(OsStr::new("0.tar")), location("s3://bucket/out/0.tar"));
        assert_eq!(location("s3://bucket/").join(OsStr::new("0.tar")), location("s3://bucket/0.tar"));
        assert_eq!(location("https://h/a?b").join(OsStr::new("0.tar")), location("https://h/a/0.tar?b"));
    }

    #[test]
    fn only_known_schemes_are_urls() {
        for text in ["s3://b/a.tar", "GS://b/a.tar", "az://b/a", "http://h/a", "https://h/a"] {
            assert!(location(text).path().is_none(), "{text}");
        }
        for text in ["ftp://h/a", "a.tar", "s3:/b/a", "/s3://b/a", "-"] {
            assert!(location(text).path().is_some(), "{text}");
        }
    }
}
