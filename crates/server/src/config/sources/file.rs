//! Settings in a TOML or YAML file, with a table for each section.

use std::{error::Error, path::Path};

use config::{FileFormat, Format as _, Value, ValueKind};
use yaml_rust2::ScanError;

use crate::config::{
    error::{SettingsError, in_one_line},
    renamed::{Renaming, current_section},
    schema::{Definition, HIDDEN, Kind, definitions},
    sources::{
        source_values::{SettingName, SourceKind, SourceValues},
        tables, yaml,
    },
    suggest::nearest,
};

/// The maximum size of a settings file, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// Reads the file at `path`.
///
/// # Errors
/// The first [`SettingsError`] in the file.
pub fn read_file(path: &Path) -> Result<SourceValues, SettingsError> {
    let unreadable = |cause: String| SettingsError::Unreadable { path: path.display().to_string(), cause };
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => return Err(unreadable("unknown file type, expected .toml, .yaml or .yml".into())),
    };
    let text = regular_file::read_text(path, MAX_BYTES).map_err(|error| unreadable(error.to_string()))?;
    parse_file(&path.display().to_string(), format, &text)
}

/// Reads the text of a file. `path` is for messages.
///
/// # Errors
/// The first [`SettingsError`] in the text.
pub fn parse_file(path: &str, format: FileFormat, text: &str) -> Result<SourceValues, SettingsError> {
    if format == FileFormat::Yaml {
        yaml::check(path, text)?;
    }
    let sections = format.parse(None, text).map_err(|error| malformed(path, text, error.as_ref()))?;
    let mut sections: Vec<(String, Value)> = sections.into_iter().collect();
    // The parser yields them in the order of a hash table. Sorted, the first error is always the
    // same. Tables that are alternative forms of a setting follow the sections.
    sections.sort_by(|(one, _), (other, _)| {
        let rank = |name: &str| tables::setting_of(name).is_some();
        (rank(one), one).cmp(&(rank(other), other))
    });
    let mut values = SourceValues::default();
    for (section, value) in sections {
        match tables::setting_of(&section) {
            Some(setting) => read_table(&mut values, path, &section, setting, &value.kind)?,
            None => read_section(&mut values, path, &section, value.kind)?,
        }
    }
    Ok(values)
}

/// Reads a table that is an alternative form of `setting`.
fn read_table(
    values: &mut SourceValues,
    path: &str,
    table: &str,
    setting: &'static Definition,
    value: &ValueKind,
) -> Result<(), SettingsError> {
    let read = tables::read_table(path, table, value)?;
    if values.get(setting).is_some() {
        return Err(SettingsError::Conflict(format!("{path}: both {} and {table} are set", setting.key)));
    }
    setting.check(path, table, &read.values)?;
    values.set(setting, read.values);
    values.add_renamings(read.renamings);
    Ok(())
}

/// Reads the settings of a section.
fn read_section(
    values: &mut SourceValues,
    path: &str,
    section: &str,
    value: ValueKind,
) -> Result<(), SettingsError> {
    let is_current = definitions().iter().any(|definition| definition.section() == section);
    let renamed_to = if is_current { None } else { current_section(section) };
    let is_known = is_current || renamed_to.is_some();
    let mut settings: Vec<(String, Value)> = match value {
        ValueKind::Table(settings) => settings.into_iter().collect(),
        // In YAML, a section whose settings are all commented out.
        ValueKind::Nil => Vec::new(),
        other if is_known => {
            // The value is not shown: it may be a misplaced key.
            let value = if matches!(other, ValueKind::Array(_)) { "a list" } else { "a single value" };
            return Err(SettingsError::WrongKind {
                place: path.to_owned(),
                name: section.to_owned(),
                value: value.to_owned(),
                expected: "a table of settings".to_owned(),
            });
        }
        _ => return Err(unknown_section(path, section)),
    };
    if settings.is_empty() && !is_known {
        return Err(unknown_section(path, section));
    }
    if let (true, Some(new)) = (settings.is_empty(), renamed_to) {
        values.add_renamings([Renaming { old: format!("[{section}]"), new: format!("[{new}]") }]);
    }
    settings.sort_by(|(one, _), (other, _)| one.cmp(other));
    for (name, value) in settings {
        read_setting(values, path, &format!("{section}.{name}"), &value.kind)?;
    }
    Ok(())
}

