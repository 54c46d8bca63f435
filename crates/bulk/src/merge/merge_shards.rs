//! Puts folders of shards together.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use crate::{
    shards::{expand, shards_of_folder},
    storage::{Location, OutputFolder, PartialFile, StoredFile, exists, is_same_file},
};

/// Number of names in an error.
const SHOWN_NAMES: usize = 10;

/// Size of the buffer for copies, in bytes.
const BUFFER_BYTES: usize = 1 << 20;

/// Puts the shards of the folders `parts` into the folder `output`, which is created.
///
/// A part can have no shard, as that of a machine with nothing to do.
/// On the same file system, a shard in both folders takes no further space. With `input`, there
/// must be a shard for each of those that the input names, and no other one. Nothing is written
/// unless all checks succeed. If `is_stopped` says so, the shards up to then are in the output.
///
/// # Errors
/// A folder that cannot be read, folders without any shard, two shards of the same name, missing or
/// further shards, a shard in `output` that exists unless `replaces` is set, an output folder that
/// has the input, or an output that cannot be written.
pub fn merge_shards(
    parts: &[Location],
    output: &Location,
    input: Option<&Location>,
    replaces: bool,
    is_stopped: impl Fn() -> bool,
) -> Result<MergedShards, String> {
    let mut shards: HashMap<OsString, Location> = HashMap::new();
    for shard in parts.iter().map(shards_of_folder).collect::<Result<Vec<_>, _>>()?.concat() {
        if let Some(other) = shards.insert(shard.name().to_owned(), shard.clone())
            && !is_same_file(&shard, &other)
        {
            return Err(format!("two parts have this shard: {other} and {shard}"));
        }
    }
    if let Some(input) = input {
        let inputs = expand(input)?;
        // It would be replaced by its results.
        if let Some(input) = inputs.iter().find(|input| is_same_file(input, &output.join(input.name()))) {
            return Err(format!("the output folder has the input {input}"));
        }
        let expected: HashSet<OsString> = inputs.iter().map(|shard| shard.name().to_owned()).collect();
        let found: HashSet<OsString> = shards.keys().cloned().collect();
        check_none(expected.difference(&found), "no part has these shards")?;
        check_none(found.difference(&expected), "the input has no such shards")?;
    }
    if shards.is_empty() {
        return Err("no part has a shard".to_owned());
    }
    let mut shards: Vec<(Location, Location)> =
        shards.into_iter().map(|(name, shard)| (shard, output.join(&name))).collect();
    // A part can be the output folder.
    shards.retain(|(shard, target)| !is_same_file(shard, target));
    shards.sort();
    for (_, target) in shards.iter().filter(|_| !replaces) {
        if exists(target).map_err(|error| format!("cannot read {target}: {error}"))? {
            return Err(format!("{target} already exists: use --force to replace it"));
        }
    }
    let mut merged = MergedShards { added: 0, total: shards.len() };
    OutputFolder::open(output)?;
    for (shard, target) in shards {
        if is_stopped() {
            break;
        }
        let placed = match (&shard, &target) {
            (Location::Path(shard), Location::Path(target)) => place(shard, target).map(|()| true),
            _ => copy(&shard, &target, &is_stopped),
        };
        if !placed.map_err(|error| format!("cannot write {target}: {error}"))? {
            break;
        }
        merged.added += 1;
    }
    Ok(merged)
}

/// The shards of a merge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MergedShards {
    /// The number of shards that are in the output folder now.
    pub added: usize,
    /// The number of those to add. The merge was stopped if it is larger.
    pub total: usize,
}

