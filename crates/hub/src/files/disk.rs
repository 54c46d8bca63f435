//! Operations on folders and files, with errors that contain the path.

use std::{fs, io, path::Path};

use tempfile::Builder;

use crate::error::HubError;

/// Creates `folder` and its parents.
pub(crate) fn create_folder(folder: &Path) -> Result<(), HubError> {
    fs::create_dir_all(folder).map_err(HubError::file("create the folder", folder))
}

/// Replaces `path` atomically by the file that `make` creates.
pub(crate) fn replace(path: &Path, make: impl FnMut(&Path) -> io::Result<()>) -> Result<(), HubError> {
    let folder = path.parent().unwrap_or(path);
    create_folder(folder)?;
    let made = Builder::new().prefix(".new-").make_in(folder, make);
    let made = made.map_err(HubError::file("write", path))?;
    made.into_temp_path().persist(path).map_err(|error| HubError::file("write", path)(error.error))
}

/// Returns the free bytes of the file system of `folder`.
pub(crate) fn free_bytes(folder: &Path) -> Result<u64, HubError> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|error| HubError::file("measure the free space of", folder)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}
