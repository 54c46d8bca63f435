//! Reads the images of a folder for a workload.

use std::{
    io,
    path::{Path, PathBuf},
};

use bytes::Bytes;

/// A folder whose images cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ImageFolderError {
    /// The folder or a file cannot be read.
    #[error("cannot read {path}: {cause}")]
    Unreadable {
        /// The folder or file.
        path: String,
        /// The error of the operating system.
        cause: io::Error,
    },
    /// The folder has no image.
    #[error("no image in {0}: must hold .png, .jpg, .jpeg, .webp, .gif or .bmp files")]
    Empty(String),
}

const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// Reads all image files of a folder, in the order of their names.
///
/// # Errors
/// [`ImageFolderError`] if a file cannot be read or the folder has no image.
pub fn read_image_folder(folder: &Path) -> Result<Vec<Bytes>, ImageFolderError> {
    let unreadable =
        |path: &Path, cause| ImageFolderError::Unreadable { path: path.display().to_string(), cause };
    let entries = std::fs::read_dir(folder).map_err(|cause| unreadable(folder, cause))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(|cause| unreadable(folder, cause))?.path();
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            paths.push(path);
        }
    }
    paths.sort();
    if paths.is_empty() {
        return Err(ImageFolderError::Empty(folder.display().to_string()));
    }
    let read = |path: &PathBuf| std::fs::read(path).map(Bytes::from).map_err(|cause| unreadable(path, cause));
    paths.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folder_gives_only_images_in_order_of_names() {
        let folder = tempfile::tempdir().unwrap();
        let empty = read_image_folder(folder.path()).unwrap_err();
        assert!(empty.to_string().starts_with("no image in "), "{empty}");
        for (name, content) in [("b.PNG", "two"), ("a.jpg", "one"), ("notes.txt", "none")] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        assert_eq!(read_image_folder(folder.path()).unwrap(), ["one", "two"]);
        let missing = read_image_folder(&folder.path().join("missing")).unwrap_err();
        assert!(missing.to_string().starts_with("cannot read "), "{missing}");
    }
}