/// Reads one setting.
fn read_setting(
    values: &mut SourceValues,
    path: &str,
    key: &str,
    value: &ValueKind,
) -> Result<(), SettingsError> {
    let kind = SourceKind::File(path);
    let Some(name) = SettingName::find(kind, key) else {
        let nearest = nearest(key, definitions().iter().map(|definition| definition.key.as_str()), ".");
        return Err(unknown(path, key, nearest));
    };
    let definition = name.definition;
    let texts = match value {
        ValueKind::Array(values) if definition.is_list() => {
            values.iter().map(|value| text(definition, path, key, &value.kind)).collect::<Result<_, _>>()?
        }
        ValueKind::String(text) => definition.split(text),
        value => vec![text(definition, path, key, value)?],
    };
    values.insert(kind, &name, texts)
}

fn unknown_section(path: &str, section: &str) -> SettingsError {
    unknown(path, section, nearest(section, definitions().iter().map(Definition::section), "."))
}

fn unknown(path: &str, name: &str, nearest: String) -> SettingsError {
    // A quoted name can contain a line break.
    SettingsError::Unknown { place: path.to_owned(), name: name.escape_debug().to_string(), nearest }
}

/// Returns one value as text, in the form of the command line.
fn text(definition: &Definition, path: &str, key: &str, value: &ValueKind) -> Result<String, SettingsError> {
    match (definition.kind, value) {
        // A text is accepted for every kind. TOML has no numbers above 2^63, and YAML reads words
        // such as `off` as booleans.
        (_, ValueKind::String(text)) => Ok(text.clone()),
        (Kind::Switch, ValueKind::Boolean(_))
        | (Kind::Number, ValueKind::I64(_) | ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_)) => {
            Ok(value.to_string())
        }
        (Kind::Ratio, ValueKind::Float(_) | ValueKind::I64(_)) => Ok(value.to_string()),
        // A number is rejected for a text: YAML reads 0755 as 493.
        _ => Err(SettingsError::WrongKind {
            place: path.to_owned(),
            name: key.to_owned(),
            value: if definition.is_secret() { HIDDEN.to_owned() } else { described(value) },
            expected: definition.expected(),
        }),
    }
}