/// Copies a shard. Returns false, without a target, if the merge is stopped.
fn copy(shard: &Location, target: &Location, is_stopped: impl Fn() -> bool) -> io::Result<bool> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot read {shard}: {error}"));
    let mut source = StoredFile::open_regular(shard).and_then(StoredFile::into_stream).map_err(named)?;
    let (length, mut buffer) = (source.length(), vec![0; BUFFER_BYTES]);
    let mut file = PartialFile::create(target)?;
    let copied = loop {
        if is_stopped() {
            break Ok(false);
        }
        let count = match source.read(&mut buffer) {
            Ok(0) if source.position() == length => break Ok(true),
            Ok(0) => break Err(named(io::ErrorKind::UnexpectedEof.into())),
            Ok(count) => count,
            Err(error) => break Err(named(error)),
        };
        if let Err(error) = file.write_all(buffer.get(..count).unwrap_or_default()) {
            break Err(error);
        }
    };
    let ended = if matches!(copied, Ok(true)) { file.complete() } else { file.discard() };
    copied.and_then(|copied| ended.map(|()| copied))
}

/// Returns an error that names the first shards of a set, unless it is empty.
fn check_none<'a>(names: impl Iterator<Item = &'a OsString>, reason: &str) -> Result<(), String> {
    let mut names: Vec<String> = names.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    let more = match names.len().saturating_sub(SHOWN_NAMES) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    names.truncate(SHOWN_NAMES);
    match names.is_empty() {
        true => Ok(()),
        false => Err(format!("{reason}: {}{more}", names.join(", "))),
    }
}

/// Gives a shard a name in the output folder, or copies it there. The name appears in one step.
fn place(shard: &Path, target: &Path) -> io::Result<()> {
    if is_same_inode(shard, target) {
        return Ok(());
    }
    // Not the name of a shard that a run writes: a run truncates what it finds there. That would be
    // the shard of the part.
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let link = target.with_file_name(format!(".{name}.merge"));
    remove_if_exists(&link)?;
    let placed = fs::hard_link(shard, &link).or_else(|error| match error.kind() {
        // Another merge has made it. Copying would write into the shard of its part.
        io::ErrorKind::AlreadyExists => Err(error),
        _ => fs::copy(shard, &link).and_then(|_| fs::File::open(&link)?.sync_all()),
    });
    placed
        .and_then(|()| fs::rename(&link, target))
        // If both names are those of one file, renaming succeeds and leaves both.
        .and_then(|()| remove_if_exists(&link))
        .inspect_err(|_| {
            // The error is more important than a file that stays.
            let _ = fs::remove_file(&link);
        })
}

