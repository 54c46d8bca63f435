//! The questions of a VQA data set, and the names of its images.

use std::{fs::File, io::BufReader, path::Path, str::FromStr};

use anyhow::Context as _;
use bulk::Fields;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;

/// The questions of a file.
#[derive(Debug, Deserialize)]
pub(crate) struct Questions {
    questions: Vec<Question>,
}

#[derive(Debug, Deserialize)]
struct Question {
    question_id: u64,
    image_id: u64,
    question: String,
}

impl Questions {
    /// Reads a file. Sorts the questions by image, and otherwise preserves their order.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let mut questions: Self = read_json(path)?;
        questions.questions.sort_by_key(|question| question.image_id);
        Ok(questions)
    }

    pub(crate) fn len(&self) -> usize {
        self.questions.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u64> {
        self.questions.iter().map(|question| question.question_id)
    }

    /// Returns a record for each question.
    pub(crate) fn records<'a>(
        &'a self,
        pattern: &'a ImagePattern,
        candidate_list: Option<&'a str>,
    ) -> impl Iterator<Item = Fields> + Send + 'a {
        self.questions.iter().map(move |question| {
            let mut fields = Fields::new();
            fields.insert("id".to_owned(), json!(question.question_id));
            fields.insert("image".to_owned(), json!(pattern.file_name(question.image_id)));
            fields.insert("question".to_owned(), json!(question.question));
            if let Some(list) = candidate_list {
                fields.insert("candidate_list".to_owned(), json!(list));
            }
            fields
        })
    }
}

/// Reads a JSON file.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> anyhow::Result<T> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_reader(BufReader::new(file))
        .with_context(|| format!("invalid content of {}", path.display()))
}

/// The pattern of the names of image files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImagePattern {
    before: String,
    digits: usize,
    after: String,
}

impl ImagePattern {
    fn file_name(&self, image: u64) -> String {
        format!("{}{image:0digits$}{}", self.before, self.after, digits = self.digits)
    }
}

impl FromStr for ImagePattern {
    type Err = String;

    fn from_str(pattern: &str) -> Result<Self, Self::Err> {
        let invalid = || {
            format!("invalid image pattern {pattern:?}: must contain {{image_id}} or {{image_id:0N}} once")
        };
        let (before, rest) = pattern.split_once("{image_id").ok_or_else(invalid)?;
        let (width, after) = rest.split_once('}').ok_or_else(invalid)?;
        let digits = match width.strip_prefix(":0") {
            None if width.is_empty() => 1,
            None => return Err(invalid()),
            Some(digits) => {
                digits.parse().ok().filter(|digits| (1..=20).contains(digits)).ok_or_else(invalid)?
            }
        };
        if after.contains("{image_id") {
            return Err(invalid());
        }
        Ok(Self { before: before.to_owned(), digits, after: after.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_gives_file_names_of_coco() {
        let name = |pattern: &str| pattern.parse::<ImagePattern>().map(|pattern| pattern.file_name(42));
        assert_eq!(name("COCO_val2014_{image_id:012}.jpg").unwrap(), "COCO_val2014_000000000042.jpg");
        assert_eq!(name("{image_id}/image.png").unwrap(), "42/image.png");
        for invalid in ["a.jpg", "{image_id", "{image_id:x}", "{image_id:099}", "{image_id}{image_id}"] {
            assert!(name(invalid).unwrap_err().starts_with("invalid image pattern "), "{invalid}");
        }
    }

    #[test]
    fn questions_are_sorted_by_image() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("questions.json");
        let questions: Vec<_> = [(7, 2), (8, 1), (9, 2)]
            .map(|(id, image)| json!({"question_id": id, "image_id": image, "question": "how many?"}))
            .into();
        std::fs::write(&path, json!({"questions": questions, "info": {}}).to_string()).unwrap();
        let questions = Questions::read(&path).unwrap();
        assert_eq!(questions.ids().collect::<Vec<_>>(), [8, 7, 9]);
        let records: Vec<Fields> =
            questions.records(&"{image_id}.png".parse().unwrap(), Some("vqa")).collect();
        assert_eq!((&records[1]["image"], &records[1]["candidate_list"]), (&json!("2.png"), &json!("vqa")));
    }
}
