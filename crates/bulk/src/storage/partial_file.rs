//! Files and objects that are written, and have their name only when they are complete.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Write},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::storage::location::Location;
#[cfg(feature = "object_store")]
use crate::storage::object::Upload;

/// A file or an object while it is written.
#[derive(Debug)]
pub(crate) enum PartialFile {
    /// A file, under another name.
    File {
        /// The open file.
        file: File,
        /// Its name while it is written.
        partial: PathBuf,
        /// Its name when it is complete.
        target: PathBuf,
    },
    /// An upload.
    #[cfg(feature = "object_store")]
    Object(Upload),
}

impl PartialFile {
    /// Begins to write a file. An existing one stays until the new one is complete.
    ///
    /// # Errors
    /// The file cannot be written, or another run writes it.
    pub(crate) fn create(target: &Location) -> io::Result<Self> {
        match target {
            Location::Path(target) => {
                let name = target.file_name().unwrap_or_default().to_string_lossy();
                let partial = target.with_file_name(format!(".{name}.partial"));
                Ok(Self::File { file: open_partial(&partial)?, partial, target: target.clone() })
            }
            #[cfg(feature = "object_store")]
            Location::Url(url) => Upload::new(url).map(Self::Object),
            #[cfg(not(feature = "object_store"))]
            Location::Url(url) => url.unsupported(),
        }
    }

    /// Gives the file its name, in one step.
    ///
    /// # Errors
    /// The file cannot be written. It is discarded.
    pub(crate) fn complete(self) -> io::Result<()> {
        match self {
            Self::File { file, partial, target } => {
                file.sync_all().and_then(|()| fs::rename(&partial, &target)).inspect_err(|_| {
                    // The error is more important than a file that stays. The next run replaces it.
                    let _ = fs::remove_file(&partial);
                })
            }
            #[cfg(feature = "object_store")]
            Self::Object(upload) => upload.complete(),
        }
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// It stays.
    pub(crate) fn discard(self) -> io::Result<()> {
        match self {
            Self::File { partial, .. } => fs::remove_file(&partial),
            #[cfg(feature = "object_store")]
            Self::Object(upload) => upload.abort(),
        }
    }
}

impl Write for PartialFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::File { file, .. } => file.write(bytes),
            #[cfg(feature = "object_store")]
            Self::Object(upload) => upload.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        // Neither form has a buffer that can be flushed.
        Ok(())
    }
}

/// Opens an empty file that no other run writes.
fn open_partial(path: &Path) -> io::Result<File> {
    let file = File::options().create(true).write(true).truncate(false).open(path)?;
    let file = lock_partial(path, file)?;
    if file.metadata()?.nlink() > 1 {
        // A merge that was killed can leave a second name of a complete shard, which must keep its
        // content.
        fs::remove_file(path)?;
        return lock_partial(path, File::options().create_new(true).write(true).open(path)?);
    }
    file.set_len(0)?;
    Ok(file)
}

/// Returns the file at `path`, locked.
///
/// # Errors
/// Another run writes it.
fn lock_partial(path: &Path, file: File) -> io::Result<File> {
    // A file system without locks cannot protect a shard from another run.
    let is_locked = !matches!(file.try_lock(), Err(TryLockError::WouldBlock));
    // Between opening and locking, another run can have completed the file and given it its name.
    let is_partial = fs::metadata(path).is_ok_and(|named| {
        file.metadata().is_ok_and(|opened| (opened.dev(), opened.ino()) == (named.dev(), named.ino()))
    });
    if !is_locked || !is_partial {
        return Err(io::Error::other("another run writes this shard: use --shard to divide the input"));
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_of_another_run_is_not_opened() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".a.tar.partial");
        let first = open_partial(&path).unwrap();
        assert!(open_partial(&path).unwrap_err().to_string().contains("another run writes this shard"));
        drop(first);
        fs::write(&path, b"of a killed run").unwrap();
        assert_eq!(open_partial(&path).unwrap().metadata().unwrap().len(), 0);
    }

    #[test]
    fn link_to_a_complete_shard_is_not_truncated() {
        let folder = tempfile::tempdir().unwrap();
        let (shard, path) = (folder.path().join("a.tar"), folder.path().join(".a.tar.partial"));
        fs::write(&shard, b"complete").unwrap();
        fs::hard_link(&shard, &path).unwrap();
        let mut file = open_partial(&path).unwrap();
        io::Write::write_all(&mut file, b"new").unwrap();
        assert!(open_partial(&path).unwrap_err().to_string().contains("another run writes this shard"));
        assert_eq!(
            (fs::read(&path).unwrap(), fs::read(&shard).unwrap()),
            (b"new".into(), b"complete".into())
        );
    }
}
