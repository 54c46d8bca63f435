//! Images and their texts, in two formats.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufReader, Read as _},
    path::Path,
};

use anyhow::Context as _;
use serde::Deserialize;

use crate::commands::eval::json_file::read_json;

/// Number of candidates in the settings of BLIP for Flickr30k.
const DEFAULT_K: usize = 128;

/// Number of candidates in the settings of BLIP for COCO.
const COCO_K: usize = 256;

/// Maximum number of words of a text in BLIP's evaluation.
const MAX_PAPER_WORDS: usize = 30;

/// Characters that BLIP replaces by spaces.
const PAPER_PUNCTUATION: [char; 11] = ['.', '!', '"', '(', ')', '*', '#', ':', ';', '~', '\n'];

/// Images and the texts that describe them.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct RetrievalData {
    is_coco: bool,
    images: Vec<String>,
    texts: Vec<String>,
    /// The image of each text.
    image_of_text: Vec<usize>,
}

#[derive(Debug, Deserialize)]
struct KarpathyFile {
    #[serde(default)]
    dataset: String,
    images: Vec<KarpathyImage>,
}

#[derive(Debug, Deserialize)]
struct KarpathyImage {
    #[serde(default)]
    filepath: String,
    filename: String,
    split: String,
    sentences: Vec<Sentence>,
}

#[derive(Debug, Deserialize)]
struct Sentence {
    raw: String,
}

#[derive(Debug, Deserialize)]
struct CaptionedImage {
    image: String,
    caption: Vec<String>,
}

impl RetrievalData {
    /// Reads a file. `split` selects images of Karpathy's format.
    pub(crate) fn read(path: &Path, split: Option<&str>) -> anyhow::Result<Self> {
        let data = match (is_list(path)?, split) {
            (true, None) => Self::of_list(read_json(path)?),
            (true, Some(_)) => Err(anyhow::anyhow!("a list has no splits: omit --split")),
            (false, split) => {
                Self::of_karpathy(read_json(path)?, split.unwrap_or("test"), &path.display().to_string())
            }
        };
        data.with_context(|| format!("invalid content of {}", path.display()))
    }

    fn of_karpathy(file: KarpathyFile, split: &str, name: &str) -> anyhow::Result<Self> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        for image in &file.images {
            *counts.entry(&image.split).or_default() += 1;
        }
        if !counts.contains_key(split) {
            let known: Vec<String> =
                counts.iter().map(|(split, count)| format!("{split} ({count} images)")).collect();
            anyhow::bail!("no image has the split {split:?}: {name} has {}", known.join(", "));
        }
        let mut data = Self { is_coco: file.dataset == "coco", ..Self::default() };
        for (at, image) in file.images.into_iter().enumerate().filter(|(_, image)| image.split == split) {
            let folder = if image.filepath.is_empty() { String::new() } else { image.filepath + "/" };
            let texts = image.sentences.into_iter().map(|sentence| sentence.raw).collect();
            data.add(format!("{folder}{}", image.filename), texts)
                .with_context(|| format!("images[{at}].sentences"))?;
        }
        Ok(data)
    }

    fn of_list(images: Vec<CaptionedImage>) -> anyhow::Result<Self> {
        anyhow::ensure!(!images.is_empty(), "the list is empty");
        let mut data = Self::default();
        for (at, CaptionedImage { image, caption }) in images.into_iter().enumerate() {
            data.add(image, caption).with_context(|| format!("[{at}].caption"))?;
        }
        Ok(data)
    }

    fn add(&mut self, image: String, texts: Vec<String>) -> anyhow::Result<()> {
        anyhow::ensure!(!texts.is_empty(), "no text of the image {image:?}");
        if let Some(at) = texts.iter().position(|text| text.trim().is_empty()) {
            anyhow::bail!("text {at} of the image {image:?} is empty");
        }
        self.image_of_text.extend(texts.iter().map(|_| self.images.len()));
        self.texts.extend(texts);
        self.images.push(image);
        Ok(())
    }

    /// Brings the texts into the form of BLIP's evaluation.
    pub(crate) fn normalize_texts(&mut self) {
        for text in &mut self.texts {
            let normal = normalize(text);
            // A text of punctuation only stays as it is, because a model needs a text.
            if !normal.is_empty() {
                *text = normal;
            }
        }
    }

    /// Returns an error if an image is not a file.
    pub(crate) fn check_images(&self, folder: &Path, data: &Path) -> anyhow::Result<()> {
        for (at, image) in self.images.iter().enumerate() {
            let path = folder.join(image);
            anyhow::ensure!(
                path.is_file(),
                "cannot read the image {}: no such file, named by image {at} of {}",
                path.display(),
                data.display()
            );
        }
        Ok(())
    }

    pub(crate) fn default_k(&self) -> usize {
        if self.is_coco { COCO_K } else { DEFAULT_K }
    }

    pub(crate) fn images(&self) -> &[String] {
        &self.images
    }

    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// Returns the image of each text.
    pub(crate) fn image_of_text(&self) -> &[usize] {
        &self.image_of_text
    }
}

