//! The questions of a VQA data set.

use std::path::Path;

use bulk::Fields;
use serde::Deserialize;
use serde_json::json;

use crate::commands::eval::{image_pattern::ImagePattern, json_file::read_json};

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

#[cfg(test)]
mod tests {
    use super::*;

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
