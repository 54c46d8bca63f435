//! The cache on disk, in the layout that all tools of Hugging Face share:
//!
//! ```text
//! models--org--name/refs/main                       the last known commit of the branch
//! models--org--name/blobs/<etag>                    contents by hash
//! models--org--name/snapshots/<commit>/config.json  a link to ../../blobs/<etag>
//! models--org--name/.no_exist/<commit>/vocab.txt    the commit has no such file
//! .locks/models--org--name/<etag>.lock              locked by the process that writes the blob
//! ```

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use crate::{
    error::HubError,
    files::{checksum::ContentTag, disk::replace},
    repository_name::{RepositoryName, is_commit},
};

/// Size of the largest file with a commit, in bytes.
const MAX_REF_BYTES: u64 = 1 << 10;

/// One model in the cache.
///
/// All names passed to its methods are validated: none is a path.
#[derive(Clone, Debug)]
pub(crate) struct CachedRepository {
    folder: PathBuf,
    locks: PathBuf,
}

impl CachedRepository {
    pub(crate) fn new(cache: &Path, model: &RepositoryName) -> Self {
        let name = format!("models--{}", model.repository().replace('/', "--"));
        Self { folder: cache.join(&name), locks: cache.join(".locks").join(name) }
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(crate) fn blob(&self, tag: &ContentTag) -> PathBuf {
        self.folder.join("blobs").join(tag.as_str())
    }

    /// Returns the path of a partially downloaded blob.
    pub(crate) fn partial(&self, tag: &ContentTag) -> PathBuf {
        self.folder.join("blobs").join(format!("{}.incomplete", tag.as_str()))
    }

    pub(crate) fn lock(&self, tag: &ContentTag) -> PathBuf {
        self.locks.join(format!("{}.lock", tag.as_str()))
    }

    /// Returns the commit of `model`'s revision, if the cache contains it.
    pub(crate) fn commit(&self, model: &RepositoryName) -> Result<Option<String>, HubError> {
        if let Some(commit) = model.pinned_commit() {
            return Ok(Some(commit.to_owned()));
        }
        let path = self.folder.join("refs").join(model.revision());
        match regular_file::read_text(&path, MAX_REF_BYTES) {
            Ok(text) => Ok(Some(text.trim().to_owned()).filter(|commit| is_commit(commit))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(HubError::file("read", path)(error)),
        }
    }

    /// Records that `model`'s revision is at `commit`.
    pub(crate) fn record_commit(&self, model: &RepositoryName, commit: &str) -> Result<(), HubError> {
        if model.pinned_commit().is_some() || self.commit(model)?.as_deref() == Some(commit) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(model.revision());
        replace(&path, |temporary| fs::write(temporary, commit))
    }

    /// Whether the snapshot contains `file`.
    pub(crate) fn has_file(&self, commit: &str, file: &str) -> bool {
        self.snapshot(commit).join(file).is_file()
    }

    /// Links the blob of `tag` into the snapshot as `file`.
    pub(crate) fn link(&self, commit: &str, file: &str, tag: &ContentTag) -> Result<(), HubError> {
        let target = Path::new("../../blobs").join(tag.as_str());
        replace(&self.snapshot(commit).join(file), |temporary| symlink(&target, temporary))
    }

    /// Whether the cache records that the commit has no `file`.
    pub(crate) fn is_known_missing(&self, commit: &str, file: &str) -> bool {
        self.folder.join(".no_exist").join(commit).join(file).is_file()
    }

    /// Records that the commit has no `file`.
    pub(crate) fn record_missing(&self, commit: &str, file: &str) -> Result<(), HubError> {
        if self.is_known_missing(commit, file) {
            return Ok(());
        }
        replace(&self.folder.join(".no_exist").join(commit).join(file), |temporary| fs::write(temporary, ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::disk::create_folder;

    #[test]
    fn recorded_commit_is_read_unless_it_is_malformed() {
        let folder = tempfile::tempdir().unwrap();
        let model: RepositoryName = "org/name@refs/pr/3".parse().unwrap();
        let repository = CachedRepository::new(folder.path(), &model);
        assert_eq!(repository.commit(&model).unwrap(), None);
        for commit in ["a".repeat(40), "b".repeat(40)] {
            repository.record_commit(&model, &commit).unwrap();
            assert_eq!(repository.commit(&model).unwrap(), Some(commit));
        }
        fs::write(folder.path().join("models--org--name/refs/refs/pr/3"), "../..").unwrap();
        assert_eq!(repository.commit(&model).unwrap(), None);
    }

    #[test]
    fn link_is_relative_and_needs_its_blob() {
        let folder = tempfile::tempdir().unwrap();
        let model: RepositoryName = "org/name".parse().unwrap();
        let repository = CachedRepository::new(folder.path(), &model);
        let (commit, tag) = ("a".repeat(40), ContentTag::parse(&"b".repeat(64)).unwrap());
        repository.link(&commit, "config.json", &tag).unwrap();
        assert!(!repository.has_file(&commit, "config.json"));
        create_folder(repository.blob(&tag).parent().unwrap()).unwrap();
        fs::write(repository.blob(&tag), "{}").unwrap();
        repository.link(&commit, "config.json", &tag).unwrap();
        assert!(repository.has_file(&commit, "config.json"));
        let link = fs::read_link(repository.snapshot(&commit).join("config.json")).unwrap();
        assert_eq!(link, Path::new("../../blobs").join("b".repeat(64)));
        assert_eq!(fs::read_dir(repository.snapshot(&commit)).unwrap().count(), 1);
    }
}
