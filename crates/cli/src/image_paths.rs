//! The images of a command line: files, folders and URLs.

use anyhow::Context as _;
use clap::{Args, ValueHint};
use walkdir::WalkDir;

use crate::records::is_url;

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

impl ImageArgs {
    /// Returns the files and URLs, those of `--image` first. Folders are replaced by their files.
    ///
    /// # Errors
    /// A file or folder that cannot be read, or a folder without images.
    pub(crate) fn expand(&self) -> anyhow::Result<Vec<String>> {
        let mut images = Vec::new();
        for image in self.images.iter().chain(&self.more) {
            if is_url(image) {
                images.push(image.clone());
                continue;
            }
            let metadata = std::fs::metadata(image);
            if metadata.with_context(|| format!("cannot read image {image}"))?.is_dir() {
                images.append(&mut images_in(image)?);
            } else {
                images.push(image.clone());
            }
        }
        Ok(images)
    }
}

fn images_in(folder: &str) -> anyhow::Result<Vec<String>> {
    let mut images = Vec::new();
    for entry in WalkDir::new(folder).follow_links(true).sort_by_file_name() {
        let entry = entry.with_context(|| format!("cannot read folder {folder}"))?;
        let extension = entry.path().extension().map(|text| text.to_string_lossy().to_ascii_lowercase());
        if entry.file_type().is_file() && extension.is_some_and(|text| EXTENSIONS.contains(&&*text)) {
            let path = entry.into_path().into_os_string().into_string();
            images.push(path.ok().with_context(|| format!("a file name in {folder} is not valid UTF-8"))?);
        }
    }
    anyhow::ensure!(!images.is_empty(), "no image in folder {folder}: expected {}", EXTENSIONS.join(", "));
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(images: &[&str]) -> anyhow::Result<Vec<String>> {
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
        let root = folder.path().to_str().unwrap();
        let file = format!("{root}/notes.txt");
        let images = expand(&["data:,", root, &file]).unwrap();
        let expected = ["a.jpg", "b/d.webp", "c.PNG", "notes.txt"].map(|name| format!("{root}/{name}"));
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
}
