//! The results that client commands print: one line each, for people or as JSON.

use std::{
    io::{self, Write as _},
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Context as _;
use bulk::Fields;
use clap::builder::styling::{AnsiColor, Style};
use serde_json::Value;

use crate::records::display_name;

/// Prints `text` as it is.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    write!(io::stdout(), "{text}").context("cannot print")
}

/// The style of the main value of a result, on terminals.
const VALUE: Style = Style::new().bold();

/// The style of numbers beside it.
const NUMBERS: Style = Style::new().dimmed();

/// The style of an error.
const ERROR: Style = AnsiColor::Red.on_default();

/// Prints results, and the pieces of streamed captions before their results.
#[derive(Debug)]
pub(crate) struct ResultPrinter {
    is_json: bool,
    is_streaming: bool,
    /// Whether pieces of a caption stand on an unfinished line.
    is_line_open: AtomicBool,
}

impl ResultPrinter {
    /// With `is_streaming`, a result is printed after the pieces of its caption.
    pub(crate) fn new(is_json: bool, is_streaming: bool) -> Self {
        Self { is_json, is_streaming, is_line_open: AtomicBool::new(false) }
    }

    pub(crate) fn is_streaming(&self) -> bool {
        self.is_streaming
    }

    /// Prints a piece of a caption. The first piece begins the line of the caption.
    pub(crate) fn print_piece(&self, fields: &Fields, piece: &str) -> io::Result<()> {
        let mut stdout = io::stdout();
        if self.is_json {
            let mut fields = without_image_data(fields);
            fields.insert("piece".to_owned(), piece.into());
            writeln!(stdout, "{}", Value::Object(fields))?;
        } else {
            self.begin_line(fields)?;
            write!(stdout, "{piece}")?;
        }
        stdout.flush()
    }

    /// Prints a result. Errors go to standard error, except as JSON.
    pub(crate) fn print_result(&self, fields: &Fields) -> io::Result<()> {
        if self.is_json {
            return writeln!(io::stdout(), "{}", Value::Object(without_image_data(fields)));
        }
        if fields.contains_key("error") {
            self.end_line()?;
            let (request, error) = (request_text(fields), error_text(fields));
            return writeln!(anstream::stderr(), "{request}{ERROR}{error}{ERROR:#}");
        }
        if self.is_streaming {
            // An empty caption has no pieces.
            self.begin_line(fields)?;
            write!(anstream::stdout(), "{NUMBERS}{}{NUMBERS:#}", numbers_text(fields))?;
            return self.end_line();
        }
        let (request, result) = (request_text(fields), result_text(fields));
        let numbers = numbers_text(fields);
        writeln!(anstream::stdout(), "{request}{VALUE}{result}{VALUE:#}{NUMBERS}{numbers}{NUMBERS:#}")
    }

    /// Ends the line of a caption if it is unfinished.
    pub(crate) fn end_line(&self) -> io::Result<()> {
        if self.is_line_open.swap(false, Ordering::Relaxed) { writeln!(io::stdout()) } else { Ok(()) }
    }

    fn begin_line(&self, fields: &Fields) -> io::Result<()> {
        if self.is_line_open.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        write!(io::stdout(), "{}{}", request_text(fields), text(fields, "prompt"))
    }
}

/// Returns the fields with the data of a data URL left out.
fn without_image_data(fields: &Fields) -> Fields {
    let mut fields = fields.clone();
    if let Some(Value::String(image)) = fields.get_mut("image") {
        *image = display_name(image);
    }
    fields
}

/// Returns the image and the text of a request.
fn request_text(fields: &Fields) -> String {
    let texts = ["question", "prompt", "text"].map(|field| text(fields, field)).concat();
    let image = display_name(text(fields, "image"));
    let parts: Vec<&str> = [&*image, &*texts].into_iter().filter(|part| !part.is_empty()).collect();
    format!("{}  -> ", parts.join("  "))
}

