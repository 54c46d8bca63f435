//! The images of a command line: files, folders and URLs.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::{Args, ValueHint};
use walkdir::WalkDir;

use crate::records::is_url;

/// Endings of the files of a folder that are taken.
const ENDINGS: [&str; 8] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff"];

/// Images of a command line.
#[derive(Args, Debug)]
pub(crate) struct ImageOptions {
    /// An image file, a folder, whose image files are taken with those of the folders in it, sorted by name, or an http,
    /// https or data URL that the server is to fetch; may be given several times
    #[arg(long = "image", value_name = "FILE|FOLDER|URL", value_hint = ValueHint::AnyPath)]
    images: Vec<String>,

    /// The same
    #[arg(value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    more: Vec<String>,
}

impl ImageOptions {
    /// All of them, in the order in which they were given.
    ///
    /// # Errors
    /// A file or folder that is not there.
    pub(crate) fn expanded(&self) -> anyhow::Result<Vec<String>> {
        let mut images = Vec::new();
        for given in self.images.iter().chain(&self.more) {
            if is_url(given) {
                images.push(given.clone());
                continue;
            }
            let metadata = std::fs::metadata(given);
            if metadata.with_context(|| format!("cannot read image {given}"))?.is_dir() {
                images.append(&mut inside(given)?);
            } else {
                images.push(given.clone());
            }
        }
        Ok(images)
    }
}

fn inside(folder: &str) -> anyhow::Result<Vec<String>> {
    let mut images = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot read folder {folder}"))?;
        let path: PathBuf = entry.path().to_owned();
        let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
        if entry.file_type().is_file() && ending.is_some_and(|ending| ENDINGS.contains(&&*ending)) {
            let path = path.into_os_string().into_string();
            images.push(path.ok().with_context(|| format!("a name in folder {folder} is no UTF-8"))?);
        }
    }
    anyhow::ensure!(!images.is_empty(), "folder {folder} holds no images ({})", ENDINGS.join(", "));
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(given: &[&str]) -> anyhow::Result<Vec<String>> {
        let more = given.iter().map(|given| (*given).to_owned()).collect();
        ImageOptions { images: Vec::new(), more }.expanded()
    }

    #[test]
    fn a_folder_stands_for_its_images_and_those_of_folders_in_it_by_name() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["c.PNG", "a.jpg", "notes.txt", "b/d.webp"] {
            std::fs::write(folder.path().join(name), b"").unwrap();
        }
        let root = folder.path().to_str().unwrap();
        let file = format!("{root}/notes.txt");
        let images = expanded(&["data:,", root, &file]).unwrap();
        let wanted = ["a.jpg", "b/d.webp", "c.PNG", "notes.txt"].map(|name| format!("{root}/{name}"));
        assert_eq!(images[0], "data:,");
        assert_eq!(images[1..], wanted);
    }

    #[test]
    fn what_is_not_there_and_a_folder_without_images_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        assert!(expanded(&["/no/such.png"]).unwrap_err().to_string().contains("/no/such.png"));
        assert!(expanded(&[root]).unwrap_err().to_string().contains("holds no images"));
    }
}
