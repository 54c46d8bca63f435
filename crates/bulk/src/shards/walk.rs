//! Walks through the members of a tar file, sample by sample.

use std::{
    fs::File,
    io::{self, BufReader, Read as _, Seek as _, SeekFrom},
    ops::ControlFlow,
    path::Path,
};

use tar::{Archive, Entry};

/// Size of the buffers for shards, in bytes.
pub(super) const BUFFER_BYTES: usize = 1 << 20;

/// Size of a block of a tar file, in bytes.
const BLOCK_BYTES: usize = 512;

/// A regular file in a shard.
pub(super) type Member<'a> = Entry<'a, BufReader<File>>;

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
    /// Called for each regular file, with its name if it belongs to a sample.
    fn member(&mut self, name: Option<&MemberName>, member: &mut Member<'_>) -> io::Result<()>;

    /// Called after the last member of each sample. `Break` ends the walk.
    fn end_of_sample(&mut self, key: &str) -> io::Result<ControlFlow<()>>;
}

/// Calls `visitor` for each member of a shard and after each sample. Entries that are no regular
/// files, such as folders and links, are skipped.
///
/// # Errors
/// The file cannot be read or is no tar file, with the last sample before the place. An error of
/// `visitor` is returned as it is.
pub(super) fn walk(path: &Path, visitor: &mut impl Visitor) -> io::Result<()> {
    let mut archive = Archive::new(BufReader::with_capacity(BUFFER_BYTES, File::open(path)?));
    let mut key: Option<String> = None;
    let place = |key: &Option<String>| match key {
        Some(key) => format!("after the beginning of sample {key}"),
        None => "before the first sample".to_owned(),
    };
    for member in archive.entries()? {
        let mut member = member.map_err(|error| broken(&place(&key), &error))?;
        if !member.header().entry_type().is_file() {
            continue;
        }
        let name = MemberName::parse(&String::from_utf8_lossy(&member.path_bytes()));
        if let Some(name) = &name
            && key.as_ref() != Some(&name.key)
            && let Some(key) = key.replace(name.key.clone())
            && visitor.end_of_sample(&key)?.is_break()
        {
            return Ok(());
        }
        visitor.member(name.as_ref(), &mut member)?;
    }
    check_end(path).map_err(|error| broken(&place(&key), &error))?;
    match key {
        Some(key) => visitor.end_of_sample(&key).map(drop),
        None => Ok(()),
    }
}

/// Returns an error if a tar file does not end in a block of zeros. It was cut off between two
/// members.
fn check_end(path: &Path) -> io::Result<()> {
    let mut file = File::open(path)?;
    let mut block = [0; BLOCK_BYTES];
    let start = file.metadata()?.len().saturating_sub(block.len() as u64);
    file.seek(SeekFrom::Start(start))?;
    match file.read_exact(&mut block) {
        Ok(()) if block == [0; BLOCK_BYTES] => Ok(()),
        Err(error) if error.kind() != io::ErrorKind::UnexpectedEof => Err(error),
        _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the end of the archive is missing")),
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
