//! An image by its name: a file of this machine, or a URL that the server fetches.

use std::path::{Path, PathBuf};

use bulk::Fields;
use proto::{Image, image::Source};

use crate::records::{record_text, response_fields};

/// Files above this are not sent: no server takes a message that long.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Where the names of files begin.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pictures {
    /// The folder that relative paths are relative to; empty for the current one.
    pub(crate) folder: PathBuf,
}

impl Pictures {
    /// The image of a record, or why there is none.
    pub(crate) async fn of(&self, record: &Fields) -> Result<Image, Fields> {
        let Some(image) = record_text::text(record, "image")? else {
            return Err(response_fields::error("LINE_INVALID", "image is missing"));
        };
        let source = if is_url(image) {
            Source::Url(image.to_owned())
        } else {
            let path = self.folder.join(image);
            let read = read(&path).await;
            Source::Data(read.map_err(|cause| {
                response_fields::error(
                    "IMAGE_UNREADABLE",
                    &format!("cannot read {}: {cause}", path.display()),
                )
            })?)
        };
        Ok(Image { source: Some(source) })
    }
}

async fn read(path: &Path) -> Result<bytes::Bytes, String> {
    let metadata = tokio::fs::metadata(path).await.map_err(|error| error.to_string())?;
    if !metadata.is_file() {
        return Err("it is no file".to_owned());
    }
    if metadata.len() > MAX_FILE_BYTES {
        return Err(format!("it has {} bytes: must be at most {MAX_FILE_BYTES}", metadata.len()));
    }
    tokio::fs::read(path).await.map(Into::into).map_err(|error| error.to_string())
}

/// Whether what was given for an image is a URL.
pub(crate) fn is_url(image: &str) -> bool {
    let Some((scheme, _)) = image.split_once(':') else { return false };
    let scheme = scheme.to_ascii_lowercase();
    let web = matches!(scheme.as_str(), "http" | "https") && image.contains("://");
    web || scheme == "data"
}

/// What an image is called in what is printed: as it was given, a data URL without its data.
pub(crate) fn name(image: &str) -> String {
    match image.split_once(',') {
        Some((head, _)) if is_url(image) && !head.contains("://") => format!("{head},..."),
        _ => image.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn record(value: Value) -> Fields {
        value.as_object().unwrap().clone()
    }

    #[test]
    fn urls_are_told_from_files_by_their_scheme() {
        for given in
            ["http://example.org/a.png", "HTTPS://example.org/a,b.png", "data:image/png;base64,iVBORw=="]
        {
            assert!(is_url(given), "{given}");
        }
        for given in ["a.png", "/pictures/http/a.png", "http:a.png", "ftp://example.org/a.png", "c:a.png"] {
            assert!(!is_url(given), "{given}");
        }
    }

    #[test]
    fn a_data_url_is_printed_without_its_data() {
        assert_eq!(name("data:image/png;base64,iVBORw=="), "data:image/png;base64,...");
        assert_eq!(name("https://example.org/a,b.png"), "https://example.org/a,b.png");
        assert_eq!(name("a,b.png"), "a,b.png");
    }

    #[tokio::test]
    async fn a_path_is_relative_to_the_folder_of_the_input() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), b"bytes").unwrap();
        let pictures = Pictures { folder: folder.path().to_owned() };
        let image = pictures.of(&record(json!({"image": "a.png"}))).await.unwrap();
        assert_eq!(image.source, Some(Source::Data(b"bytes".as_slice().into())));
        for (given, wanted) in [
            (json!({}), "image is missing"),
            (json!({"image": 3}), "image is 3: must be a text"),
            (json!({"image": "b.png"}), "cannot read"),
            (json!({"image": "."}), "it is no file"),
        ] {
            let error = pictures.of(&record(given)).await.unwrap_err();
            assert!(error["error"]["message"].as_str().unwrap().contains(wanted), "{error:?}");
        }
    }
}
