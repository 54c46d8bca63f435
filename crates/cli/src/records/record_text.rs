//! Texts out of a record.

use bulk::{Fields, RecordResult};
use serde_json::Value;

use crate::records::response_fields;

/// What stands between candidates in one cell of a table.
const BETWEEN: char = '|';

/// A text; `None` if the record has none of that name.
pub(crate) fn text<'a>(record: &'a Fields, name: &str) -> Result<Option<&'a str>, Fields> {
    match record.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(response_fields::error(
            "LINE_INVALID",
            &format!("{name} is {}: must be a text", short(other)),
        )),
    }
}

/// Texts: a list, or one text with `|` between them.
pub(crate) fn texts(record: &Fields, name: &str) -> Result<Vec<String>, Fields> {
    let wrong = |value: &Value| {
        response_fields::error(
            "LINE_INVALID",
            &format!("{name} is {}: must be a list of texts", short(value)),
        )
    };
    match record.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(text.split(BETWEEN).map(str::to_owned).collect()),
        Some(Value::Array(values)) => {
            values.iter().map(|value| value.as_str().map(str::to_owned).ok_or_else(|| wrong(value))).collect()
        }
        Some(other) => Err(wrong(other)),
    }
}

/// Records that can be asked about together.
#[derive(Debug)]
pub(crate) struct RecordGroup {
    /// Their texts, empty where there is none, each with its record's position.
    pub(crate) asked: Vec<(usize, String)>,
    /// One for each record: those whose text is none have failed.
    pub(crate) outcomes: Vec<Option<RecordResult>>,
}

impl RecordGroup {
    /// By the text that they have of the name.
    pub(crate) fn of(records: &[Fields], name: &str) -> Self {
        let mut lot = Self { asked: Vec::new(), outcomes: vec![None; records.len()] };
        for ((at, record), outcome) in records.iter().enumerate().zip(&mut lot.outcomes) {
            match text(record, name) {
                Ok(text) => lot.asked.push((at, text.unwrap_or_default().to_owned())),
                Err(error) => *outcome = Some(RecordResult::Failed(error)),
            }
        }
        lot
    }

    /// The texts alone.
    pub(crate) fn texts(&self) -> Vec<String> {
        self.asked.iter().map(|(_, text)| text.clone()).collect()
    }

    /// The record's position of a text that was sent, as the server counts them.
    pub(crate) fn position(&self, sent: u32) -> Option<usize> {
        self.asked.get(usize::try_from(sent).ok()?).map(|(at, _)| *at)
    }

    /// Has an outcome for a text that was sent.
    pub(crate) fn settle(&mut self, sent: u32, outcome: RecordResult) {
        if let Some(place) = self.position(sent).and_then(|at| self.outcomes.get_mut(at)) {
            *place = Some(outcome);
        }
    }
}

fn short(value: &Value) -> String {
    value.to_string().chars().take(40).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn candidates_are_a_list_or_a_cell() {
        let of =
            |value: Value| texts(&[("candidates".to_owned(), value)].into_iter().collect(), "candidates");
        assert_eq!(of(json!(["yes", "no"])).unwrap(), ["yes", "no"]);
        assert_eq!(of(json!("yes|no")).unwrap(), ["yes", "no"]);
        assert_eq!(of(Value::Null).unwrap(), [] as [&str; 0]);
        assert_eq!(
            of(json!(["yes", 3])).unwrap_err()["error"]["message"],
            "candidates is 3: must be a list of texts"
        );
    }
}
