//! The tables `[[models]]` and `[candidate_lists]` of a file.
//!
//! Each is an alternative form of a setting that is a list.

use std::collections::BTreeMap;

use config::{Value, ValueKind};
use serde_json::json;

use crate::config::{
    error::SettingsError,
    renamed::{Renaming, rename_model_fields},
    schema::{Definition, definition},
    sections::model_choice::ModelChoice,
};

/// The tables and the keys of their settings.
const TABLES: [(&str, &str); 2] = [("models", "model.source"), ("candidate_lists", "model.candidate_lists")];

/// The fields of a `[[models]]` table, for messages.
const MODEL_FIELDS: &str = "source, and optionally name, device, dtype, conventions, engines, engine_threads, \
                            feature_cache_bytes, cross_attention_cache_bytes, answer_cache_bytes, \
                            max_queued_questions, max_queued_questions_per_client, max_queued_bytes";

/// The values of a setting in a table.
#[derive(Debug, Default)]
pub(crate) struct TableValues {
    /// The values as text.
    pub(crate) values: Vec<String>,
    /// The old names of fields that the table uses.
    pub(crate) renamings: Vec<Renaming>,
}

/// Returns the setting that a table is an alternative form of.
pub(crate) fn setting_of(table: &str) -> Option<&'static Definition> {
    TABLES.iter().find(|(name, _)| *name == table).and_then(|(_, key)| definition(key))
}

/// Reads a table. `path` is for messages.
///
/// # Errors
/// The first [`SettingsError`] in the table.
pub(crate) fn read_table(path: &str, table: &str, value: &ValueKind) -> Result<TableValues, SettingsError> {
    match (table, value) {
        ("models", ValueKind::Array(models)) => {
            let mut read = TableValues::default();
            for (index, model) in models.iter().enumerate() {
                read_model(path, &format!("models[{index}]"), model, &mut read)?;
            }
            Ok(read)
        }
        ("candidate_lists", ValueKind::Table(lists)) => {
            let mut values = Vec::new();
            for (name, file) in lists {
                let ValueKind::String(file) = &file.kind else {
                    let name = format!("{table}.{name}");
                    return Err(invalid(path, &name, "not a text", "a file name in quotes"));
                };
                values.push(format!("{name}={file}"));
            }
            values.sort();
            Ok(TableValues { values, renamings: Vec::new() })
        }
        ("models", _) => Err(invalid(path, table, "not a list", "tables, each with the header [[models]]")),
        _ => Err(invalid(path, table, "not a table", "a table of names and files")),
    }
}

