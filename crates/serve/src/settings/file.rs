//! A file of settings, TOML or YAML: a table for each section.

use std::{error::Error, path::Path};

use config::{FileFormat, Format as _, Value, ValueKind};
use yaml_rust2::ScanError;

use super::{
    Layer, SettingsError,
    definition::{Definition, HIDDEN, Kind, definition, definitions},
    error::in_one_line,
    nearest::nearest,
    tables, yaml,
};

/// Longest file that is read, in bytes.
const MAX_BYTES: u64 = 1 << 20;

/// What the file at `path` says.
///
/// # Errors
/// [`SettingsError`], on the first thing that is wrong.
pub fn read_file(path: &Path) -> Result<Layer, SettingsError> {
    let unreadable = |cause: String| SettingsError::Unreadable { path: path.display().to_string(), cause };
    let format = match path.extension().and_then(|ending| ending.to_str()) {
        Some("toml") => FileFormat::Toml,
        Some("yaml" | "yml") => FileFormat::Yaml,
        _ => return Err(unreadable("its name ends with none of .toml, .yaml and .yml".into())),
    };
    let bytes = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
    if bytes > MAX_BYTES {
        return Err(unreadable(format!("it is {bytes} bytes long, at most {MAX_BYTES} are read")));
    }
    let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
    parse_file(&path.display().to_string(), format, &text)
}

/// What a file's text says; `path` is for messages.
///
/// # Errors
/// [`SettingsError`], on the first thing that is wrong.
pub fn parse_file(path: &str, format: FileFormat, text: &str) -> Result<Layer, SettingsError> {
    if format == FileFormat::Yaml {
        yaml::check(path, text)?;
    }
    let sections = format.parse(None, text).map_err(|error| malformed(path, text, error.as_ref()))?;
    let mut sections: Vec<(String, Value)> = sections.into_iter().collect();
    // The reader's order is that of a hash table; the first thing that is wrong should be the same one each time. Tables
    // that are other ways to write a setting come behind the sections of settings.
    sections.sort_by(|(one, _), (other, _)| {
        let rank = |name: &str| tables::setting_of(name).is_some();
        (rank(one), one).cmp(&(rank(other), other))
    });
    let mut layer = Layer::default();
    for (section, value) in sections {
        if let Some(setting) = tables::setting_of(&section) {
            let values = tables::values(path, &section, &value.kind)?;
            if layer.get(setting).is_some() {
                let (place, expected) = (path.to_owned(), "one of the two".to_owned());
                let value = format!("there beside {}", setting.key);
                return Err(SettingsError::WrongKind { place, name: section, value, expected });
            }
            setting.check(path, &section, &values)?;
            layer.set(setting, values);
            continue;
        }
        let known = definitions().iter().any(|definition| definition.section() == section);
        match value.kind {
            ValueKind::Table(settings) if known || !settings.is_empty() => {
                let mut settings: Vec<(String, Value)> = settings.into_iter().collect();
                settings.sort_by(|(one, _), (other, _)| one.cmp(other));
                for (name, value) in settings {
                    set(&mut layer, path, format!("{section}.{name}"), &value.kind)?;
                }
            }
            // In YAML, a section whose settings are all commented out.
            ValueKind::Nil if known => {}
            other if known => {
                let expected = "a table of settings".to_owned();
                // Not which one: it may be a key in the wrong place.
                let value = if matches!(other, ValueKind::Array(_)) { "a list" } else { "a single value" };
                let (place, value) = (path.to_owned(), value.to_owned());
                return Err(SettingsError::WrongKind { place, name: section, value, expected });
            }
            _ => {
                let nearest = nearest(&section, definitions().iter().map(Definition::section), ".");
                return Err(unknown(path, &section, nearest));
            }
        }
    }
    Ok(layer)
}

fn set(layer: &mut Layer, path: &str, key: String, value: &ValueKind) -> Result<(), SettingsError> {
    let Some(definition) = definition(&key) else {
        let nearest = nearest(&key, definitions().iter().map(|definition| definition.key.as_str()), ".");
        return Err(unknown(path, &key, nearest));
    };
    let values = match value {
        ValueKind::Array(values) if definition.is_list() => {
            values.iter().map(|value| text(definition, path, &value.kind)).collect::<Result<_, _>>()?
        }
        ValueKind::String(text) => definition.split(text),
        value => vec![text(definition, path, value)?],
    };
    definition.check(path, &key, &values)?;
    layer.set(definition, values);
    Ok(())
}

fn unknown(path: &str, name: &str, nearest: String) -> SettingsError {
    // A quoted name can have a line's end in it.
    SettingsError::Unknown { place: path.to_owned(), name: name.escape_debug().to_string(), nearest }
}

/// One value, as the command line would have it.
fn text(definition: &Definition, path: &str, value: &ValueKind) -> Result<String, SettingsError> {
    match (definition.kind, value) {
        // A text for any kind: TOML's numbers end where half of ours do, and YAML has its own idea of what is true.
        (_, ValueKind::String(text)) => Ok(text.clone()),
        (Kind::Switch, ValueKind::Boolean(_))
        | (Kind::Number, ValueKind::I64(_) | ValueKind::U64(_) | ValueKind::I128(_) | ValueKind::U128(_)) => {
            Ok(value.to_string())
        }
        (Kind::Ratio, ValueKind::Float(_) | ValueKind::I64(_)) => Ok(value.to_string()),
        // No number for a text: YAML takes 0755 for 493.
        _ => Err(SettingsError::WrongKind {
            place: path.to_owned(),
            name: definition.key.clone(),
            value: if definition.is_secret() { HIDDEN.to_owned() } else { described(value) },
            expected: definition.expected(),
        }),
    }
}

