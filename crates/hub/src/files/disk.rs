//! Operations on folders and files.

use std::{fs, io, path::Path};

use tempfile::Builder;

use crate::error::HubError;

/// Creates `folder` and those above it.
pub(crate) fn create_folder(folder: &Path) -> Result<(), HubError> {
    fs::create_dir_all(folder).map_err(HubError::file("create the folder", folder))
}

/// What `make` makes takes `path`'s place in one step, so that a reader finds the old or the new.
pub(crate) fn replace(path: &Path, make: impl FnMut(&Path) -> io::Result<()>) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(path);
    create_folder(folder)?;
    let made = Builder::new().prefix(".new-").make_in(folder, make);
    let made = made.map_err(HubError::file("write", path))?;
    made.into_temp_path().persist(path).map_err(|error| HubError::file("write", path)(error.error))
}

/// Free bytes on the disk of `folder`.
pub(crate) fn free_bytes(folder: &Path) -> Result<u64, HubError> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|error| HubError::file("measure the free space of", folder)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