/// Describes a value of the wrong type, for a message.
fn described(value: &ValueKind) -> String {
    match value {
        ValueKind::Nil => "empty".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// Returns the line of a syntax error. The full message of the parser can quote the text, and so a
/// key.
fn malformed(path: &str, text: &str, error: &(dyn Error + Send + Sync + 'static)) -> SettingsError {
    let (line, cause) = if let Some(error) = error.downcast_ref::<toml::de::Error>() {
        let start = error.span().map_or(0, |span| span.start);
        (1 + text.get(..start).unwrap_or_default().matches('\n').count(), error.message())
    } else if let Some(error) = error.downcast_ref::<ScanError>() {
        (error.marker().line(), error.info())
    } else {
        (1, "not a document of sections with settings")
    };
    SettingsError::Malformed { path: path.to_owned(), line, cause: in_one_line(cause) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::definition;

    fn toml(text: &str) -> Result<SourceValues, SettingsError> {
        parse_file("a.toml", FileFormat::Toml, text)
    }

    fn yaml(text: &str) -> Result<SourceValues, SettingsError> {
        parse_file("a.yaml", FileFormat::Yaml, text)
    }

    #[test]
    fn toml_and_yaml_yield_the_same_values() {
        let a = toml(
            "[fetch]\nenabled = false\nallow_ports = [80, 8080]\n\
             allow_domains = 'example.org, *.example.com'\n\
             [http]\nlisten = 'off'\n[auth]\nkeys = ['with,comma', '12345678']",
        )
        .unwrap();
        let b = yaml(
            "fetch:\n  enabled: false\n  allow_ports: 80,8080\n  allow_domains:\n  - example.org\n  \
             - '*.example.com'\nhttp:\n  listen: off\nauth:\n  keys:\n  - with,comma\n  \
             - '12345678'\ngrpc:\n",
        )
        .unwrap();
        assert_eq!(a, b);
        let keys = a.get(definition("auth.keys").unwrap()).unwrap();
        assert_eq!(keys, ["with,comma", "12345678"]);
        let ports = a.get(definition("fetch.allow_ports").unwrap()).unwrap();
        assert_eq!(ports, ["80", "8080"]);
        assert_eq!(yaml("").unwrap(), SourceValues::default());
    }

    #[test]
    fn unknown_key_suggests_the_nearest_name() {
        let error = |text| toml(text).unwrap_err().to_string();
        assert_eq!(
            error("[fetch]\nmax_byte = 1"),
            "a.toml: unknown setting fetch.max_byte; did you mean fetch.max_bytes?"
        );
        assert_eq!(error("[fetsh]"), "a.toml: unknown setting fetsh; did you mean fetch?");
        assert_eq!(error("fetch_on = true"), "a.toml: unknown setting fetch_on; did you mean fetch?");
        assert!(error("[grpc]\nmax_image_bytes = 1").ends_with("did you mean limits.max_image_bytes?"));
        assert!(error("[\"a\\nb\"]\nc = 1").contains("unknown setting a\\nb.c;"));
        assert!(error("['a[999999999]']\nb = 1").contains("unknown setting a[999999999].b;"));
    }

    #[test]
    fn value_of_the_wrong_type_is_reported_with_expectation() {
        for (text, expected) in [
            (
                "[fetch]\nmax_bytes = 1.5",
                "a.toml: invalid fetch.max_bytes: 1.5, expected a whole number, or a size such as 4GiB (BYTES)",
            ),
            (
                "[fetch]\nmax_bytes = [1]",
                "a.toml: invalid fetch.max_bytes: a list, expected a whole number, or a size such as 4GiB (BYTES)",
            ),
            (
                "[fetch]\nmax_bytes = -1",
                "\"-1\", expected a whole number, or a size such as 4GiB (BYTES): invalid",
            ),
            ("[fetch]\nmax_bytes = '4GiBs'", "a.toml: invalid fetch.max_bytes: \"4GiBs\", expected"),
            ("[fetch]\nenabled = 1", "a.toml: invalid fetch.enabled: 1, expected true or false"),
            ("[fetch]\nallow_ports = [80, true]", "true, expected a list of whole numbers (PORT)"),
            ("[fetch.max_bytes]\na = 1", "a.toml: invalid fetch.max_bytes: a table"),
            ("[tls]\ncert_file = 3", "a.toml: invalid tls.cert_file: 3, expected text in quotes (FILE)"),
            ("fetch = 3", "a.toml: invalid fetch: a single value, expected a table of settings"),
            ("[fetch]\nenabled = tru", "a.toml, line 2: "),
        ] {
            let message = toml(text).unwrap_err().to_string();
            assert!(message.contains(expected) && !message.contains('\n'), "{message}");
        }
        let message = yaml("fetch:\n  enabled: true\n  enabled: true\n").unwrap_err().to_string();
        assert!(message.starts_with("a.yaml, line 3: ") && message.contains("duplicated key"), "{message}");
        let message = yaml("fetch:\n  enabled:").unwrap_err().to_string();
        assert_eq!(message, "a.yaml: invalid fetch.enabled: empty, expected true or false");
    }

    #[test]
    fn messages_contain_no_key() {
        for text in [
            "[auth]\nkeys = ['hunter2']",
            "[auth]\nkeys = 'hunter2'",
            "[auth]\nkeys = ['hunter2",
            "[auth]\nkeys = [['hunter2']]",
            "[auth]\nkeys = { a = 'hunter2' }",
            "auth = 'hunter2'",
            "auth = ['hunter2']",
        ] {
            let message = toml(text).unwrap_err().to_string();
            assert!(!message.contains("hunter2") && message.contains("a.toml"), "{message}");
        }
        for text in [
            "auth:\n  keys: 1234567",
            "auth.keys=1234567",
            "1234567",
            "[1234567]",
            "? [1234567]\n: 1",
            "auth:\n  keys: 1234567\n---\nauth:\n  keys: 1234567",
        ] {
            let message = yaml(text).unwrap_err().to_string();
            assert!(!message.contains("1234567") && message.contains("a.yaml"), "{message}");
        }
    }

    #[test]
    fn file_of_unknown_type_or_size_is_rejected() {
        let folder = tempfile::tempdir().unwrap();
        let error = |name: &str| read_file(&folder.path().join(name)).unwrap_err().to_string();
        assert!(error("a.json").contains(".toml"));
        assert!(error("a.toml").contains("No such file"));
        let long = folder.path().join("long.yaml");
        std::fs::File::create(&long).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(error("long.yaml").ends_with("file too large: 1048577 bytes, 1048576 allowed"));
    }
}
