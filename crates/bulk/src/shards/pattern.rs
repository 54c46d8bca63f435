//! The names of shards: files, folders, and names with braces.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::shards::shard_format::{EXPECTED, has_shard_extension};

/// Maximum number of shards that one input can name.
const MAX_SHARDS: usize = 1_000_000;

/// Returns whether an input is a shard, several shards in braces, or a folder.
#[must_use]
pub fn is_shard_input(input: &Path) -> bool {
    has_shard_extension(input) || input.is_dir()
}

/// Returns the shards that an input names, in order.
///
/// A folder stands for the shards in it, sorted by name. `{000..127}` in a name stands for these
/// numbers, and `{a,b}` for these texts.
///
/// # Errors
/// A folder that cannot be read or has no shard, and braces that are invalid.
pub(crate) fn expand(input: &Path) -> Result<Vec<PathBuf>, String> {
    // A file whose name has braces is that file.
    if input.is_file() {
        return Ok(vec![input.to_owned()]);
    }
    if input.is_dir() {
        return shards_of_folder(input).and_then(|shards| match shards.is_empty() {
            true => Err(format!("no shard in the folder {}: expected {EXPECTED}", input.display())),
            false => Ok(shards),
        });
    }
    let text = input.to_str().ok_or_else(|| format!("{} is not valid UTF-8", input.display()))?;
    let names = expand_braces(text)?;
    Ok(names.into_iter().map(PathBuf::from).collect())
}

/// Returns the shards in a folder, sorted by name. It can have none.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn shards_of_folder(folder: &Path) -> Result<Vec<PathBuf>, String> {
    list_shards(folder).map_err(|error| format!("cannot read the folder {}: {error}", folder.display()))
}

fn list_shards(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut shards = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if has_shard_extension(&path) && path.is_file() {
            shards.push(path);
        }
    }
    shards.sort();
    Ok(shards)
}

/// Replaces each pair of braces by its alternatives, the first pair varying slowest.
fn expand_braces(text: &str) -> Result<Vec<String>, String> {
    let mut names = vec![String::new()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}').ok_or_else(|| format!("{text:?}: }} is missing"))?;
        let alternatives = alternatives(inside).map_err(|reason| format!("{text:?}: {reason}"))?;
        if names.len().saturating_mul(alternatives.len()) > MAX_SHARDS {
            return Err(format!("{text:?} names more than {MAX_SHARDS} shards"));
        }
        names = names
            .iter()
            .flat_map(|name| alternatives.iter().map(move |text| format!("{name}{before}{text}")))
            .collect();
        rest = after;
    }
    names.iter_mut().for_each(|name| name.push_str(rest));
    Ok(names)
}

/// Returns the alternatives that the text between two braces stands for.
fn alternatives(inside: &str) -> Result<Vec<String>, String> {
    let Some((first, last)) = inside.split_once("..") else {
        return Ok(inside.split(',').map(str::to_owned).collect());
    };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let number = text.parse::<usize>().ok().filter(|_| digits);
        number.ok_or_else(|| format!("{{{inside}}} must have two numbers, as in {{000..127}}"))
    };
    let (from, to) = (number(first)?, number(last)?);
    if from > to {
        return Err(format!("{{{inside}}} ends before it begins"));
    }
    if to - from >= MAX_SHARDS {
        return Err(format!("{{{inside}}} names more than {MAX_SHARDS} shards"));
    }
    // As in shells, a first number with leading zeros sets the width.
    let width = if first.starts_with('0') { first.len() } else { 0 };
    Ok((from..=to).map(|number| format!("{number:0width$}")).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn braces_expand_to_all_combinations() {
        assert_eq!(expand_braces("a.tar").unwrap(), ["a.tar"]);
        assert_eq!(expand_braces("s-{008..010}.tar").unwrap(), ["s-008.tar", "s-009.tar", "s-010.tar"]);
        assert_eq!(expand_braces("{9..11}.tar").unwrap(), ["9.tar", "10.tar", "11.tar"]);
        let names = expand_braces("{train,val}/{0..1}.tar").unwrap();
        assert_eq!(names, ["train/0.tar", "train/1.tar", "val/0.tar", "val/1.tar"]);
    }

    #[test]
    fn invalid_braces_are_an_error() {
        for (text, reason) in [
            ("a{1..2.tar", "\"a{1..2.tar\": } is missing"),
            ("a{2..1}.tar", "\"a{2..1}.tar\": {2..1} ends before it begins"),
            ("a{x..1}.tar", "\"a{x..1}.tar\": {x..1} must have two numbers, as in {000..127}"),
            ("a{+1..2}.tar", "\"a{+1..2}.tar\": {+1..2} must have two numbers, as in {000..127}"),
            ("{0..9999999}.tar", "\"{0..9999999}.tar\": {0..9999999} names more than 1000000 shards"),
            ("{0..9999}{0..9999}.tar", "\"{0..9999}{0..9999}.tar\" names more than 1000000 shards"),
        ] {
            assert_eq!(expand_braces(text).unwrap_err(), reason);
        }
    }

    #[test]
    fn folder_stands_for_its_shards() {
        let folder = tempfile::tempdir().unwrap();
        assert!(is_shard_input(folder.path()));
        assert!(expand(folder.path()).unwrap_err().starts_with("no shard in the folder "));
        for name in ["b.tar", "a.TAR", "c.parquet", "notes.txt"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        assert_eq!(
            expand(folder.path()).unwrap(),
            ["a.TAR", "b.tar", "c.parquet"].map(|name| folder.path().join(name))
        );
    }

    #[test]
    fn file_with_braces_in_its_name_is_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("{0..2}.tar");
        assert_eq!(expand(&path).unwrap().len(), 3);
        fs::write(&path, b"").unwrap();
        assert_eq!(expand(&path).unwrap(), [path]);
    }

    proptest! {
        #[test]
        fn range_has_every_number_once(from in 0_usize..2000, count in 1_usize..50) {
            let last = from + count - 1;
            let names = expand_braces(&format!("{{{from:05}..{last}}}")).unwrap();
            let expected: Vec<String> = (from..=last).map(|number| format!("{number:05}")).collect();
            prop_assert_eq!(names, expected);
        }
    }
}
