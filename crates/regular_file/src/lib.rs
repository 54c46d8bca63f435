//! Reads files that settings, administrators and other programs name.
//!
//! A path can lead to a device without end, to a pipe that nobody writes, or to a file that another
//! process truncates. These functions open only regular files, never wait for a writer, and read at
//! most a given number of bytes.
//!
//! - [`read`] and [`read_text`] return the content of a small file.
//! - [`StableFile`] reads parts of a large file, and fails if the file changes meanwhile.

mod stable_file;

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::fs::OFlags;

pub use stable_file::StableFile;

/// Opens the regular file at `path` for reading. Symbolic links are followed.
///
/// # Errors
/// The error of the operating system. [`io::ErrorKind::InvalidInput`] if the path leads to anything
/// but a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // Without this flag, opening a pipe waits for a writer. It has no effect on regular files.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() {
        return Ok(file);
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"))
}

/// Returns the content of the regular file at `path`, which has at most `limit` bytes.
///
/// # Errors
/// Those of [`open`]. [`io::ErrorKind::FileTooLarge`] if the file has more bytes.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let too_large = |bytes: u64| {
        let message = format!("file too large: {bytes} bytes, {limit} allowed");
        io::Error::new(io::ErrorKind::FileTooLarge, message)
    };
    let length = file.metadata()?.len();
    if length > limit {
        return Err(too_large(length));
    }
    let mut content = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    // A file can grow, and files of the kernel report no length.
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut content)? as u64;
    if read > limit { Err(too_large(read)) } else { Ok(content) }
}

/// Returns the text in the regular file at `path`, which has at most `limit` bytes.
///
/// # Errors
/// Those of [`read`]. [`io::ErrorKind::InvalidData`] if the content is not UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let not_text = |_| io::Error::new(io::ErrorKind::InvalidData, "content is not valid UTF-8");
    String::from_utf8(read(path, limit)?).map_err(not_text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn content_up_to_the_limit_is_returned() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::write(&path, "four").unwrap();
        assert_eq!(read(&path, 4).unwrap(), b"four");
        assert_eq!(read_text(&path, 4).unwrap(), "four");
        let error = read(&path, 3).unwrap_err();
        assert_eq!(error.to_string(), "file too large: 4 bytes, 3 allowed");
        fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_text(&path, 4).unwrap_err().to_string(), "content is not valid UTF-8");
        assert_eq!(read(&folder.path().join("b"), 4).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn sparse_file_is_rejected_by_its_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sparse");
        File::create(&path).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(&path, 1 << 20).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn file_without_a_length_is_read_up_to_the_limit() {
        let path = Path::new("/proc/self/status");
        if path.exists() {
            assert!(read(path, 1 << 20).unwrap().len() > 100);
            assert_eq!(read(path, 10).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        }
    }

    #[test]
    fn pipe_device_and_folder_are_rejected_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RWXU, 0).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/dev/zero", &link).unwrap();
        for path in [&pipe, &link, folder.path()] {
            let error = read(path, 4).unwrap_err();
            assert_eq!(error.to_string(), "not a regular file", "{}", path.display());
        }
    }
}
