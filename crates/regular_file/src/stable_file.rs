//! A file of which parts are read while it must not change.

use std::{
    fs::{File, Metadata},
    io,
    ops::Range,
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
};

/// A large regular file that is read in parts.
///
/// A file that is removed or replaced by another remains readable. A file that is truncated or
/// written to is an error of the next read, unless its time of change is the same. Mapping it into
/// memory would end the process instead.
#[derive(Debug)]
pub struct StableFile {
    file: File,
    version: Version,
}

/// Length and time of the last change, in seconds and nanoseconds.
type Version = (u64, i64, i64);

fn version(metadata: &Metadata) -> Version {
    (metadata.len(), metadata.mtime(), metadata.mtime_nsec())
}

impl StableFile {
    /// Opens the regular file at `path`.
    ///
    /// # Errors
    /// Those of [`crate::open`].
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = crate::open(path)?;
        Ok(Self { version: version(&file.metadata()?), file })
    }

    /// Returns the length of the file when it was opened, in bytes.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.version.0
    }

    /// Returns the bytes of `range`.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the range exceeds the file. An error of the operating
    /// system, or that the file changed since it was opened.
    pub fn read(&self, range: Range<u64>) -> io::Result<Vec<u8>> {
        if range.start > range.end || range.end > self.length() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(length).map_err(|_| io::ErrorKind::OutOfMemory)?;
        bytes.resize(length, 0);
        let read = self.file.read_exact_at(&mut bytes, range.start);
        self.check_unchanged()?;
        read.map(|()| bytes)
    }

    /// Checks that nobody has written to the file since it was opened.
    fn check_unchanged(&self) -> io::Result<()> {
        if version(&self.file.metadata()?) == self.version {
            return Ok(());
        }
        Err(io::Error::other("the file changed while it was in use"))
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, io::Write as _};

    use super::*;

    fn file(content: &[u8]) -> (tempfile::TempDir, std::path::PathBuf, StableFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("weights");
        fs::write(&path, content).unwrap();
        // The times of a file system are coarse. A later write always differs from this one.
        let past = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        File::options().write(true).open(&path).unwrap().set_modified(past).unwrap();
        let file = StableFile::open(&path).unwrap();
        (folder, path, file)
    }

    #[test]
    fn range_within_the_file_is_read() {
        let (_folder, _, file) = file(b"weights");
        assert_eq!((file.length(), file.read(1..3).unwrap().as_slice()), (7, b"ei".as_slice()));
        assert_eq!(file.read(7..7).unwrap(), b"");
        for range in [6..8, 8..9, u64::MAX - 1..u64::MAX] {
            assert_eq!(file.read(range).unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
        }
    }

    #[test]
    fn truncated_or_written_file_is_an_error() {
        let changed = "the file changed while it was in use";
        let (_folder, path, shorter) = file(b"weights");
        File::options().write(true).open(&path).unwrap().set_len(3).unwrap();
        assert_eq!(shorter.read(0..7).unwrap_err().to_string(), changed);
        let (_folder, path, written) = file(b"weights");
        File::options().write(true).open(&path).unwrap().write_all(b"W").unwrap();
        assert_eq!(written.read(3..4).unwrap_err().to_string(), changed);
    }

    #[test]
    fn replaced_file_remains_readable() {
        let (folder, path, file) = file(b"weights");
        let other = folder.path().join("other");
        fs::write(&other, "others").unwrap();
        fs::rename(&other, &path).unwrap();
        assert_eq!(file.read(0..7).unwrap(), b"weights");
        fs::remove_file(&path).unwrap();
        assert_eq!(file.read(0..7).unwrap(), b"weights");
    }
}
