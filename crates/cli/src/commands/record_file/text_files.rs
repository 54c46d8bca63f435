//! Captions as text files: `cat.txt` for `cat.jpg`, as programs for fine-tuning read them.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use bulk::{ExistingFile, Fields, Sink};
use serde_json::Value;

use crate::{output::ResultPrinter, records::is_url};

/// The extension of text files.
const EXTENSION: &str = "txt";

/// A folder of text files.
#[derive(Debug)]
pub(crate) struct TextFiles<'a> {
    /// The folder.
    pub(crate) folder: &'a Path,
    /// The folders of images on the command line. Their subfolders are also those of the text
    /// files.
    pub(crate) image_folders: Vec<PathBuf>,
    /// The field whose text is written.
    pub(crate) field: &'static str,
    /// Prints errors.
    pub(crate) printer: &'a ResultPrinter,
}

impl TextFiles<'_> {
    /// Returns the images to process: with [`ExistingFile::Resume`], those without a text file.
    ///
    /// # Errors
    /// An image by URL, two images with the same text file, or a text file that exists if
    /// [`ExistingFile::Refuse`] applies.
    pub(crate) fn select(&self, images: Vec<String>, existing: ExistingFile) -> anyhow::Result<Vec<String>> {
        let mut paths = HashSet::new();
        let mut selected = Vec::new();
        for image in images {
            anyhow::ensure!(!is_url(&image), "{image} has no file name: use --output FILE for images by URL");
            let path = self.path(&image);
            let exists = path.exists();
            anyhow::ensure!(
                !exists || existing != ExistingFile::Refuse,
                "{} already exists: use --resume to process the other images or --force to replace it",
                path.display()
            );
            if !exists || existing == ExistingFile::Replace {
                selected.push(image);
            }
            if let Some(path) = paths.replace(path) {
                anyhow::bail!("two images have the text file {}: rename one of them", path.display());
            }
        }
        Ok(selected)
    }

    /// Returns the text file of an image.
    fn path(&self, image: &str) -> PathBuf {
        let image = Path::new(image);
        let relative = self.image_folders.iter().find_map(|folder| image.strip_prefix(folder).ok());
        let relative = relative.or_else(|| image.file_name().map(Path::new)).unwrap_or(image);
        self.folder.join(relative).with_extension(EXTENSION)
    }
}

impl Sink for TextFiles<'_> {
    async fn write(&mut self, fields: Fields) -> io::Result<()> {
        let text = |field: &str| fields.get(field).and_then(Value::as_str);
        let (Some(image), Some(text)) = (text("image"), text(self.field)) else {
            return self.printer.print_result(&fields);
        };
        let path = self.path(image);
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        replace_file(&path, &format!("{text}\n")).map_err(named)
    }
}

/// Writes a file in one step, so that it is complete after any interruption.
pub(crate) fn replace_file(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = folder.join(format!(".{name}.partial"));
    let write = || {
        let mut file = fs::File::create(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)
    };
    write().inspect_err(|_| {
        // The error is more important than a file that stays.
        let _ = fs::remove_file(&partial);
    })
}

/// Creates the folder of `--output`, if it names one: it exists as a folder or ends in a slash.
pub(crate) fn output_folder(output: &Path) -> anyhow::Result<bool> {
    let ends_in_slash = output.as_os_str().as_encoded_bytes().ends_with(b"/");
    if ends_in_slash {
        fs::create_dir_all(output)
            .with_context(|| format!("cannot create the output folder {}", output.display()))?;
    }
    Ok(output.is_dir())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn select(folder: &Path, images: &[&str], existing: ExistingFile) -> anyhow::Result<Vec<String>> {
        let printer = ResultPrinter::new(false, false);
        let image_folders = vec![PathBuf::from("photos")];
        let files = TextFiles { folder, image_folders, field: "caption", printer: &printer };
        files.select(images.iter().map(|image| (*image).to_owned()).collect(), existing)
    }

    #[tokio::test]
    async fn text_file_has_the_place_and_name_of_its_image() {
        let folder = tempfile::tempdir().unwrap();
        let printer = ResultPrinter::new(false, false);
        let image_folders = vec![PathBuf::from("photos")];
        let mut files =
            TextFiles { folder: folder.path(), image_folders, field: "caption", printer: &printer };
        for image in ["photos/a/cat.one.jpg", "elsewhere/dog.png"] {
            let fields = serde_json::json!({ "image": image, "caption": "an animal" });
            files.write(fields.as_object().cloned().unwrap()).await.unwrap();
        }
        for name in ["a/cat.one.txt", "dog.txt"] {
            assert_eq!(fs::read_to_string(folder.path().join(name)).unwrap(), "an animal\n");
        }
    }

    #[test]
    fn existing_text_files_are_refused_skipped_or_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.txt"), "old").unwrap();
        let images = ["photos/a.jpg", "photos/b.jpg"];
        let error = select(folder.path(), &images, ExistingFile::Refuse).unwrap_err().to_string();
        assert!(error.contains("a.txt already exists: use --resume"), "{error}");
        assert_eq!(select(folder.path(), &images, ExistingFile::Resume).unwrap(), ["photos/b.jpg"]);
        assert_eq!(select(folder.path(), &images, ExistingFile::Replace).unwrap(), images);
    }

    #[test]
    fn images_that_share_a_text_file_or_have_no_name_are_errors() {
        let folder = tempfile::tempdir().unwrap();
        let error =
            |images: &[&str]| select(folder.path(), images, ExistingFile::Resume).unwrap_err().to_string();
        assert!(error(&["photos/a.jpg", "photos/a.png"]).starts_with("two images have the text file "));
        assert!(error(&["https://example.org/a.png"]).contains("has no file name"));
    }
}
