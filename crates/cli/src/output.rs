//! What the client commands print: a line for each outcome, for people or for programs.

use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use bulk::Fields;
use serde_json::Value;

use crate::records::name;

/// For whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// For people; errors go to standard error.
    Text,
    /// One JSON object a line.
    Json,
}

impl Format {
    /// Of `--json`.
    pub(crate) fn of(json: bool) -> Self {
        if json { Self::Json } else { Self::Text }
    }

    /// Prints one outcome at once.
    pub(crate) fn print(self, fields: &Fields) -> io::Result<()> {
        let failed = fields.contains_key("error");
        match self {
            Self::Json => writeln!(io::stdout(), "{}", Value::Object(shown(fields))),
            Self::Text if failed => writeln!(io::stderr(), "{}{}", head(fields), error(fields)),
            Self::Text => writeln!(io::stdout(), "{}{}{}", head(fields), words(fields), figures(fields)),
        }
    }
}

/// A caption that is printed piece by piece, on a line that begins when there is something to print on it.
#[derive(Debug)]
pub(crate) struct PieceByPiece {
    format: Format,
    begun: AtomicBool,
}

impl PieceByPiece {
    pub(crate) fn new(format: Format) -> Self {
        Self { format, begun: AtomicBool::new(false) }
    }

    /// Prints a piece of the caption.
    pub(crate) fn piece(&self, fields: &Fields, piece: &str) -> io::Result<()> {
        let mut stdout = io::stdout();
        match self.format {
            Format::Text => {
                self.begin(fields)?;
                write!(stdout, "{piece}")?;
            }
            Format::Json => {
                let mut fields = shown(fields);
                fields.insert("piece".to_owned(), piece.into());
                writeln!(stdout, "{}", Value::Object(fields))?;
            }
        }
        stdout.flush()
    }

    /// Prints what comes behind the pieces: what became of the caption.
    pub(crate) fn end(&self, fields: &Fields) -> io::Result<()> {
        match self.format {
            Format::Text if !fields.contains_key("error") => {
                // One of no words has no pieces.
                self.begin(fields)?;
                self.begun.store(false, Ordering::Relaxed);
                writeln!(io::stdout(), "{}", figures(fields))
            }
            format => {
                self.break_off()?;
                format.print(fields)
            }
        }
    }

    /// Ends the line of a caption that nothing more comes of.
    pub(crate) fn break_off(&self) -> io::Result<()> {
        if self.begun.swap(false, Ordering::Relaxed) { writeln!(io::stdout()) } else { Ok(()) }
    }

    fn begin(&self, fields: &Fields) -> io::Result<()> {
        if self.begun.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        write!(io::stdout(), "{}{}", head(fields), text(fields, "prompt"))
    }
}

/// A data URL without its data.
fn shown(fields: &Fields) -> Fields {
    let mut fields = fields.clone();
    if let Some(Value::String(image)) = fields.get_mut("image") {
        *image = name(image);
    }
    fields
}

/// What was asked.
fn head(fields: &Fields) -> String {
    let asked = ["question", "prompt", "text"].map(|field| text(fields, field)).concat();
    let image = name(text(fields, "image"));
    let parts: Vec<&str> = [&*image, &*asked].into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}  -> ", parts.join("  "))
}

fn words(fields: &Fields) -> String {
    match (fields.get("probability"), fields.get("embedding")) {
        (_, Some(Value::Array(values))) => format!("{} numbers", values.len()),
        (Some(probability), _) if fields.contains_key("cosine") => number(Some(probability), 3),
        _ => format!("{}{}", text(fields, "answer"), text(fields, "caption")),
    }
}

/// In brackets, and the next best behind them.
fn figures(fields: &Fields) -> String {
    let mut figures = Vec::new();
    match (fields.get("cosine"), fields.get("probability")) {
        (Some(cosine), _) => figures.push(format!("cosine {}", number(Some(cosine), 3))),
        (None, Some(probability)) => figures.push(number(Some(probability), 3)),
        (None, None) if fields.contains_key("score") => figures.push(number(fields.get("score"), 3)),
        (None, None) => {}
    }
    let total = fields.get("timing").and_then(|timing| timing.get("total_ms"));
    figures.push(format!("{} ms", number(total, 0)));
    let others = fields.get("alternatives").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let others = others.iter().filter_map(Value::as_object).map(|other| {
        let figure = other.get("probability").or_else(|| other.get("score"));
        format!("; {} ({})", text(other, "text"), number(figure, 3))
    });
    format!(" ({}){}", figures.join(", "), others.collect::<String>())
}

fn error(fields: &Fields) -> String {
    let Some(Value::Object(error)) = fields.get("error") else { return String::new() };
    format!("error: {} ({})", text(error, "message"), text(error, "reason"))
}

fn text<'a>(fields: &'a Fields, field: &str) -> &'a str {
    fields.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(value: Option<&Value>, digits: usize) -> String {
    format!("{:.digits$}", value.and_then(Value::as_f64).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn line(value: Value) -> String {
        let Value::Object(fields) = value else { unreachable!() };
        format!("{}{}{}", head(&fields), words(&fields), figures(&fields))
    }

    #[test]
    fn an_answer_is_one_readable_line() {
        let mut answer = json!({
            "image": "a.png", "question": "how many?", "answer": "two", "score": -0.0125,
            "timing": {"total_ms": 41.6},
        });
        assert_eq!(line(answer.clone()), "a.png  how many?  -> two (-0.013, 42 ms)");
        answer["alternatives"] = json!([{"text": "three", "score": -2.0}]);
        assert_eq!(line(answer.clone()), "a.png  how many?  -> two (-0.013, 42 ms); three (-2.000)");
        answer["probability"] = json!(0.9);
        assert_eq!(line(answer), "a.png  how many?  -> two (0.900, 42 ms); three (-2.000)");
    }

    #[test]
    fn captions_matches_and_vectors_are_readable_lines_too() {
        let timing = json!({"total_ms": 3});
        let caption = json!({"image": "a.png", "caption": "a cat", "score": -1, "timing": timing});
        assert_eq!(line(caption), "a.png  -> a cat (-1.000, 3 ms)");
        let scores =
            json!({"image": "a.png", "text": "a cat", "probability": 0.98, "cosine": 0.4, "timing": timing});
        assert_eq!(line(scores), "a.png  a cat  -> 0.980 (cosine 0.400, 3 ms)");
        let vector = json!({"text": "a cat", "embedding": [0.6, 0.8], "timing": timing});
        assert_eq!(line(vector), "a cat  -> 2 numbers (3 ms)");
    }

    #[test]
    fn an_error_names_its_reason() {
        let value = json!({"image": "data:image/png;base64,AA", "question": "what?",
                           "error": {"reason": "IMAGE_EMPTY", "message": "inputs[0].image.data is empty"}});
        let Value::Object(fields) = value else { unreachable!() };
        let line = format!("{}{}", head(&fields), error(&fields));
        let wanted = "error: inputs[0].image.data is empty (IMAGE_EMPTY)";
        assert_eq!(line, format!("data:image/png;base64,...  what?  -> {wanted}"));
        assert_eq!(shown(&fields)["image"], "data:image/png;base64,...");
    }
}
