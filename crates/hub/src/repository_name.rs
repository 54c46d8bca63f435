//! What a model is called on a hub.

use std::{fmt, str::FromStr};

/// The revision of a name that says none.
const DEFAULT_REVISION: &str = "main";

/// The hub's own limit on `org/name`, in bytes.
const MAX_REPOSITORY_BYTES: usize = 96;

/// Git's branches are files, so their names fit in one.
const MAX_REVISION_BYTES: usize = 255;

/// `org/name[@revision]`, where a revision is a branch, a tag or a commit's hash.
///
/// Names become parts of addresses and of paths in the cache, so that nothing but the hub's own alphabet gets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepositoryName {
    repository: String,
    revision: String,
}

/// What is wrong with a name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{name:?} is no model name of the form org/name[@revision]: {reason}")]
pub struct NameError {
    name: String,
    reason: &'static str,
}

impl RepositoryName {
    /// `org/name`.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The branch, tag or commit's hash.
    #[must_use]
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The revision, if it is a commit's hash, which means the same for ever.
    #[must_use]
    pub fn pinned_commit(&self) -> Option<&str> {
        is_commit(&self.revision).then_some(self.revision.as_str())
    }
}

/// Whether `text` is the hash of a commit: 40 hexadecimal digits, in lower case.
pub(crate) fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl FromStr for RepositoryName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = |reason| NameError { name: text.to_owned(), reason };
        let (repository, revision) = text.split_once('@').unwrap_or((text, DEFAULT_REVISION));
        let (organization, name) = repository.split_once('/').ok_or(wrong("it has no '/'"))?;
        if repository.len() > MAX_REPOSITORY_BYTES {
            return Err(wrong("org/name has more than 96 bytes"));
        }
        for part in [organization, name] {
            check(part).map_err(wrong)?;
        }
        if repository.contains("--") {
            return Err(wrong("\"--\" is not allowed in org/name"));
        }
        if revision.len() > MAX_REVISION_BYTES {
            return Err(wrong("the revision has more than 255 bytes"));
        }
        for part in revision.split('/') {
            check(part).map_err(wrong)?;
        }
        Ok(Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

/// One part between slashes.
fn check(part: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    if part.is_empty() {
        return Err("a part of it is empty");
    }
    if !part.bytes().all(allowed) {
        return Err("only letters, digits, '.', '_' and '-' are allowed between slashes");
    }
    if part.contains("..") {
        return Err("\"..\" is not allowed");
    }
    if part.starts_with(['.', '-']) || part.ends_with(['.', '-']) {
        return Err("a part of it begins or ends with '.' or '-'");
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
    fn a_name_without_a_revision_is_of_the_main_branch() {
        let name = parsed("Salesforce/blip-vqa-base");
        assert_eq!((name.repository(), name.revision()), ("Salesforce/blip-vqa-base", "main"));
        assert_eq!(name.pinned_commit(), None);
    }

    #[test]
    fn branches_tags_pull_requests_and_commits_are_revisions() {
        for revision in ["v1.0", "refs/pr/3", "my_branch"] {
            assert_eq!(parsed(&format!("a/b@{revision}")).revision(), revision);
        }
        let commit = "0123456789abcdef0123456789abcdef01234567";
        assert_eq!(parsed(&format!("a/b@{commit}")).pinned_commit(), Some(commit));
        assert_eq!(parsed("a/b@0123456").pinned_commit(), None);
    }

    #[test]
    fn no_name_leaves_its_folder_or_its_address() {
        let names = "../b a/.. a/b/c /b a/ a a/b@ a/b@../../x a/b@x/../y a/b@/x a/b@x/ a/b?c a/b#c a/b%2e a\\b/c a/b@x%2f \
            .a/b a/b. -a/b a--b/c a/b@.x a/ä a/b@x@y";
        for name in names.split_whitespace().chain(["", "a/b c", "a/b@x\ny", "a/b\0"]) {
            assert!(name.parse::<RepositoryName>().is_err(), "{name}");
        }
        assert!(format!("a/{}", "b".repeat(95)).parse::<RepositoryName>().is_err());
        assert!(format!("a/b@{}", "c".repeat(256)).parse::<RepositoryName>().is_err());
    }
}
