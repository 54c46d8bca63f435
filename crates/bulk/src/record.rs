//! A record: named values, independent of the file format.

use csv::{ReaderBuilder, WriterBuilder};
use serde_json::Value;

use crate::format::Format;

/// Named values.
pub type Fields = serde_json::Map<String, Value>;

/// A record of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The position in the input, from 0. The column names of a CSV file do not count.
    pub position: u64,
    /// The values, or the reason why the record cannot be read.
    pub fields: Result<Fields, String>,
}

/// The fields of records that lack a text.
#[derive(Clone, Debug, Default)]
pub struct Defaults {
    /// The field of the text. A record that has it is complete.
    pub text_field: &'static str,
    /// The text and what belongs to it.
    pub fields: Fields,
}

impl Record {
    /// Returns the record, with the values of `defaults` if it lacks a text. Its fields stay.
    #[must_use]
    pub fn with_defaults(mut self, defaults: &Defaults) -> Self {
        if let Ok(fields) = &mut self.fields
            && !fields.contains_key(defaults.text_field)
        {
            for (field, value) in &defaults.fields {
                fields.entry(field).or_insert_with(|| value.clone());
            }
        }
        self
    }
}

/// Parses one record. `columns` are the column names of a CSV file.
///
/// Every value of a CSV record is a string. Empty cells are left out.
pub(crate) fn parse(bytes: &[u8], format: Format, columns: &[String]) -> Result<Fields, String> {
    match format {
        Format::Jsonl => match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err("line is not a JSON object".to_owned()),
            Err(error) => Err(format!("line is not valid JSON: {error}")),
        },
        Format::Csv => {
            let cells = parse_csv_cells(bytes)?;
            if cells.len() > columns.len() {
                return Err(format!(
                    "line has {} values: at most {} allowed, one for each column",
                    cells.len(),
                    columns.len()
                ));
            }
            let named = columns.iter().cloned().zip(cells);
            Ok(named
                .filter(|(_, cell)| !cell.is_empty())
                .map(|(name, cell)| (name, Value::String(cell)))
                .collect())
        }
    }
}

/// Parses the cells of one CSV record.
pub(crate) fn parse_csv_cells(bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    match reader.records().next() {
        None => Ok(Vec::new()),
        Some(Ok(record)) => Ok(record.iter().map(str::to_owned).collect()),
        Some(Err(error)) => Err(format!("line is not valid CSV: {error}")),
    }
}

/// Renders one record with its line end.
///
/// A CSV record has the values of `columns`. Strings are written as they are, other values as JSON.
pub(crate) fn render(fields: &Fields, format: Format, columns: &[&str]) -> Vec<u8> {
    match format {
        Format::Jsonl => {
            let mut line = Value::Object(fields.clone()).to_string().into_bytes();
            line.push(b'\n');
            line
        }
        Format::Csv => render_csv_line(columns.iter().map(|column| csv_cell(fields.get(*column)))),
    }
}

/// Renders one CSV record with its line end.
pub(crate) fn render_csv_line(cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    // Writing to a vector cannot fail.
    let _ = writer.write_record(cells);
    writer.into_inner().unwrap_or_default()
}

/// Returns a value as the text of a CSV cell.
pub(crate) fn csv_cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn columns(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn csv_line_has_column_names_and_no_empty_values() {
        let fields = parse(b"007,a.png,\n", Format::Csv, &columns(&["id", "image", "question"])).unwrap();
        assert_eq!(Value::Object(fields), json!({"id": "007", "image": "a.png"}));
        let error = parse(b"1,2,3\n", Format::Csv, &columns(&["id"])).unwrap_err();
        assert_eq!(error, "line has 3 values: at most 1 allowed, one for each column");
    }

    #[test]
    fn defaults_are_those_of_records_without_a_text() {
        let fields = |value: Value| value.as_object().cloned().unwrap();
        let both = fields(json!({"question": "what?", "candidates": ["a", "b"]}));
        let defaults = Defaults { text_field: "question", fields: both.clone() };
        let record = |fields: Result<Fields, String>| Record { position: 0, fields };
        let filled = |fields: Fields| record(Ok(fields)).with_defaults(&defaults).fields.unwrap();
        assert_eq!(filled(Fields::new()), both);
        let own = fields(json!({"question": "why?"}));
        assert_eq!(filled(own.clone()), own, "the candidates belong to the other question");
        let own = filled(fields(json!({"candidates": ["c"]})));
        assert_eq!(own, fields(json!({"question": "what?", "candidates": ["c"]})));
        let invalid = record(Err("invalid".to_owned()));
        assert_eq!(invalid.with_defaults(&defaults).fields.unwrap_err(), "invalid");
    }

    #[test]
    fn line_that_is_not_an_object_is_an_error() {
        assert_eq!(parse(b"[1]\n", Format::Jsonl, &[]).unwrap_err(), "line is not a JSON object");
        assert!(parse(b"{\n", Format::Jsonl, &[]).unwrap_err().starts_with("line is not valid JSON: "));
    }

    proptest! {
        #[test]
        fn rendered_record_parses_to_same_fields(text in ".{1,40}", other in "[a-z\"\n,]{1,20}") {
            let Value::Object(fields) = json!({"id": other, "question": text}) else { unreachable!() };
            for format in [Format::Jsonl, Format::Csv] {
                let line = render(&fields, format, &["id", "question"]);
                prop_assert_eq!(line.last(), Some(&b'\n'));
                prop_assert_eq!(parse(&line, format, &columns(&["id", "question"])).unwrap(), fields.clone());
            }
        }
    }
}