fn invalid(path: &str, name: &str, value: &str, expected: &str) -> SettingsError {
    SettingsError::WrongKind {
        place: path.to_owned(),
        name: name.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

/// Adds one `[[models]]` table to `read`, as the setting's parser expects it.
fn read_model(path: &str, name: &str, model: &Value, read: &mut TableValues) -> Result<(), SettingsError> {
    let serde_json::Value::Object(mut fields) = json(&model.kind) else {
        return Err(invalid(path, name, "not a table", MODEL_FIELDS));
    };
    read.renamings.extend(rename_model_fields(&mut fields, path, name)?);
    let text = serde_json::Value::Object(fields).to_string();
    text.parse::<ModelChoice>().map_err(|cause| {
        let cause = cause.split(" at line ").next().unwrap_or_default();
        invalid(path, name, cause, MODEL_FIELDS)
    })?;
    read.values.push(text);
    Ok(())
}

fn json(value: &ValueKind) -> serde_json::Value {
    match value {
        ValueKind::Nil => serde_json::Value::Null,
        ValueKind::Boolean(value) => json!(value),
        ValueKind::I64(value) => json!(value),
        ValueKind::U64(value) => json!(value),
        ValueKind::Float(value) => json!(value),
        ValueKind::String(value) => json!(value),
        // No field of a model has such a number.
        ValueKind::I128(_) | ValueKind::U128(_) => json!(value.to_string()),
        ValueKind::Array(values) => values.iter().map(|value| json(&value.kind)).collect(),
        ValueKind::Table(values) => {
            let fields: BTreeMap<&String, serde_json::Value> =
                values.iter().map(|(name, value)| (name, json(&value.kind))).collect();
            json!(fields)
        }
    }
}

#[cfg(test)]
mod tests {
    use config::FileFormat;

    use super::*;
    use crate::config::{
        settings::Settings,
        sources::{file::parse_file, resolve::Sources, source_values::SourceValues},
    };

    fn toml(text: &str) -> Result<SourceValues, SettingsError> {
        parse_file("a.toml", FileFormat::Toml, text)
    }

    fn sources(text: &str) -> Sources {
        Sources { file: Some(("a.toml".to_owned(), toml(text).unwrap())), ..Sources::default() }
    }

    fn settings(text: &str) -> Settings {
        sources(text).resolve().unwrap().settings
    }

    #[test]
    fn models_in_a_file_are_tables_in_order() {
        let settings = settings(
            "[model]\ndevice = 'cpu'\n[[models]]\nname = 'b'\nsource = 'demo'\nmax_queued_questions = 7\n\
             [[models]]\nname = 'a'\nsource = './x, y'\ndtype = 'bf16'\n",
        );
        let models: Vec<(String, &str)> = settings
            .model
            .models
            .iter()
            .map(|model| (model.name().to_string(), model.source.as_str()))
            .collect();
        assert_eq!(models, [("b".to_owned(), "demo"), ("a".to_owned(), "./x, y")]);
        assert_eq!(settings.model.models[0].max_queued_questions, Some(7));
        let yaml = "models:\n- name: b\n  source: demo\n- {source: demo, name: c}\n";
        let file = parse_file("a.yaml", FileFormat::Yaml, yaml).unwrap();
        let sources = Sources { file: Some(("a.yaml".to_owned(), file)), ..Sources::default() };
        assert_eq!(sources.resolve().unwrap().settings.model.models.len(), 2);
    }

    #[test]
    fn flag_replaces_all_models_of_the_file() {
        let mut sources = sources("[[models]]\nsource = 'demo'\nname = 'a'");
        sources.flags.set(definition("model.source").unwrap(), vec!["./mine".to_owned()]);
        let models = sources.resolve().unwrap().settings.model.models;
        assert_eq!(models.iter().map(|model| model.source.as_str()).collect::<Vec<_>>(), ["./mine"]);
    }

    #[test]
    fn candidate_lists_are_a_table_of_files() {
        let settings = settings("[candidate_lists]\nvqa = 'vqa.txt'\ncolours = 'lists/colours.json'");
        let names: Vec<String> =
            settings.model.candidate_lists.iter().map(|list| list.name.to_string()).collect();
        assert_eq!(names, ["colours", "vqa"]);
    }

    #[test]
    fn table_errors_name_the_table() {
        for (text, expected) in [
            ("[[models]]\nname = 'a'", "a.toml: invalid models[0]: missing field `source`, expected source"),
            ("[[models]]\nsource = 'demo'\n[[models]]\nsource = 'demo'\ncolour = 'red'", "models[1]"),
            ("[[models]]\nsource = 'demo'\ncolour = 'red'", "unknown field `colour`"),
            ("[models]\nsource = 'demo'", "a.toml: invalid models: not a list"),
            ("models = ['demo']", "models[0]: not a table"),
            ("[candidate_lists]\nvqa = 3", "a.toml: invalid candidate_lists.vqa: not a text"),
            ("[candidate_lists]\n'a b' = 'c'", "letters"),
            (
                "[model]\nsource = 'demo'\n[[models]]\nsource = 'demo'",
                "a.toml: both model.source and models are set",
            ),
        ] {
            let message = toml(text).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn duplicate_names_and_empty_lists_are_rejected() {
        let error = |text: &str| sources(text).resolve().unwrap_err().to_string();
        assert_eq!(
            error("[model]\nsource = ['demo', 'org/demo']"),
            "duplicate model name demo; name one of the models, as in other=org/demo"
        );
        assert_eq!(error("[model]\nsource = []"), "no model given");
        let lists = "[model]\ncandidate_lists = ['a=b', 'a=c']";
        assert_eq!(error(lists), "duplicate candidate list name a");
    }
}