/// Returns whether a JSON file has a list and no object.
fn is_list(path: &Path) -> anyhow::Result<bool> {
    let read = || -> std::io::Result<bool> {
        let mut bytes = BufReader::new(File::open(path)?).bytes();
        loop {
            match bytes.next().transpose()? {
                Some(byte) if byte.is_ascii_whitespace() => {}
                first => return Ok(first == Some(b'[')),
            }
        }
    };
    read().with_context(|| format!("cannot read {}", path.display()))
}

fn normalize(text: &str) -> String {
    let plain = text.to_lowercase().replace(PAPER_PUNCTUATION.as_slice(), " ");
    plain.split_whitespace().take(MAX_PAPER_WORDS).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value, split: Option<&str>) -> anyhow::Result<RetrievalData> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data.json");
        std::fs::write(&path, value.to_string()).unwrap();
        RetrievalData::read(&path, split)
    }

    fn image(name: &str, split: &str, texts: &[&str]) -> Value {
        let sentences: Vec<Value> = texts.iter().map(|text| json!({"raw": text, "tokens": []})).collect();
        json!({"filename": name, "split": split, "sentences": sentences, "imgid": 3})
    }

    #[test]
    fn both_formats_give_the_same_pairs() {
        let images = [image("a.jpg", "test", &["x", "y"]), image("b.jpg", "train", &["z"])];
        let karpathy = read(&json!({"images": images, "dataset": "flickr30k"}), None).unwrap();
        let list = read(&json!([{"image": "a.jpg", "caption": ["x", "y"]}]), None).unwrap();
        assert_eq!(karpathy, list);
        assert_eq!((karpathy.image_of_text(), karpathy.default_k()), ([0, 0].as_slice(), 128));
        let mut coco = image("b.jpg", "val", &["z"]);
        coco["filepath"] = json!("val2014");
        let coco = read(&json!({"images": [coco], "dataset": "coco"}), Some("val")).unwrap();
        assert_eq!((coco.images(), coco.default_k()), (["val2014/b.jpg".to_owned()].as_slice(), 256));
    }

    #[test]
    fn invalid_file_is_an_error_with_the_field() {
        let images = json!({"images": [image("a.jpg", "val", &["x"]), image("b.jpg", "val", &["x"])]});
        let without_texts = json!({"images": [image("a.jpg", "test", &[])]});
        for (value, split, expected) in [
            (images.clone(), None, "no image has the split \"test\""),
            (images, Some("tset"), "val (2 images)"),
            (without_texts, None, "images[0].sentences: no text of the image \"a.jpg\""),
            (json!({"images": [{"filename": "a.jpg"}]}), None, "images[0]: missing field `split`"),
            (json!([]), None, "the list is empty"),
            (json!([{"image": "a.jpg", "caption": ["x"]}]), Some("test"), "a list has no splits"),
            (json!([{"image": "a.jpg", "caption": ["x", " "]}]), None, "[0].caption: text 1"),
            (json!([{"image": "a.jpg"}]), None, "[0]: missing field `caption`"),
            (json!({"photos": []}), None, "missing field `images`"),
        ] {
            let error = format!("{:#}", read(&value, split).unwrap_err());
            assert!(error.contains("data.json") && error.contains(expected), "{error}");
        }
    }

    #[test]
    fn texts_of_the_paper_have_no_capitals_and_30_words() {
        assert_eq!(normalize(" A \"big\" dog: two (2) cats, too. "), "a big dog two 2 cats, too");
        assert_eq!(normalize(&"word ".repeat(40)).split(' ').count(), 30);
    }
}