/// Returns the main value of a result.
fn result_text(fields: &Fields) -> String {
    if let Some(Value::Array(texts)) = fields.get("scored_texts") {
        return texts.iter().filter_map(Value::as_object).map(scored_text).collect::<Vec<_>>().join("; ");
    }
    match (fields.get("probability"), fields.get("embedding")) {
        (_, Some(Value::Array(values))) => format!("{} numbers", values.len()),
        (Some(probability), _) if fields.contains_key("cosine") => number(Some(probability), 3),
        _ => format!("{}{}", text(fields, "answer"), text(fields, "caption")),
    }
}

/// Returns a text with its probability, and whether the filter dropped it.
fn scored_text(fields: &Fields) -> String {
    let dropped = if fields.get("passed") == Some(&Value::Bool(true)) { "" } else { ", dropped" };
    format!("{} ({}{dropped})", text(fields, "text"), number(fields.get("probability"), 3))
}

/// Returns the other numbers of a result in brackets, and its alternatives.
fn numbers_text(fields: &Fields) -> String {
    if fields.contains_key("scored_texts") {
        return String::new();
    }
    let mut numbers = Vec::new();
    match (fields.get("cosine"), fields.get("probability")) {
        (Some(cosine), _) => numbers.push(format!("cosine {}", number(Some(cosine), 3))),
        (None, Some(probability)) => numbers.push(number(Some(probability), 3)),
        (None, None) if fields.contains_key("score") => numbers.push(number(fields.get("score"), 3)),
        (None, None) => {}
    }
    let total = fields.get("timing").and_then(|timing| timing.get("total_ms"));
    numbers.push(format!("{} ms", number(total, 0)));
    let others = fields.get("alternatives").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let others = others.iter().filter_map(Value::as_object).map(|other| {
        let rating = other.get("probability").or_else(|| other.get("score"));
        format!("; {} ({})", text(other, "text"), number(rating, 3))
    });
    format!(" ({}){}", numbers.join(", "), others.collect::<String>())
}

fn error_text(fields: &Fields) -> String {
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
        format!("{}{}{}", request_text(&fields), result_text(&fields), numbers_text(&fields))
    }

    #[test]
    fn answer_is_one_line_with_its_rating() {
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
    fn captions_matches_and_embeddings_are_one_line_each() {
        let timing = json!({"total_ms": 3});
        let caption = json!({"image": "a.png", "caption": "a cat", "score": -1, "timing": timing});
        assert_eq!(line(caption), "a.png  -> a cat (-1.000, 3 ms)");
        let scores =
            json!({"image": "a.png", "text": "a cat", "probability": 0.98, "cosine": 0.4, "timing": timing});
        assert_eq!(line(scores), "a.png  a cat  -> 0.980 (cosine 0.400, 3 ms)");
        let embedding = json!({"text": "a cat", "embedding": [0.6, 0.8], "timing": timing});
        assert_eq!(line(embedding), "a cat  -> 2 numbers (3 ms)");
        let filtered = json!({"image": "a.png", "scored_texts": [
            {"text": "a cat", "probability": 0.98, "passed": true},
            {"text": "a dog", "probability": 0.02, "passed": false},
        ]});
        assert_eq!(line(filtered), "a.png  -> a cat (0.980); a dog (0.020, dropped)");
    }

    #[test]
    fn error_line_has_reason_and_no_image_data() {
        let value = json!({"image": "data:image/png;base64,AA", "question": "what?",
                           "error": {"reason": "IMAGE_EMPTY", "message": "inputs[0].image.data is empty"}});
        let Value::Object(fields) = value else { unreachable!() };
        let line = format!("{}{}", request_text(&fields), error_text(&fields));
        let error = "error: inputs[0].image.data is empty (IMAGE_EMPTY)";
        assert_eq!(line, format!("data:image/png;base64,...  what?  -> {error}"));
        assert_eq!(without_image_data(&fields)["image"], "data:image/png;base64,...");
    }
}
