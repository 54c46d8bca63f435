//! Looks into folders of files and of objects.

use std::{
    collections::HashSet,
    ffi::{OsStr, OsString},
    fs, io,
    path::{Path, PathBuf},
};

#[cfg(feature = "object_store")]
use crate::storage::object;
use crate::storage::{location::Location, stored_file::StoredFile};

/// A folder that files are written into, with the names of those that it already has.
#[derive(Debug)]
pub(crate) enum OutputFolder {
    /// A folder of this machine.
    Path(PathBuf),
    /// A folder of an object store. It is listed once, because a request for each name takes long.
    Url(HashSet<OsString>),
}

impl OutputFolder {
    /// Creates a folder unless it exists.
    ///
    /// # Errors
    /// A folder that cannot be created or read, or that has no place for output.
    pub(crate) fn open(folder: &Location) -> Result<Self, String> {
        match folder {
            Location::Path(path) => match fs::create_dir_all(path) {
                Ok(()) => Ok(Self::Path(path.clone())),
                Err(error) => Err(format!("cannot create the output folder {folder}: {error}")),
            },
            Location::Url(url) if url.is_web() => {
                Err(format!("cannot write to {folder}: expected a folder, s3://, gs:// or az://"))
            }
            Location::Url(_) => match file_names(folder) {
                Ok(names) => Ok(Self::Url(names.into_iter().collect())),
                Err(error) => Err(format!("cannot read the output folder {folder}: {error}")),
            },
        }
    }

    /// Returns whether the folder has a file of this name.
    pub(crate) fn has(&self, name: &OsStr) -> bool {
        match self {
            Self::Path(path) => path.join(name).exists(),
            Self::Url(names) => names.contains(name),
        }
    }
}

/// Returns the names of the entries of a folder that are not folders, in any order.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn file_names(folder: &Location) -> io::Result<Vec<OsString>> {
    match folder {
        Location::Path(path) => {
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                if !entry.path().is_dir() {
                    names.push(entry.file_name());
                }
            }
            Ok(names)
        }
        #[cfg(feature = "object_store")]
        Location::Url(url) => object::file_names(url),
        #[cfg(not(feature = "object_store"))]
        Location::Url(url) => url.unsupported(),
    }
}

/// Returns the lengths of files in bytes, for estimates: 0 for those that cannot be read.
pub(crate) fn lengths(files: &[Location]) -> Vec<u64> {
    let lengths = files.iter().map(|file| match file {
        Location::Path(path) => fs::metadata(path).map(|metadata| metadata.len()).unwrap_or_default(),
        Location::Url(_) => 0,
    });
    #[cfg_attr(not(feature = "object_store"), expect(unused_mut, reason = "only objects are looked up"))]
    let mut lengths: Vec<u64> = lengths.collect();
    #[cfg(feature = "object_store")]
    object::add_lengths(files, &mut lengths);
    lengths
}

/// Returns whether a file or an object exists.
///
/// # Errors
/// A store that does not answer.
pub(crate) fn exists(location: &Location) -> io::Result<bool> {
    match location {
        Location::Path(path) => Ok(path.exists()),
        Location::Url(_) => match StoredFile::open(location) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        },
    }
}

/// Returns whether two locations are those of one existing file.
pub(crate) fn is_same_file(one: &Location, other: &Location) -> bool {
    let real = |path: &Path| -> io::Result<PathBuf> { fs::canonicalize(path) };
    match (one, other) {
        (Location::Path(one), Location::Path(other)) => {
            matches!((real(one), real(other)), (Ok(one), Ok(other)) if one == other)
        }
        (one, other) => one == other,
    }
}
