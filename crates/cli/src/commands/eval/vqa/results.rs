//! The results file, in the format of the leaderboard, and its accuracy.

use std::{
    collections::{HashMap, HashSet},
    io::Write as _,
    path::Path,
};

use anyhow::Context as _;
use bulk::{Fields, Input};
use futures::StreamExt as _;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use vqa_accuracy::{AccuracyCounters, answer_accuracy};

use crate::commands::eval::{
    json_file::{read_json, write_json},
    vqa::questions::Questions,
};

#[derive(Debug, Deserialize, PartialEq, Serialize)]
struct Answer {
    question_id: u64,
    answer: String,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    annotations: Vec<Annotation>,
}

#[derive(Debug, Deserialize)]
struct Annotation {
    question_id: u64,
    question_type: String,
    answer_type: String,
    answers: Vec<HumanAnswer>,
}

#[derive(Debug, Deserialize)]
struct HumanAnswer {
    answer: String,
}

impl AsRef<str> for HumanAnswer {
    fn as_ref(&self) -> &str {
        &self.answer
    }
}

/// Writes the results file from records with the fields `id` and `answer`.
///
/// An error leaves no partial file. The leaderboard requires an answer to each question, so that
/// the answer to a failed question is empty.
pub(crate) async fn write(input: Input, path: &Path) -> anyhow::Result<()> {
    let mut records = input.records()?;
    let mut answers = Vec::new();
    while let Some(record) = records.next().await {
        answers.push(to_answer(&record?.fields.map_err(anyhow::Error::msg)?)?);
    }
    write_json(path, &answers)
}

fn to_answer(fields: &Fields) -> anyhow::Result<Answer> {
    let question_id = fields.get("id").and_then(Value::as_u64).context("a partial result without id")?;
    let answer = fields.get("answer").and_then(Value::as_str).unwrap_or_default().to_owned();
    Ok(Answer { question_id, answer })
}

/// Prints the accuracy of a results file, in total and by type.
///
/// Questions without annotation do not count.
pub(crate) fn print_accuracy(
    questions: &Questions,
    annotations: &Path,
    results: &Path,
) -> anyhow::Result<()> {
    let answers: Vec<Answer> = read_json(results)?;
    let annotations: Annotations = read_json(annotations)?;
    let counters = count_accuracy(&questions.ids().collect(), &answers, &annotations)?;
    let unannotated = questions.len() - usize::try_from(counters.overall.questions)?;
    let mut out = std::io::stdout();
    write!(out, "{counters}").context("cannot print")?;
    if unannotated > 0 {
        writeln!(out, "{unannotated} questions have no annotation").context("cannot print")?;
    }
    Ok(())
}

fn count_accuracy(
    ids: &HashSet<u64>,
    answers: &[Answer],
    annotations: &Annotations,
) -> anyhow::Result<AccuracyCounters> {
    let answers: HashMap<u64, &str> =
        answers.iter().map(|answer| (answer.question_id, &*answer.answer)).collect();
    let mut counters = AccuracyCounters::default();
    for annotation in
        annotations.annotations.iter().filter(|annotation| ids.contains(&annotation.question_id))
    {
        let id = annotation.question_id;
        let answer = answers.get(&id).with_context(|| format!("no result for question {id}"))?;
        if let Some(accuracy) = answer_accuracy(answer, &annotation.answers) {
            counters.add(accuracy, &annotation.answer_type, &annotation.question_type);
        }
    }
    Ok(counters)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn annotations() -> Annotations {
        let annotation = |id: u64, same: usize| {
            let given: Vec<Value> =
                (0..10).map(|at| json!({"answer": if at < same { "red" } else { "blue" }})).collect();
            json!({"question_id": id, "question_type": "what", "answer_type": "other", "answers": given})
        };
        serde_json::from_value(
            json!({"annotations": [annotation(1, 2), annotation(2, 10), annotation(3, 10)]}),
        )
        .unwrap()
    }

    #[test]
    fn accuracy_counts_the_questions_of_the_file() {
        let answers = [(1, "Red."), (2, "red")]
            .map(|(question_id, answer)| Answer { question_id, answer: answer.into() });
        let counters = count_accuracy(&[1, 2].into(), &answers, &annotations()).unwrap();
        assert_eq!(counters.overall.questions, 2);
        assert!((counters.overall.percent() - 80.0).abs() < 1e-9, "{counters}");
        assert!(count_accuracy(&[1, 2, 3].into(), &answers, &annotations()).is_err());
    }

    #[tokio::test]
    async fn results_file_has_an_empty_answer_for_a_failed_question() {
        let folder = tempfile::tempdir().unwrap();
        let partial = folder.path().join("partial.jsonl");
        std::fs::write(&partial, "{\"id\":3,\"answer\":\"red\",\"image\":\"a\"}\n{\"id\":4,\"error\":{}}\n")
            .unwrap();
        let input = Input { file: Some(partial.into()), format: bulk::Format::Jsonl };
        let path = folder.path().join("results.json");
        write(input, &path).await.unwrap();
        let written: Value = read_json(&path).unwrap();
        assert_eq!(written, json!([{"question_id": 3, "answer": "red"}, {"question_id": 4, "answer": ""}]));
    }
}
