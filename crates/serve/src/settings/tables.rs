//! The tables of a file whose names are its author's own: `[[models]]` and `[candidate_lists]`. Each is another way to write a
//! list that is a setting.

use config::{Value, ValueKind};
use serde_json::json;

use super::{
    SettingsError,
    definition::{Definition, definition},
    models::ModelChoice,
};

/// The tables, with the settings that they are other ways to write.
const TABLES: [(&str, &str); 2] = [("models", "model.source"), ("candidate_lists", "model.candidate_lists")];

/// Fields of a model's table, for messages.
const MODEL_FIELDS: &str = "source, and where wanted name, device, dtype, flavour, engines, engine_threads, feature_cache_bytes, \
                            key_value_cache_bytes, answer_cache_bytes, max_queued_questions, max_queued_questions_per_client, \
                            max_queued_bytes";

/// The setting that a table of this name is another way to write, if it is one of these.
pub(super) fn setting_of(section: &str) -> Option<&'static Definition> {
    TABLES.iter().find(|(name, _)| *name == section).and_then(|(_, key)| definition(key))
}

/// The values of that setting, out of a table; `path` is for messages.
///
/// # Errors
/// [`SettingsError`], on the first thing that is wrong.
pub(super) fn values(path: &str, section: &str, value: &ValueKind) -> Result<Vec<String>, SettingsError> {
    match (section, value) {
        ("models", ValueKind::Array(models)) => {
            (0..).zip(models).map(|(number, model)| model_text(path, number, model)).collect()
        }
        ("candidate_lists", ValueKind::Table(lists)) => {
            let mut values = Vec::new();
            for (name, file) in lists {
                let ValueKind::String(file) = &file.kind else {
                    return Err(wrong(
                        path,
                        &format!("{section}.{name}"),
                        "no text",
                        "a file's name in quotes",
                    ));
                };
                values.push(format!("{name}={file}"));
            }
            values.sort();
            Ok(values)
        }
        ("models", _) => Err(wrong(path, section, "no list", "tables, each headed [[models]]")),
        _ => Err(wrong(path, section, "no table", "a table of names and files")),
    }
}

fn wrong(path: &str, name: &str, value: &str, expected: &str) -> SettingsError {
    SettingsError::WrongKind {
        place: path.to_owned(),
        name: name.to_owned(),
        value: value.to_owned(),
        expected: expected.to_owned(),
    }
}

/// A model's table as the setting's parser reads it.
fn model_text(path: &str, number: usize, model: &Value) -> Result<String, SettingsError> {
    let text = json(&model.kind).to_string();
    let read = if matches!(model.kind, ValueKind::Table(_)) {
        text.parse::<ModelChoice>().map(|_| ())
    } else {
        Err("it is no table".to_owned())
    };
    read.map(|()| text).map_err(|cause| SettingsError::BadValue {
        place: path.to_owned(),
        name: format!("models[{number}]"),
        value: "not a model".to_owned(),
        expected: MODEL_FIELDS.to_owned(),
        cause: cause.split(" at line ").next().unwrap_or_default().to_owned(),
    })
}

fn json(value: &ValueKind) -> serde_json::Value {
    match value {
        ValueKind::Nil => serde_json::Value::Null,
        ValueKind::Boolean(value) => json!(value),
        ValueKind::I64(value) => json!(value),
        ValueKind::U64(value) => json!(value),
        ValueKind::Float(value) => json!(value),
        ValueKind::String(value) => json!(value),
        // Numbers that no setting has.
        ValueKind::I128(_) | ValueKind::U128(_) => json!(value.to_string()),
        ValueKind::Array(values) => values.iter().map(|value| json(&value.kind)).collect(),
        ValueKind::Table(values) => {
            let fields: std::collections::BTreeMap<&String, serde_json::Value> =
                values.iter().map(|(name, value)| (name, json(&value.kind))).collect();
            json!(fields)
        }
    }
}

#[cfg(test)]
mod tests {
    use config::FileFormat;

    use crate::settings::{Layer, Layers, SettingsError, parse_file};

    fn toml(text: &str) -> Result<Layer, SettingsError> {
        parse_file("a.toml", FileFormat::Toml, text)
    }