/// A value of the wrong kind, for a message.
fn described(value: &ValueKind) -> String {
    match value {
        ValueKind::Nil => "empty".to_owned(),
        ValueKind::Table(_) => "a table".to_owned(),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::String(text) => format!("{text:?}"),
        other => other.to_string(),
    }
}

/// Where the text ends to be TOML or YAML. What the libraries say more of it can hold the text, and with it a key.
fn malformed(path: &str, text: &str, error: &(dyn Error + Send + Sync + 'static)) -> SettingsError {
    let (line, cause) = if let Some(error) = error.downcast_ref::<toml::de::Error>() {
        let start = error.span().map_or(0, |span| span.start);
        (1 + text.get(..start).unwrap_or_default().matches('\n').count(), error.message())
    } else if let Some(error) = error.downcast_ref::<ScanError>() {
        (error.marker().line(), error.info())
    } else {
        (1, "not one document of sections with settings in them")
    };
    SettingsError::Malformed { path: path.to_owned(), line, cause: in_one_line(cause) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toml(text: &str) -> Result<Layer, SettingsError> {
        parse_file("a.toml", FileFormat::Toml, text)
    }

    fn yaml(text: &str) -> Result<Layer, SettingsError> {
        parse_file("a.yaml", FileFormat::Yaml, text)
    }

    #[test]
    fn toml_and_yaml_say_the_same() {
        let a = toml(
            "[fetch]\noff = true\nallow_ports = [80, 8080]\nallow_domains = 'example.org, *.example.com'\n\
             [http]\nlisten = 'off'\n[auth]\nkeys = ['with,comma', '12345678']",
        )
        .unwrap();
        let b = yaml(
            "fetch:\n  off: true\n  allow_ports: 80,8080\n  allow_domains:\n  - example.org\n  - '*.example.com'\n\
             http:\n  listen: off\nauth:\n  keys:\n  - with,comma\n  - '12345678'\ngrpc:\n",
        )
        .unwrap();
        assert_eq!(a, b);
        let keys = a.get(definition("auth.keys").unwrap()).unwrap();
        assert_eq!(keys, ["with,comma", "12345678"]);
        let ports = a.get(definition("fetch.allow_ports").unwrap()).unwrap();
        assert_eq!(ports, ["80", "8080"]);
        assert_eq!(yaml("").unwrap(), Layer::default());
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_nearest_known() {
        let told = |text| toml(text).unwrap_err().to_string();
        assert_eq!(
            told("[fetch]\nmax_byte = 1"),
            "a.toml: fetch.max_byte is no setting, did you mean fetch.max_bytes?"
        );
        assert_eq!(told("[fetsh]"), "a.toml: fetsh is no setting, did you mean fetch?");
        assert_eq!(told("fetch_off = true"), "a.toml: fetch_off is no setting, did you mean fetch?");
        assert!(told("[grpc]\nmax_image_bytes = 1").ends_with("did you mean limits.max_image_bytes?"));
        assert!(told("[\"a\\nb\"]\nc = 1").contains("a\\nb.c is no setting"));
        assert!(told("['a[999999999]']\nb = 1").contains("a[999999999].b is no setting"));
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_told_with_what_is_expected() {
        for (text, told) in [
            ("[fetch]\nmax_bytes = 1.5", "a.toml: fetch.max_bytes is 1.5, expected a whole number (BYTES)"),
            (
                "[fetch]\nmax_bytes = [1]",
                "a.toml: fetch.max_bytes is a list, expected a whole number (BYTES)",
            ),
            ("[fetch]\nmax_bytes = -1", "is \"-1\", expected a whole number (BYTES): invalid digit"),
            ("[fetch]\noff = 1", "a.toml: fetch.off is 1, expected true or false"),
            ("[fetch]\nallow_ports = [80, true]", "is true, expected a list of whole numbers (PORT)"),
            ("[fetch.max_bytes]\na = 1", "a.toml: fetch.max_bytes is a table"),
            ("[tls]\ncert_file = 3", "a.toml: tls.cert_file is 3, expected text in quotes (FILE)"),
            ("fetch = 3", "a.toml: fetch is a single value, expected a table of settings"),
            ("[fetch]\noff = tru", "a.toml, line 2: "),
        ] {
            let message = toml(text).unwrap_err().to_string();
            assert!(message.contains(told) && !message.contains('\n'), "{message}");
        }
        let message = yaml("fetch:\n  off: true\n  off: true\n").unwrap_err().to_string();
        assert!(message.starts_with("a.yaml, line 3: ") && message.contains("duplicated key"), "{message}");
        let message = yaml("fetch:\n  off:").unwrap_err().to_string();
        assert_eq!(message, "a.yaml: fetch.off is empty, expected true or false");
    }

    #[test]
    fn no_message_holds_a_key() {
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
    fn a_file_of_another_kind_is_not_read() {
        let folder = tempfile::tempdir().unwrap();
        let told = |name: &str| read_file(&folder.path().join(name)).unwrap_err().to_string();
        assert!(told("a.json").contains(".toml"));
        assert!(told("a.toml").contains("No such file"));
        let long = folder.path().join("long.yaml");
        std::fs::File::create(&long).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(told("long.yaml").contains("at most 1048576"));
    }
}
