//! Walks through the members of a tar file, sample by sample.

use std::{
    io::{self, BufReader, Read as _},
    ops::ControlFlow,
};

use tar::{Archive, Entry};

use crate::{
    shards::exchange::BUFFER_BYTES,
    storage::{FileStream, Location, StoredFile},
};

/// Size of a block of a tar file, in bytes.
const BLOCK_BYTES: usize = 512;

/// Maximum number of bytes after the end of an archive. `tar` fills its last record with zeros, 10
/// KiB by default.
const MAX_PADDING_BYTES: u64 = 64 << 10;

/// An entry of a shard.
pub(super) type Member<'a> = Entry<'a, BufReader<FileStream>>;

/// The name of a member, as WebDataset splits it: at the first dot after the last slash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct MemberName {
    /// What the members of a sample have in common.
    pub(super) key: String,
    /// What follows the dot, in small letters, such as `jpg` or `seg.png`.
    pub(super) extension: String,
}

impl MemberName {
    /// Returns the parts of a path, or `None` for a name that belongs to no sample: without a key,
    /// without an extension, or with two underscores around its key.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let start = path.rfind('/').map_or(0, |at| at + 1);
        let (folder, name) = path.split_at_checked(start)?;
        let (stem, extension) = name.split_once('.')?;
        if stem.is_empty() || extension.is_empty() || (stem.starts_with("__") && stem.ends_with("__")) {
            return None;
        }
        Some(Self { key: format!("{folder}{stem}"), extension: extension.to_lowercase() })
    }
}

/// Receives what a shard holds.
pub(super) trait Visitor {
    /// Called for each entry, with its name if it is a regular file that belongs to a sample.
    fn member(&mut self, name: Option<&MemberName>, member: &mut Member<'_>) -> io::Result<()>;

    /// Called after the last member of each sample. `Break` ends the walk.
    fn end_of_sample(&mut self, key: &str) -> io::Result<ControlFlow<()>>;
}

/// Calls `visitor` for each member of a shard and after each sample. Folders and links belong to no
/// sample.
///
/// # Errors
/// The file cannot be read or is no tar file, with the last sample before the place. An error of
/// `visitor` is returned as it is.
pub(super) fn walk(file: &Location, visitor: &mut impl Visitor) -> io::Result<()> {
    let file = StoredFile::open_regular(file)?.into_stream()?;
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER_BYTES, file));
    let mut key: Option<String> = None;
    let place = |key: &Option<String>| match key {
        Some(key) => format!("after the beginning of sample {key}"),
        None => "before the first sample".to_owned(),
    };
    for member in archive.entries()? {
        let mut member = member.map_err(|error| broken(&place(&key), &error))?;
        let kind = member.header().entry_type();
        if kind.is_gnu_sparse() {
            return Err(broken(&place(&key), &io::Error::other("sparse files are not supported")));
        }
        let path = member.path_bytes();
        check_path(&path).map_err(|error| broken(&place(&key), &error))?;
        let is_file = kind.is_file() || kind.is_contiguous();
        let name = str::from_utf8(&path).ok().filter(|_| is_file).and_then(MemberName::parse);
        if let Some(name) = &name
            && key.as_ref() != Some(&name.key)
            && let Some(key) = key.replace(name.key.clone())
            && visitor.end_of_sample(&key)?.is_break()
        {
            return Ok(());
        }
        visitor.member(name.as_ref(), &mut member)?;
    }
    check_end(archive).map_err(|error| broken(&place(&key), &error))?;
    match key {
        Some(key) => visitor.end_of_sample(&key).map(drop),
        None => Ok(()),
    }
}

/// Returns an error if the name of a member leads out of the folder that a shard is unpacked into,
/// or is no UTF-8. No program writes such data sets, and the output cannot have these names.
fn check_path(path: &[u8]) -> io::Result<()> {
    let shown = String::from_utf8_lossy(path);
    let reason = if str::from_utf8(path).is_err() {
        "is not valid UTF-8"
    } else if path.starts_with(b"/") {
        "is absolute"
    } else if shown.split('/').any(|part| part == "..") {
        "has the part .."
    } else {
        return Ok(());
    };
    Err(io::Error::other(format!("the name {:?} {reason}", shown.chars().take(100).collect::<String>())))
}

/// Returns an error if a tar file does not end where it says. It was cut off between two members,
/// or is not downloaded completely.
///
/// `archive` has been read to its first block of zeros, or to the end of the file.
fn check_end(archive: Archive<BufReader<FileStream>>) -> io::Result<()> {
    let file = archive.into_inner();
    let end = file.get_ref().position().saturating_sub(file.buffer().len() as u64);
    let length = file.get_ref().length();
    let missing = |reason| Err(io::Error::new(io::ErrorKind::UnexpectedEof, reason));
    if length.saturating_sub(end) > MAX_PADDING_BYTES {
        return missing("data follows the end of the archive");
    }
    let mut padding = Vec::new();
    file.take(MAX_PADDING_BYTES).read_to_end(&mut padding)?;
    if padding.iter().any(|byte| *byte != 0) {
        return missing("data follows the end of the archive");
    }
    // The archive ends in two blocks of zeros. Reading stopped after the first one at the latest.
    match padding.len() {
        0..BLOCK_BYTES => missing("the end of the archive is missing"),
        _ => Ok(()),
    }
}

/// Returns the error of a shard that is no tar file from some place on.
pub(super) fn broken(place: &str, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("the tar file is broken {place}: {error}"))
}

/// Reads the content of a member. A content of more than `max_bytes` is `None`.
///
/// # Errors
/// The file cannot be read, or ends within the member.
pub(super) fn read_member(member: &mut Member<'_>, max_bytes: u64) -> io::Result<Option<Vec<u8>>> {
    let bytes = member.size();
    if bytes > max_bytes {
        return Ok(None);
    }
    let mut content = Vec::new();
    member.read_to_end(&mut content)?;
    check_complete(bytes, content.len() as u64)?;
    Ok(Some(content))
}

/// Returns an error if a member has fewer bytes than its header says.
pub(super) fn check_complete(expected: u64, actual: u64) -> io::Result<()> {
    if actual == expected {
        return Ok(());
    }
    let message = format!("the file ends after {actual} of {expected} bytes of a member");
    Err(io::Error::new(io::ErrorKind::UnexpectedEof, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: &str) -> Option<(String, String)> {
        MemberName::parse(path).map(|name| (name.key, name.extension))
    }

    #[test]
    fn member_name_splits_at_first_dot_of_last_component() {
        let parts = |key: &str, extension: &str| Some((key.to_owned(), extension.to_owned()));
        assert_eq!(name("000017.jpg"), parts("000017", "jpg"));
        assert_eq!(name("a.b/c.Left.JPG"), parts("a.b/c", "left.jpg"));
        assert_eq!(name("./x.txt"), parts("./x", "txt"));
        for path in ["README", "a/.hidden", "a.", "__index__.json", ""] {
            assert_eq!(name(path), None, "{path}");
        }
    }
}