    fn settings(text: &str) -> crate::settings::Settings {
        let layers = Layers { file: Some(("a.toml".to_owned(), toml(text).unwrap())), ..Layers::default() };
        layers.resolve().unwrap().settings
    }

    #[test]
    fn models_in_a_file_are_tables_in_their_order() {
        let settings = settings(
            "[model]\ndevice = 'cpu'\n[[models]]\nname = 'b'\nsource = 'demo'\nmax_queued_questions = 7\n\
             [[models]]\nname = 'a'\nsource = './x, y'\ndtype = 'bf16'\n",
        );
        let told: Vec<(String, String)> = settings
            .model
            .models
            .iter()
            .map(|model| (model.name().to_string(), model.source.clone()))
            .collect();
        let expected =
            [("b", "demo"), ("a", "./x, y")].map(|(name, source)| (name.to_owned(), source.to_owned()));
        assert_eq!(told, expected);
        assert_eq!(settings.model.models[0].max_queued_questions, Some(7));
        let yaml = "models:\n- name: b\n  source: demo\n- {source: demo, name: c}\n";
        let layer = parse_file("a.yaml", FileFormat::Yaml, yaml).unwrap();
        let layers = Layers { file: Some(("a.yaml".to_owned(), layer)), ..Layers::default() };
        assert_eq!(layers.resolve().unwrap().settings.model.models.len(), 2);
    }

    #[test]
    fn a_flag_stands_for_all_models_of_the_file() {
        let file = toml("[[models]]\nsource = 'demo'\nname = 'a'").unwrap();
        let mut layers = Layers { file: Some(("a.toml".to_owned(), file)), ..Layers::default() };
        let definition = crate::settings::definition("model.source").unwrap();
        layers.flags.set(definition, vec!["./mine".to_owned()]);
        let models = layers.resolve().unwrap().settings.model.models;
        assert_eq!(models.iter().map(|model| model.source.as_str()).collect::<Vec<_>>(), ["./mine"]);
    }

    #[test]
    fn lists_of_candidates_are_a_table_of_files() {
        let settings = settings("[candidate_lists]\nvqa = 'vqa.txt'\ncolours = 'lists/colours.json'");
        let names: Vec<String> =
            settings.model.candidate_lists.iter().map(|list| list.name.to_string()).collect();
        assert_eq!(names, ["colours", "vqa"]);
    }

    #[test]
    fn what_is_wrong_with_a_table_is_told_by_its_place() {
        for (text, told) in [
            ("[[models]]\nname = 'a'", "a.toml: models[0] is not a model, expected source"),
            ("[[models]]\nsource = 'demo'\n[[models]]\nsource = 'demo'\ncolour = 'red'", "models[1]"),
            ("[[models]]\nsource = 'demo'\ncolour = 'red'", "unknown field `colour`"),
            ("[models]\nsource = 'demo'", "a.toml: models is no list"),
            ("models = ['demo']", "it is no table"),
            ("[candidate_lists]\nvqa = 3", "a.toml: candidate_lists.vqa is no text"),
            ("[candidate_lists]\n'a b' = 'c'", "letters"),
            (
                "[model]\nsource = 'demo'\n[[models]]\nsource = 'demo'",
                "a.toml: models is there beside model.source",
            ),
        ] {
            let message = toml(text).unwrap_err().to_string();
            assert!(message.contains(told) && !message.contains('\n'), "{message}");
        }
    }

    #[test]
    fn two_models_of_one_name_and_no_model_at_all_are_refused() {
        let refused = |text: &str| {
            let layers =
                Layers { file: Some(("a.toml".to_owned(), toml(text).unwrap())), ..Layers::default() };
            layers.resolve().unwrap_err().to_string()
        };
        assert_eq!(
            refused("[model]\nsource = ['demo', 'org/demo']"),
            "two models are called demo: name one of them, as in other=org/demo"
        );
        assert_eq!(refused("[model]\nsource = []"), "no model is named");
        let lists = "[model]\ncandidate_lists = ['a=b', 'a=c']";
        assert_eq!(refused(lists), "two lists of candidates are called a");
    }
}
