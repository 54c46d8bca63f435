//! The names of shards: files, folders, and names with braces.

use std::{io, path::Path};

use crate::{
    shards::shard_format::{EXPECTED, has_shard_extension},
    storage::{Location, exists, file_names},
};

/// Maximum number of shards that one input can name.
const MAX_SHARDS: usize = 1_000_000;

/// Returns whether an input is a shard, several shards in braces, or a folder.
#[must_use]
pub fn is_shard_input(input: &Location) -> bool {
    has_shard_extension(input) || is_folder(input)
}

/// Returns whether an input is a folder. A URL is one if it ends in a slash.
fn is_folder(input: &Location) -> bool {
    input.path().map_or_else(|| input.name().is_empty(), Path::is_dir)
}

/// Returns the shards that an input names, in order.
///
/// A folder, or a URL that ends in a slash, stands for the shards in it, sorted by name.
/// `{000..127}` in a name stands for these numbers, and `{a,b}` for these texts.
///
/// # Errors
/// A folder that cannot be read or has no shard, and braces that are invalid.
pub(crate) fn expand(input: &Location) -> Result<Vec<Location>, String> {
    // A file whose name has braces is that file.
    if input.path().is_some_and(Path::is_file) {
        return Ok(vec![input.clone()]);
    }
    if is_folder(input) {
        return shards_of_folder(input).and_then(|shards| match shards.is_empty() {
            true => Err(format!("no shard in the folder {input}: expected {EXPECTED}")),
            false => Ok(shards),
        });
    }
    let text = input.text().ok_or_else(|| format!("{input} is not valid UTF-8"))?;
    if input.path().is_some() && text.contains("://") {
        return Err(format!("{input} has an unknown scheme: expected s3, gs, az, http or https"));
    }
    let names = expand_braces(text).map_err(|reason| format!("\"{input}\": {reason}"))?;
    Ok(names.into_iter().map(Location::from).collect())
}

/// Returns the shards in a folder, sorted by name. It can have none.
///
/// # Errors
/// A folder that cannot be read.
pub(crate) fn shards_of_folder(folder: &Location) -> Result<Vec<Location>, String> {
    let names = file_names(folder).map_err(|error| format!("cannot read the folder {folder}: {error}"))?;
    let mut shards: Vec<Location> = names.iter().map(|name| folder.join(name)).collect();
    shards.retain(has_shard_extension);
    shards.sort();
    Ok(shards)
}

/// Returns the files that exist, in their order.
///
/// # Errors
/// A store that does not answer.
pub fn existing(files: &[Location]) -> io::Result<Vec<Location>> {
    let mut existing = Vec::new();
    for file in files {
        let found = exists(file);
        if found.map_err(|error| io::Error::new(error.kind(), format!("{file}: {error}")))? {
            existing.push(file.clone());
        }
    }
    Ok(existing)
}

/// Replaces each pair of braces by its alternatives, the first pair varying slowest.
fn expand_braces(text: &str) -> Result<Vec<String>, String> {
    let mut names = vec![String::new()];
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('{') {
        let (inside, after) = after.split_once('}').ok_or("} is missing")?;
        let alternatives = alternatives(inside)?;
        if names.len().saturating_mul(alternatives.len()) > MAX_SHARDS {
            return Err(format!("the input names more than {MAX_SHARDS} shards"));
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
    use std::{
        fs,
        os::unix::{fs::symlink, net::UnixListener},
    };

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
            ("a{1..2.tar", "} is missing"),
            ("a{2..1}.tar", "{2..1} ends before it begins"),
            ("a{x..1}.tar", "{x..1} must have two numbers, as in {000..127}"),
            ("a{+1..2}.tar", "{+1..2} must have two numbers, as in {000..127}"),
            ("{0..9999999}.tar", "{0..9999999} names more than 1000000 shards"),
            ("{0..9999}{0..9999}.tar", "the input names more than 1000000 shards"),
        ] {
            assert_eq!(expand_braces(text).unwrap_err(), reason);
        }
    }

    #[test]
    fn folder_stands_for_its_shards() {
        let folder = tempfile::tempdir().unwrap();
        let input = Location::from(folder.path());
        assert!(is_shard_input(&input));
        assert!(expand(&input).unwrap_err().starts_with("no shard in the folder "));
        for name in ["b.tar", "a.TAR", "c.parquet", "notes.txt"] {
            fs::write(folder.path().join(name), b"").unwrap();
        }
        // What cannot be read is not passed over.
        let _socket = UnixListener::bind(folder.path().join("d.tar")).unwrap();
        symlink("nowhere", folder.path().join("e.tar")).unwrap();
        let expected =
            ["a.TAR", "b.tar", "c.parquet", "d.tar", "e.tar"].map(|name| folder.path().join(name).into());
        assert_eq!(expand(&input).unwrap(), expected);
    }

    #[test]
    fn file_with_braces_in_its_name_is_that_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("{0..2}.tar");
        let input = Location::from(&*path);
        assert_eq!(expand(&input).unwrap().len(), 3);
        fs::write(&path, b"").unwrap();
        assert_eq!(expand(&input).unwrap(), [input]);
    }

    #[test]
    fn braces_of_a_url_expand_and_other_schemes_do_not() {
        let location = |text: &str| Location::from(Path::new(text));
        let shards = expand(&location("https://host/{0..1}.tar?sig={a}")).unwrap();
        assert_eq!(shards, ["https://host/0.tar?sig=a", "https://host/1.tar?sig=a"].map(location));
        assert!(is_shard_input(&location("s3://bucket/folder/")));
        assert!(!is_shard_input(&location("s3://bucket/a.jsonl")));
        let error = expand(&location("ftp://host/0.tar")).unwrap_err();
        assert_eq!(error, "ftp://host/0.tar has an unknown scheme: expected s3, gs, az, http or https");
        let error = expand(&location("https://host/{0.tar?sig=secret")).unwrap_err();
        assert_eq!(error, "\"https://host/{0.tar\": } is missing");
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
