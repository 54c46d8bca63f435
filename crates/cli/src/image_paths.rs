//! The images of a command line: files, folders and URLs.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bulk::Fields;
use clap::{Args, ValueHint};
use walkdir::WalkDir;

use crate::records::{error_fields, is_url};

/// Extensions of image files in folders.
const EXTENSIONS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"];

/// Images of a command line.
#[derive(Args, Debug)]
pub(crate) struct ImageArgs {
    /// Image: a file, a folder or a URL; repeatable
    ///
    /// A folder stands for the image files in it and in its subfolders, sorted by name. The server
    /// fetches http, https and data URLs.
    #[arg(long = "image", value_name = "FILE|FOLDER|URL", value_hint = ValueHint::AnyPath)]
    images: Vec<String>,

    /// Images, as for --image
    #[arg(value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    more: Vec<String>,
}

/// The images of a command line.
#[derive(Debug, Default)]
pub(crate) struct ExpandedImages {
    /// Files and URLs.
    pub(crate) images: Vec<String>,
    /// Entries of folders that cannot be read, as the fields of failed records.
    pub(crate) unreadable: Vec<Fields>,
}

impl ImageArgs {
    /// Returns the files and URLs, those of `--image` first. Folders are replaced by their files.
    ///
    /// # Errors
    /// A file or folder that cannot be read, or a folder without images.
    pub(crate) fn expand(&self) -> anyhow::Result<ExpandedImages> {
        let mut expanded = ExpandedImages::default();
        for image in self.images.iter().chain(&self.more) {
            if is_url(image) {
                expanded.images.push(image.clone());
                continue;
            }
            let metadata = std::fs::metadata(image);
            if metadata.with_context(|| format!("cannot read image {image}"))?.is_dir() {
                expanded.add_folder(image)?;
            } else {
                expanded.images.push(image.clone());
            }
        }
        Ok(expanded)
    }

    /// Returns the folders among the images.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let images = self.images.iter().chain(&self.more).filter(|image| !is_url(image));
        images.map(PathBuf::from).filter(|path| path.is_dir()).collect()
    }
}

impl ExpandedImages {
    /// Adds the image files in `folder`. An entry that cannot be read does not end the walk.
    fn add_folder(&mut self, folder: &str) -> anyhow::Result<()> {
        let before = self.images.len() + self.unreadable.len();
        for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
            match entry {
                Ok(entry) if !entry.file_type().is_dir() && is_image(entry.path()) => {
                    match entry.path().to_str() {
                        Some(path) => self.images.push(path.to_owned()),
                        None => self.add_unreadable(entry.path(), "the file name is not valid UTF-8"),
                    }
                }
                Ok(_) => {}
                Err(error) => {
                    let path = error.path().unwrap_or(Path::new(folder));
                    let is_missing =
                        error.io_error().is_some_and(|cause| cause.kind() == io::ErrorKind::NotFound);
                    // A link to a missing file is of no interest if it is not named as an image.
                    if !is_missing || is_image(path) {
                        self.add_unreadable(path, &cause(&error));
                    }
                }
            }
        }
        let found = self.images.len() + self.unreadable.len() - before;
        anyhow::ensure!(found > 0, "no image in folder {folder}: expected {}", EXTENSIONS.join(", "));
        Ok(())
    }

    fn add_unreadable(&mut self, path: &Path, cause: &str) {
        // The debug form shows bytes that are not UTF-8.
        let mut fields = error_fields("IMAGE_UNREADABLE", &format!("cannot read {path:?}: {cause}"));
        fields.insert("image".to_owned(), path.to_string_lossy().into());
        self.unreadable.push(fields);
    }
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().map(|text| text.to_string_lossy().to_ascii_lowercase());
    extension.is_some_and(|text| EXTENSIONS.contains(&&*text))
}

/// Returns the cause of an error without the path.
fn cause(error: &walkdir::Error) -> String {
    match (error.loop_ancestor(), error.io_error()) {
        (Some(ancestor), _) => format!("the link leads back to {ancestor:?}"),
        (None, Some(cause)) => cause.to_string(),
        (None, None) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, os::unix::net::UnixListener};

    use super::*;

    fn expand(images: &[&str]) -> anyhow::Result<ExpandedImages> {
        let more = images.iter().map(|image| (*image).to_owned()).collect();
        ImageArgs { images: Vec::new(), more }.expand()
    }

    #[test]
    fn folder_expands_to_its_images_sorted_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.PNG", "a.jpg", "notes.txt", "b/d.webp"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        // Neither a file nor a folder. The loader of images reports that.
        let _socket = UnixListener::bind(folder.path().join("e.png")).unwrap();
        let root = folder.path().to_str().unwrap();
        let file = format!("{root}/notes.txt");
        let ExpandedImages { images, unreadable } = expand(&["data:,", root, &file]).unwrap();
        assert!(unreadable.is_empty());
        let expected =
            ["a.jpg", "b/d.webp", "c.PNG", "e.png", "notes.txt"].map(|name| format!("{root}/{name}"));
        assert_eq!(images[0], "data:,");
        assert_eq!(images[1..], expected);
    }

    #[test]
    fn missing_file_and_folder_without_images_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        assert!(expand(&["/no/such.png"]).unwrap_err().to_string().contains("/no/such.png"));
        assert!(expand(&[root]).unwrap_err().to_string().contains("no image in folder"));
    }

    #[test]
    fn walk_goes_on_past_entries_that_cannot_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("z.png"), b"").unwrap();
        for (target, link) in [("nowhere", "gone.png"), ("nowhere", "gone.txt"), (".", "loop")] {
            std::os::unix::fs::symlink(target, folder.path().join(link)).unwrap();
        }
        std::fs::write(folder.path().join(OsStr::from_bytes(b"\xff.png")), b"").unwrap();
        let ExpandedImages { images, unreadable } = expand(&[root]).unwrap();
        assert_eq!(images, [format!("{root}/z.png")]);
        let messages: Vec<&str> =
            unreadable.iter().map(|fields| fields["error"]["message"].as_str().unwrap()).collect();
        let expected = [
            format!("cannot read \"{root}/gone.png\": No such file or directory (os error 2)"),
            format!("cannot read \"{root}/loop\": the link leads back to \"{root}\""),
            format!("cannot read \"{root}/\\xFF.png\": the file name is not valid UTF-8"),
        ];
        assert_eq!(messages, expected);
        assert_eq!(unreadable[0]["image"], format!("{root}/gone.png"));
    }
}
