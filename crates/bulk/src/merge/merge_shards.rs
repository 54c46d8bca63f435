//! Puts folders of shards together.

use std::{
    collections::{HashMap, HashSet},
    ffi::OsString,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::shards::{expand, is_same_file, shards_of_folder};

/// Number of names in an error.
const SHOWN_NAMES: usize = 10;

/// Puts the shards of the folders `parts` into the folder `output`, which is created. Returns the
/// number of shards.
///
/// A part can have no shard, as that of a machine with nothing to do.
/// On the same file system, a shard in both folders takes no further space. With `input`, there
/// must be a shard for each of those that the input names, and no other one. Nothing is written
/// unless all checks succeed.
///
/// # Errors
/// A folder that cannot be read, folders without any shard, two shards of the same name, missing or
/// further shards, a shard in `output` that exists unless `replaces` is set, an output folder that
/// has the input, or an output that cannot be written.
pub fn merge_shards(
    parts: &[PathBuf],
    output: &Path,
    input: Option<&Path>,
    replaces: bool,
) -> Result<usize, String> {
    let mut shards: HashMap<OsString, PathBuf> = HashMap::new();
    for shard in parts.iter().map(|part| shards_of_folder(part)).collect::<Result<Vec<_>, _>>()?.concat() {
        if let Some(other) = shards.insert(name(&shard), shard.clone())
            && !is_same_file(&shard, &other)
        {
            return Err(format!("two parts have this shard: {} and {}", other.display(), shard.display()));
        }
    }
    if let Some(input) = input {
        let inputs = expand(input)?;
        // It would be replaced by its results.
        if let Some(input) = inputs.iter().find(|input| is_same_file(input, &output.join(name(input)))) {
            return Err(format!("the output folder has the input {}", input.display()));
        }
        let expected: HashSet<OsString> = inputs.iter().map(|shard| name(shard)).collect();
        let found: HashSet<OsString> = shards.keys().cloned().collect();
        check_none(expected.difference(&found), "no part has these shards")?;
        check_none(found.difference(&expected), "the input has no such shards")?;
    }
    if shards.is_empty() {
        return Err("no part has a shard".to_owned());
    }
    let mut shards: Vec<(PathBuf, PathBuf)> =
        shards.into_iter().map(|(name, shard)| (shard, output.join(name))).collect();
    // A part can be the output folder.
    shards.retain(|(shard, target)| !is_same_file(shard, target));
    shards.sort();
    if let Some((_, target)) = shards.iter().find(|(_, target)| target.exists() && !replaces) {
        return Err(format!("{} already exists: use --force to replace it", target.display()));
    }
    let count = shards.len();
    let write_error = |path: &Path, error: io::Error| format!("cannot write {}: {error}", path.display());
    fs::create_dir_all(output).map_err(|error| write_error(output, error))?;
    for (shard, target) in shards {
        place(&shard, &target).map_err(|error| write_error(&target, error))?;
    }
    Ok(count)
}

fn name(shard: &Path) -> OsString {
    shard.file_name().unwrap_or_default().to_owned()
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
    let link = target.with_file_name(format!(".{}.merge", name(target).to_string_lossy()));
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
        let path = |name: &str| folder.path().join(name);
        let input = input.map(path);
        merge_shards(&[path("a"), path("b")], &path(output), input.as_deref(), replaces)
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
