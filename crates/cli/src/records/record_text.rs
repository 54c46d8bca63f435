//! The texts of a record.

use bulk::Fields;
use serde_json::Value;

use crate::records::response_fields::error_fields;

/// Separator of candidates in a CSV cell.
const SEPARATOR: char = '|';

/// Returns the text `name`, or `None` if the record has none.
///
/// # Errors
/// A value that is not a text.
pub(crate) fn text<'a>(record: &'a Fields, name: &str) -> Result<Option<&'a str>, Fields> {
    match record.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(other) => Err(invalid(name, other, "a text")),
    }
}

/// Returns the texts `name`: a list, or one text with `|` between them.
///
/// # Errors
/// A value of another type.
pub(crate) fn texts(record: &Fields, name: &str) -> Result<Vec<String>, Fields> {
    let invalid = |value: &Value| invalid(name, value, "a list of texts");
    match record.get(name) {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(text.split(SEPARATOR).map(str::to_owned).collect()),
        Some(Value::Array(values)) => values
            .iter()
            .map(|value| value.as_str().map(str::to_owned).ok_or_else(|| invalid(value)))
            .collect(),
        Some(other) => Err(invalid(other)),
    }
}

/// Returns the error of a value, with its first characters.
fn invalid(name: &str, value: &Value, expected: &str) -> Fields {
    let value: String = value.to_string().chars().take(40).collect();
    error_fields("LINE_INVALID", &format!("{name} is {value}: must be {expected}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn candidates_are_a_list_or_a_cell() {
        let candidates =
            |value: Value| texts(&[("candidates".to_owned(), value)].into_iter().collect(), "candidates");
        assert_eq!(candidates(json!(["yes", "no"])).unwrap(), ["yes", "no"]);
        assert_eq!(candidates(json!("yes|no")).unwrap(), ["yes", "no"]);
        assert_eq!(candidates(Value::Null).unwrap(), [] as [&str; 0]);
        assert_eq!(
            candidates(json!(["yes", 3])).unwrap_err()["error"]["message"],
            "candidates is 3: must be a list of texts"
        );
    }
}
