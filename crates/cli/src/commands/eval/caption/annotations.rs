//! Images and captions in the format of COCO.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
};

use anyhow::Context as _;
use bulk::Fields;
use caption_metrics::ScoredImage;
use serde::Deserialize;
use serde_json::json;

use crate::commands::eval::{
    caption::results::CaptionResult, image_pattern::ImagePattern, json_file::read_json,
};

/// The images of a file, and the captions of people.
#[derive(Debug)]
pub(crate) struct CaptionData {
    /// The number and the file of each image.
    images: Vec<(u64, String)>,
    /// Captions by the number of their image.
    captions: HashMap<u64, Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct CocoFile {
    images: Vec<CocoImage>,
    #[serde(default)]
    annotations: Vec<CocoAnnotation>,
}

#[derive(Debug, Deserialize)]
struct CocoImage {
    id: u64,
    file_name: Option<String>,
}

#[derive(Debug, Deserialize)]
struct CocoAnnotation {
    image_id: u64,
    caption: String,
}

impl CaptionData {
    /// Reads a file. `pattern` replaces the file names in it.
    pub(crate) fn read(path: &Path, pattern: Option<&ImagePattern>) -> anyhow::Result<Self> {
        Self::new(read_json(path)?, pattern).with_context(|| format!("invalid content of {}", path.display()))
    }

    fn new(file: CocoFile, pattern: Option<&ImagePattern>) -> anyhow::Result<Self> {
        anyhow::ensure!(!file.images.is_empty(), "images is empty");
        let mut ids = HashSet::new();
        let mut images = Vec::with_capacity(file.images.len());
        for (at, CocoImage { id, file_name }) in file.images.into_iter().enumerate() {
            anyhow::ensure!(ids.insert(id), "images[{at}].id is {id}: another image has this id");
            let name = pattern.map(|pattern| pattern.file_name(id)).or(file_name).with_context(|| {
                format!("images[{at}].file_name is missing: set it or use --image-pattern")
            })?;
            images.push((id, name));
        }
        let mut captions: HashMap<u64, Vec<String>> = HashMap::new();
        for (at, CocoAnnotation { image_id, caption }) in file.annotations.into_iter().enumerate() {
            anyhow::ensure!(
                ids.contains(&image_id),
                "annotations[{at}].image_id is {image_id}: no image has this id"
            );
            captions.entry(image_id).or_default().push(caption);
        }
        Ok(Self { images, captions })
    }

    pub(crate) fn len(&self) -> usize {
        self.images.len()
    }

    /// Returns whether an image has a caption.
    pub(crate) fn has_captions(&self) -> bool {
        !self.captions.is_empty()
    }

    /// Returns a record for each image.
    pub(crate) fn records<'a>(&'a self, prompt: Option<&'a str>) -> impl Iterator<Item = Fields> + Send + 'a {
        self.images.iter().map(move |(id, name)| {
            let mut fields = Fields::new();
            fields.insert("id".to_owned(), json!(id));
            fields.insert("image".to_owned(), json!(name));
            if let Some(prompt) = prompt {
                fields.insert("prompt".to_owned(), json!(prompt));
            }
            fields
        })
    }

    /// Returns the result and the captions of each image that has both, in the order of the file.
    pub(crate) fn pair(&self, results: &[CaptionResult]) -> anyhow::Result<Vec<ScoredImage>> {
        let mut by_image = HashMap::new();
        for (at, result) in results.iter().enumerate() {
            let id = result.image_id;
            anyhow::ensure!(
                by_image.insert(id, &result.caption).is_none(),
                "[{at}].image_id is {id}: another result has this id"
            );
        }
        let pairs: Vec<ScoredImage> = self
            .images
            .iter()
            .filter_map(|(id, _)| {
                let (caption, references) = (by_image.get(id)?, self.captions.get(id)?);
                Some(ScoredImage { caption: (*caption).clone(), references: references.clone() })
            })
            .collect();
        anyhow::ensure!(!pairs.is_empty(), "no image has a result and an annotation");
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn data(value: Value, pattern: Option<&str>) -> anyhow::Result<CaptionData> {
        let pattern = pattern.map(|pattern| pattern.parse().unwrap());
        CaptionData::new(serde_json::from_value(value)?, pattern.as_ref())
    }

    #[test]
    fn records_have_the_name_of_the_file_or_the_pattern() {
        let file = json!({"images": [{"id": 7, "file_name": "a.png"}], "annotations": []});
        let records = |pattern, prompt: Option<&str>| -> Vec<Fields> {
            data(file.clone(), pattern).unwrap().records(prompt).collect()
        };
        assert_eq!(Value::Object(records(None, None).remove(0)), json!({"id": 7, "image": "a.png"}));
        let record = records(Some("{image_id:03}.jpg"), Some("photo")).remove(0);
        assert_eq!(Value::Object(record), json!({"id": 7, "image": "007.jpg", "prompt": "photo"}));
    }

    #[test]
    fn invalid_file_is_an_error_with_the_field() {
        let image = json!({"id": 7, "file_name": "a.png"});
        for (value, expected) in [
            (json!({"images": []}), "images is empty"),
            (json!({"images": [image, image]}), "images[1].id is 7"),
            (json!({"images": [{"id": 7}]}), "images[0].file_name is missing"),
            (
                json!({"images": [image], "annotations": [{"image_id": 8, "caption": "a"}]}),
                "annotations[0].image_id is 8",
            ),
        ] {
            let error = data(value, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn pairs_are_the_images_with_result_and_captions() {
        let images: Vec<Value> =
            (1..4).map(|id| json!({"id": id, "file_name": format!("{id}.png")})).collect();
        let caption = |id: u64, text: &str| json!({"image_id": id, "caption": text});
        let annotations = [caption(2, "b"), caption(1, "a"), caption(2, "c")];
        let data = data(json!({"images": images, "annotations": annotations}), None).unwrap();
        let result = |image_id, text: &str| CaptionResult { image_id, caption: text.to_owned() };
        let pairs = data.pair(&[result(3, "z"), result(2, "y")]).unwrap();
        let expected = ScoredImage { caption: "y".to_owned(), references: vec!["b".into(), "c".into()] };
        assert_eq!(pairs, [expected]);
        let error = data.pair(&[result(2, "y"), result(2, "x")]).unwrap_err().to_string();
        assert!(error.starts_with("[1].image_id is 2"), "{error}");
        assert!(data.pair(&[result(3, "z")]).is_err());
    }
}