fn remove_if_exists(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns whether two paths are names of one file, as after an earlier merge.
fn is_same_inode(one: &Path, other: &Path) -> bool {
    let id = |path: &Path| fs::metadata(path).map(|file| (file.dev(), file.ino()));
    matches!((id(one), id(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder with parts a and b, and their shards.
    fn parts(shards: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for shard in shards {
            let path = folder.path().join(shard);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, shard).unwrap();
        }
        folder
    }

    fn merge(
        folder: &tempfile::TempDir,
        output: &str,
        input: Option<&str>,
        replaces: bool,
    ) -> Result<usize, String> {
        let location = |name: &str| Location::from(folder.path().join(name));
        let (parts, input) = (["a", "b"].map(location), input.map(location));
        merge_shards(&parts, &location(output), input.as_ref(), replaces, || false)
            .map(|merged| merged.added)
            .map_err(|error| error.replace(&format!("{}/", folder.path().display()), ""))
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn shards_of_all_parts_are_in_the_output() {
        let folder = parts(&["a/0.tar", "a/.2.tar.partial", "b/1.parquet"]);
        assert_eq!(merge(&folder, "out", None, false), Ok(2));
        assert_eq!(names(&folder.path().join("out")), ["0.tar", "1.parquet"]);
        assert_eq!(fs::read_to_string(folder.path().join("out/1.parquet")).unwrap(), "b/1.parquet");
        let error = merge(&folder, "out", None, false).unwrap_err();
        assert_eq!(error, "out/0.tar already exists: use --force to replace it");
        fs::write(folder.path().join("new"), "other").unwrap();
        fs::rename(folder.path().join("new"), folder.path().join("b/1.parquet")).unwrap();
        assert_eq!(merge(&folder, "out", None, true), Ok(2));
        assert_eq!(names(&folder.path().join("out")), ["0.tar", "1.parquet"]);
        assert_eq!(fs::read_to_string(folder.path().join("out/1.parquet")).unwrap(), "other");
        assert_eq!(merge(&folder, "a", None, false), Ok(1), "a part is the output");
        assert_eq!(names(&folder.path().join("a")), [".2.tar.partial", "0.tar", "1.parquet"]);
    }

    #[test]
    fn link_of_a_killed_merge_is_removed() {
        let folder = parts(&["a/0.tar", "b/1.tar", "other"]);
        let path = |name: &str| folder.path().join(name);
        fs::create_dir(path("out")).unwrap();
        fs::hard_link(path("other"), path("out/.0.tar.merge")).unwrap();
        assert_eq!(merge(&folder, "out", None, false), Ok(2));
        assert_eq!(names(&path("out")), ["0.tar", "1.tar"]);
        let content = |name: &str| fs::read_to_string(path(name)).unwrap();
        assert_eq!((content("out/0.tar"), content("other")), ("a/0.tar".into(), "other".into()));
    }

    #[test]
    fn part_without_shards_is_accepted() {
        let folder = parts(&["a/0.tar", "b/notes.txt"]);
        assert_eq!(merge(&folder, "out", Some("{0..0}.tar"), false), Ok(1));
        assert_eq!(names(&folder.path().join("out")), ["0.tar"]);
        fs::remove_file(folder.path().join("a/0.tar")).unwrap();
        assert_eq!(merge(&folder, "none", None, false), Err("no part has a shard".to_owned()));
        let error = merge(&folder, "none", Some("{0..0}.tar"), false).unwrap_err();
        assert_eq!(error, "no part has these shards: 0.tar");
        assert!(!folder.path().join("none").exists());
    }

    #[test]
    fn copy_is_complete_or_absent() {
        let folder = parts(&["a/0.tar"]);
        let location = |name: &str| Location::from(folder.path().join(name));
        for is_stopped in [true, false] {
            let copied = copy(&location("a/0.tar"), &location("a/1.tar"), || is_stopped).unwrap();
            assert_eq!(
                (copied, names(&folder.path().join("a")).len()),
                (!is_stopped, 2 - usize::from(is_stopped))
            );
        }
        assert_eq!(fs::read_to_string(folder.path().join("a/1.tar")).unwrap(), "a/0.tar");
    }

    #[test]
    fn input_is_not_replaced() {
        let folder = parts(&["a/0.tar", "b/1.tar", "in/0.tar", "in/1.tar"]);
        let error = merge(&folder, "in", Some("in"), true).unwrap_err();
        assert_eq!(error, "the output folder has the input in/0.tar");
        assert_eq!(fs::read_to_string(folder.path().join("in/0.tar")).unwrap(), "in/0.tar");
    }

    #[test]
    fn missing_further_and_double_shards_are_named() {
        let folder = parts(&["a/0.tar", "b/1.tar"]);
        let input = |input: &str| merge(&folder, "out", Some(input), false).unwrap_err();
        assert_eq!(input("{0..3}.tar"), "no part has these shards: 2.tar, 3.tar");
        assert!(input("{0..30}.tar").ends_with("19.tar and 19 more"), "{}", input("{0..30}.tar"));
        assert_eq!(input("{0..0}.tar"), "the input has no such shards: 1.tar");
        assert!(!folder.path().join("out").exists());
        fs::write(folder.path().join("b/0.tar"), "").unwrap();
        let error = merge(&folder, "out", None, false).unwrap_err();
        assert_eq!(error, "two parts have this shard: a/0.tar and b/0.tar");
    }
}
