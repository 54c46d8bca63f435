//! One record: named values, however they were written down.

use csv::{ReaderBuilder, WriterBuilder};
use serde_json::Value;

use crate::Format;

/// Named values.
pub type Fields = serde_json::Map<String, Value>;

/// One record of the input.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Its position, from 0; the column names of a CSV file are no record.
    pub position: u64,
    /// Its values, or why it is none.
    pub fields: Result<Fields, String>,
}

/// Reads one record. `columns` are those of a CSV file. Empty cells are left out, and every other one is a text.
pub(crate) fn parse(bytes: &[u8], format: Format, columns: &[String]) -> Result<Fields, String> {
    match format {
        Format::Jsonl => match serde_json::from_slice(bytes) {
            Ok(Value::Object(fields)) => Ok(fields),
            Ok(_) => Err("the line is no JSON object".to_owned()),
            Err(error) => Err(format!("the line is no JSON: {error}")),
        },
        Format::Csv => {
            let cells = cells(bytes)?;
            if cells.len() > columns.len() {
                return Err(format!("the line has {} values for {} columns", cells.len(), columns.len()));
            }
            let named = columns.iter().cloned().zip(cells);
            Ok(named
                .filter(|(_, cell)| !cell.is_empty())
                .map(|(name, cell)| (name, Value::String(cell)))
                .collect())
        }
    }
}

/// The values of one CSV record.
pub(crate) fn cells(bytes: &[u8]) -> Result<Vec<String>, String> {
    let mut reader = ReaderBuilder::new().has_headers(false).flexible(true).from_reader(bytes);
    match reader.records().next() {
        None => Ok(Vec::new()),
        Some(Ok(record)) => Ok(record.iter().map(str::to_owned).collect()),
        Some(Err(error)) => Err(format!("the line is no CSV: {error}")),
    }
}

/// Writes one record with its line end. A CSV record has the values of `columns`: texts as they are, others as JSON.
pub(crate) fn written(fields: &Fields, format: Format, columns: &[&str]) -> Vec<u8> {
    match format {
        Format::Jsonl => {
            let mut line = Value::Object(fields.clone()).to_string().into_bytes();
            line.push(b'\n');
            line
        }
        Format::Csv => csv_line(columns.iter().map(|column| match fields.get(*column) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        })),
    }
}

/// One CSV record with its line end.
pub(crate) fn csv_line(cells: impl IntoIterator<Item = impl AsRef<[u8]>>) -> Vec<u8> {
    let mut writer = WriterBuilder::new().from_writer(Vec::new());
    // A vector takes everything.
    let _ = writer.write_record(cells);
    writer.into_inner().unwrap_or_default()
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
    fn a_csv_line_has_the_names_of_its_columns_and_no_empty_values() {
        let fields = parse(b"007,a.png,\n", Format::Csv, &columns(&["id", "image", "question"])).unwrap();
        assert_eq!(Value::Object(fields), json!({"id": "007", "image": "a.png"}));
        let error = parse(b"1,2,3\n", Format::Csv, &columns(&["id"])).unwrap_err();
        assert_eq!(error, "the line has 3 values for 1 columns");
    }

    #[test]
    fn a_line_that_is_no_object_says_so() {
        assert_eq!(parse(b"[1]\n", Format::Jsonl, &[]).unwrap_err(), "the line is no JSON object");
        assert!(parse(b"{\n", Format::Jsonl, &[]).unwrap_err().starts_with("the line is no JSON: "));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(text in ".{1,40}", other in "[a-z\"\n,]{1,20}") {
            let Value::Object(fields) = json!({"id": other, "question": text}) else { unreachable!() };
            for format in [Format::Jsonl, Format::Csv] {
                let line = written(&fields, format, &["id", "question"]);
                prop_assert_eq!(line.last(), Some(&b'\n'));
                prop_assert_eq!(parse(&line, format, &columns(&["id", "question"])).unwrap(), fields.clone());
            }
        }
    }
}
