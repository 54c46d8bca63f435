//! Models as a table, as lines and as JSON.

use proto::{Model, Task};
use serde_json::{Value, json};

/// Returns a table with a row for each model.
pub(super) fn table(models: &[Model]) -> String {
    let rows = models.iter().map(|model| {
        let parameters = parameters(model.parameters);
        [
            model.name.clone(),
            task(model).to_owned(),
            source(model),
            model.device.clone(),
            model.dtype.clone(),
            parameters,
        ]
    });
    let header = ["NAME", "TASK", "SOURCE", "DEVICE", "DTYPE", "PARAMETERS"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}", width = *width)).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// Returns a line for each field that has a value.
pub(super) fn details(model: &Model) -> String {
    let number = |number: u32| if number == 0 { String::new() } else { number.to_string() };
    let fields = [
        ("name", model.name.clone()),
        ("task", task(model).to_owned()),
        ("source", source(model)),
        ("device", model.device.clone()),
        ("dtype", model.dtype.clone()),
        ("parameters", parameters(model.parameters)),
        ("image size", number(model.image_size)),
        ("max text tokens", number(model.max_text_tokens)),
        ("max new tokens", number(model.max_new_tokens)),
        ("embedding size", number(model.embedding_size)),
        ("conventions", model.flavour.clone()),
        ("candidate lists", model.candidate_lists.join(", ")),
    ];
    let shown = fields.iter().filter(|(_, value)| !value.is_empty());
    shown.map(|(name, value)| format!("{name:16} {value}\n")).collect()
}

/// Returns a model as one line of JSON, as GET /v1/models has it.
pub(super) fn json(model: &Model) -> String {
    let value: Value = json!({
        "name": model.name,
        "source": model.source,
        "revision": Some(&model.revision).filter(|revision| !revision.is_empty()),
        "task": model.task().as_str_name().trim_start_matches("TASK_").to_lowercase(),
        "device": model.device,
        "dtype": model.dtype,
        "image_size": model.image_size,
        "max_text_tokens": model.max_text_tokens,
        "max_new_tokens": model.max_new_tokens,
        "embedding_size": model.embedding_size,
        "parameters": model.parameters,
        "flavour": model.flavour,
        "candidate_lists": model.candidate_lists,
    });
    format!("{value}\n")
}

/// Returns the command that uses a model.
fn task(model: &Model) -> &'static str {
    match model.task() {
        Task::QuestionAnswering => "ask",
        Task::Captioning => "caption",
        Task::Matching => "match, embed",
        Task::Unspecified => "unknown",
    }
}

fn source(model: &Model) -> String {
    let revision = if model.revision.is_empty() { String::new() } else { format!("@{}", model.revision) };
    format!("{}{revision}", model.source)
}

/// Returns a number of parameters in millions, or in thousands for a small model.
fn parameters(number: u64) -> String {
    match number {
        0 => String::new(),
        1_000_000.. => format!("{} M", number / 1_000_000),
        _ => format!("{} K", number.div_ceil(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model() -> Model {
        Model {
            name: "vqa".into(),
            source: "org/blip".into(),
            revision: "0123".into(),
            task: Task::QuestionAnswering.into(),
            device: "cpu".into(),
            dtype: "f32".into(),
            parameters: 385_000_000,
            image_size: 384,
            ..Model::default()
        }
    }

    #[test]
    fn table_has_aligned_columns_and_no_trailing_space() {
        let small = Model { name: "a".into(), parameters: 1500, ..model() };
        assert_eq!(
            table(&[model(), small]),
            "NAME  TASK  SOURCE         DEVICE  DTYPE  PARAMETERS\n\
             vqa   ask   org/blip@0123  cpu     f32    385 M\n\
             a     ask   org/blip@0123  cpu     f32    2 K\n"
        );
    }

    #[test]
    fn details_have_only_fields_with_values() {
        let text = details(&model());
        assert!(text.contains("image size       384\n") && !text.contains("embedding"), "{text}");
        let value: Value = serde_json::from_str(&json(&model())).unwrap();
        assert_eq!(
            (&value["task"], &value["parameters"]),
            (&json!("question_answering"), &json!(385_000_000))
        );
    }
}
