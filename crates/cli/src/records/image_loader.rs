//! Images by name: files of this machine, and URLs that the server fetches.

use bulk::{Fields, Location, read_stored};
use proto::{Image, image::Source};

use crate::records::{record_text::text, response_fields::error_fields};

/// Maximum size of an image file. No server accepts larger messages.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Loads the images of records.
#[derive(Clone, Debug, Default)]
pub(crate) struct ImageLoader {
    /// The base of relative paths, or `None` for the current directory.
    pub(crate) folder: Option<Location>,
}

impl ImageLoader {
    /// Returns the `image` of a record: the content of the file, or the URL.
    ///
    /// # Errors
    /// The fields of a failed record.
    pub(crate) async fn load(&self, record: &Fields) -> Result<Image, Fields> {
        let Some(image) = text(record, "image")? else {
            return Err(error_fields("LINE_INVALID", "image is missing"));
        };
        if is_url(image) {
            return Ok(Image { source: Some(Source::Url(image.to_owned())) });
        }
        let image = Location::from(image.to_owned());
        let file = match (&self.folder, &image) {
            (Some(folder), Location::Path(path)) => folder.join(path.as_os_str()),
            _ => image,
        };
        let bytes = read(&file)
            .await
            .map_err(|cause| error_fields("IMAGE_UNREADABLE", &format!("cannot read {file}: {cause}")))?;
        Ok(Image { source: Some(Source::Data(bytes)) })
    }
}

async fn read(file: &Location) -> Result<bytes::Bytes, String> {
    let file = file.clone();
    let read = tokio::task::spawn_blocking(move || match &file {
        Location::Path(path) => regular_file::read(path, MAX_FILE_BYTES).map_err(|error| error.to_string()),
        Location::Url(_) => read_stored(&file, MAX_FILE_BYTES).map_err(|error| error.to_string()),
    });
    Ok(read.await.map_err(|error| error.to_string())??.into())
}

/// Returns whether `image` is an http, https or data URL.
pub(crate) fn is_url(image: &str) -> bool {
    let Some((scheme, _)) = image.split_once(':') else { return false };
    let scheme = scheme.to_ascii_lowercase();
    let web = matches!(scheme.as_str(), "http" | "https") && image.contains("://");
    web || scheme == "data"
}

/// Returns the name of an image for output: a data URL without its data, others unchanged.
pub(crate) fn display_name(image: &str) -> String {
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
    fn is_url_depends_on_the_scheme() {
        for url in
            ["http://example.org/a.png", "HTTPS://example.org/a,b.png", "data:image/png;base64,iVBORw=="]
        {
            assert!(is_url(url), "{url}");
        }
        for file in ["a.png", "/images/http/a.png", "http:a.png", "ftp://example.org/a.png", "c:a.png"] {
            assert!(!is_url(file), "{file}");
        }
    }

    #[test]
    fn display_name_of_data_url_has_no_data() {
        assert_eq!(display_name("data:image/png;base64,iVBORw=="), "data:image/png;base64,...");
        assert_eq!(display_name("https://example.org/a,b.png"), "https://example.org/a,b.png");
        assert_eq!(display_name("a,b.png"), "a,b.png");
    }

    #[tokio::test]
    async fn load_reads_paths_relative_to_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.png"), b"bytes").unwrap();
        let images = ImageLoader { folder: Some(folder.path().into()) };
        let image = images.load(&record(json!({"image": "a.png"}))).await.unwrap();
        assert_eq!(image.source, Some(Source::Data(b"bytes".as_slice().into())));
        for (fields, message) in [
            (json!({}), "image is missing"),
            (json!({"image": 3}), "image is 3: must be a text"),
            (json!({"image": "b.png"}), "cannot read"),
            (json!({"image": "."}), "not a regular file"),
        ] {
            let error = images.load(&record(fields)).await.unwrap_err();
            assert!(error["error"]["message"].as_str().unwrap().contains(message), "{error:?}");
        }
    }
}
