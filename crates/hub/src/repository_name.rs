//! The name of a model repository on a hub, with its revision.

use std::{fmt, str::FromStr};

/// The revision of a name without one.
const DEFAULT_REVISION: &str = "main";

/// The hub's limit on `org/name`, in bytes.
const MAX_REPOSITORY_BYTES: usize = 96;

/// The largest file name. Git stores branches as files.
const MAX_REVISION_BYTES: usize = 255;

/// A repository name `org/name[@revision]`. A revision is a branch, a tag or a commit hash.
///
/// Names become parts of URLs and of paths in the cache, so only the hub's alphabet is accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryName {
    repository: String,
    revision: String,
}

/// The reason why a text is not a repository name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid model name {name:?}: {reason}, expected org/name[@revision]")]
pub struct NameError {
    name: String,
    reason: &'static str,
}

impl RepositoryName {
    /// Returns `org/name`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the branch, tag or commit hash.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Returns the revision if it is a commit hash. Its files never change.
    #[must_use]
    pub fn pinned_commit(&self) -> Option<&str> {
        is_commit(&self.revision).then_some(self.revision.as_str())
    }
}

/// Whether `text` is a commit hash: 40 hexadecimal digits in lower case.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let invalid = |reason| NameError { name: text.to_owned(), reason };
        let (repository, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let (organization, name) = repository.split_once('/').ok_or(invalid("no '/'"))?;
        if repository.len() > MAX_REPOSITORY_BYTES {
            return Err(invalid("org/name has more than 96 bytes"));
        }
        for part in [organization, name] {
            check(part).map_err(invalid)?;
        }
        if repository.contains("--") {
            return Err(invalid("\"--\" is not allowed in org/name"));
        }
        if revision.len() > MAX_REVISION_BYTES {
            return Err(invalid("the revision has more than 255 bytes"));
        }
        for part in revision.split('/') {
            check(part).map_err(invalid)?;
        }
        Ok(Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

/// Checks one part between slashes.
fn check(part: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if part.is_empty() {
        return Err("empty part");
    }
    if !part.bytes().all(allowed) {
        return Err("only letters, digits, '.', '_' and '-' are allowed between slashes");
    }
    if part.contains("..") {
        return Err("\"..\" is not allowed");
    }
    if part.starts_with(['.', '-']) || part.ends_with(['.', '-']) {
        return Err("a part starts or ends with '.' or '-'");
    }
    Ok(())
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.repository, self.revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> RepositoryName {
        text.parse().unwrap()
    }

    #[test]
    fn default_revision_is_main() {
        let name = parsed("Salesforce/blip-vqa-base");
        assert_eq!((name.repository(), name.revision()), ("Salesforce/blip-vqa-base", "main"));
        assert_eq!(name.pinned_commit(), None);
    }

    #[test]
    fn branch_tag_pull_request_and_commit_are_revisions() {
        for revision in ["v1.0", "refs/pr/3", "my_branch"] {
            assert_eq!(parsed(&format!("a/b@{revision}")).revision(), revision);
        }
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(parsed(&format!("a/b@{commit}")).pinned_commit(), Some(commit));
        assert_eq!(parsed("a/b@0123456").pinned_commit(), None);
    }

    #[test]
    fn names_with_path_or_url_syntax_are_rejected() {
        let names = "../b a/.. a/b/c /b a/ a a/b@ a/b@../../x a/b@x/../y a/b@/x a/b@x/ a/b?c a/b#c a/b%2e a\\b/c a/b@x%2f \
            .a/b a/b. -a/b a--b/c a/b@.x a/ä a/b@x@y";
        for name in names.split_whitespace().chain(["", "a/b c", "a/b@x\ny", "a/b\0"]) {
            assert!(name.parse::<RepositoryName>().is_err(), "{name}");
        }
        assert!(format!("a/{}", "b".repeat(95)).parse::<RepositoryName>().is_err());
        assert!(format!("a/b@{}", "c".repeat(256)).parse::<RepositoryName>().is_err());
    }
}
