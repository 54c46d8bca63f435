//! Settings as TOML and JSON, and the example file.

use std::fmt::Write as _;

use toml::Value;

use crate::config::{
    schema::{Definition, Kind, definitions},
    sources::resolve::ResolvedSetting,
};

/// The maximum width of text in a comment of the example, in characters.
const WIDTH: usize = 98;

/// The text that replaces a secret. It is too short for a key, so a printed file cannot be used by
/// mistake.
const MASK: &str = "***";

/// Returns the settings in effect as a TOML file that yields the same settings, except for secrets.
#[must_use]
pub fn effective_toml(effective: &[ResolvedSetting]) -> String {
    let mut page = String::new();
    let mut section = "";
    for ResolvedSetting { definition, values, origin } in effective {
        if definition.section() != section {
            let gap = if section.is_empty() { "" } else { "\n" };
            section = definition.section();
            let _ = writeln!(page, "{gap}[{section}]");
        }
        let _ = match values {
            Some(values) => {
                writeln!(page, "{}  # {origin}", assignment(definition, &masked(definition, values)))
            }
            None => writeln!(page, "{}", unset(definition)),
        };
    }
    page
}

/// Returns the settings in effect as JSON: section, name, value and origin.
#[must_use]
pub fn effective_json(effective: &[ResolvedSetting]) -> serde_json::Value {
    let mut page = serde_json::Map::new();
    for ResolvedSetting { definition, values, origin } in effective {
        let value = values.as_ref().map(|values| json(definition, &masked(definition, values)));
        let section = page.entry(definition.section()).or_insert_with(|| serde_json::Map::new().into());
        if let Some(section) = section.as_object_mut() {
            let entry = serde_json::json!({ "value": value, "origin": origin.to_string() });
            section.insert(definition.name().to_owned(), entry);
        }
    }
    page.into()
}

/// Returns the example file: every setting with its help and its default, commented out.
#[must_use]
pub fn example() -> String {
    let mut page = String::from(
        "# All settings of blip-serve with their defaults. Generated from their definitions.\n\
         # See docs/operations/configuration-guide.md and docs/reference/configuration.md.\n\
         #\n\
         # blip-serve serve --config FILE, or BLIP_SERVE__CONFIG=FILE, reads such a file. To change a\n\
         # setting, remove the # at the start of its line. Environment variables and flags override the\n\
         # file. Paths are relative to the directory in which the server starts.\n",
    );
    let mut section = "";
    for definition in definitions() {
        if definition.section() != section {
            section = definition.section();
            let _ = write!(page, "\n# {}\n[{section}]\n", definition.heading());
        }
        page.push('\n');
        for line in wrapped(&definition.help(), WIDTH) {
            let _ = writeln!(page, "# {line}");
        }
        let _ = match definition.default() {
            Some(values) => writeln!(page, "#{}", assignment(definition, &values)),
            None => writeln!(page, "{}", unset(definition)),
        };
    }
    page
}

/// Returns `name = value`.
fn assignment(definition: &Definition, values: &[String]) -> String {
    let mut values = values.iter().map(|value| typed(definition, value));
    let value = match definition.is_list() {
        true => Value::Array(values.collect()),
        false => values.next().unwrap_or_else(|| String::new().into()),
    };
    format!("{} = {value}", definition.name())
}

/// Returns a comment for a setting whose default is not a value.
fn unset(definition: &Definition) -> String {
    let name = definition.name();
    let value = definition.value_name().unwrap_or_default();
    match definition.default_note() {
        Some(note) => format!("# {name} = {value}  (default: {note})"),
        None => format!("# {name} = {value}  (default: none)"),
    }
}

fn typed(definition: &Definition, value: &str) -> Value {
    match definition.kind {
        Kind::Switch => Value::Boolean(value == "true"),
        // A number outside the range of TOML is written as text, which every kind accepts.
        Kind::Number => value.parse().map_or_else(|_| value.into(), Value::Integer),
        Kind::Ratio => value.parse().map_or_else(|_| value.into(), Value::Float),
        Kind::Text => value.into(),
    }
}

fn json(definition: &Definition, values: &[String]) -> serde_json::Value {
    let mut values = values.iter().map(|value| match definition.kind {
        Kind::Switch => serde_json::Value::Bool(value == "true"),
        Kind::Number => value.parse::<u64>().map_or_else(|_| value.as_str().into(), Into::into),
        Kind::Ratio => value.parse::<f64>().map_or_else(|_| value.as_str().into(), Into::into),
        Kind::Text => value.as_str().into(),
    });
    if definition.is_list() { values.collect() } else { values.next().into() }
}

fn masked(definition: &Definition, values: &[String]) -> Vec<String> {
    let mask = |value: &String| if definition.is_secret() { MASK.to_owned() } else { value.clone() };
    values.iter().map(mask).collect()
}

/// Wraps a text at spaces to lines of at most `width` characters. A longer word is one line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use config::FileFormat;

    use super::*;
    use crate::config::{
        sources::{
            environment::environment,
            file::parse_file,
            resolve::{Origin, Sources},
        },
        tests::assert_committed,
    };

    fn of_toml(text: &str) -> Sources {
        let file = parse_file("a.toml", FileFormat::Toml, text).unwrap();
        Sources { file: Some(("a.toml".to_owned(), file)), ..Sources::default() }
    }

    #[test]
    fn example_equals_committed_file() {
        assert_committed("deploy/blip-serve.example.toml", &example());
    }

    #[test]
    fn example_sets_nothing_and_uncommented_sets_the_defaults() {
        let defaults = Sources::default().resolve().unwrap();
        let example = example();
        let commented = of_toml(&example).resolve().unwrap().effective;
        assert!(commented.iter().all(|setting| setting.origin == Origin::Default));

        let uncommented: String = example
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let resolved = of_toml(&uncommented).resolve().unwrap();
        assert_eq!(format!("{:?}", resolved.settings), format!("{:?}", defaults.settings));
        for (setting, default) in resolved.effective.iter().zip(&defaults.effective) {
            assert_eq!(setting.values, default.values);
            let origin =
                if default.values.is_some() { Origin::File("a.toml".into()) } else { Origin::Default };
            assert_eq!(setting.origin, origin, "{}", setting.definition.key);
        }
    }

    #[test]
    fn values_are_printed_with_their_origin() {
        let mut sources = of_toml("[fetch]\nenabled = false\nallow_ports = []");
        let variable = ("BLIP_SERVE__MODEL__SOURCE".into(), "blip #1".into());
        sources.environment = environment([variable], &[]).unwrap();
        let page = effective_toml(&sources.resolve().unwrap().effective);
        for expected in [
            "enabled = false  # file a.toml",
            "allow_ports = []  # file a.toml",
            "reflection = true  # default",
            "source = [\"blip #1\"]  # environment BLIP_SERVE__MODEL__SOURCE",
            "device = \"auto\"  # default",
            "# engine_threads = N  (default: one for each CPU; one on CUDA, and for models as small as the demo)",
        ] {
            assert!(page.lines().any(|line| line == expected), "{expected} is missing in {page}");
        }
        let page = effective_json(&sources.resolve().unwrap().effective);
        assert_eq!(page["fetch"]["enabled"], serde_json::json!({ "value": false, "origin": "file a.toml" }));
        assert_eq!(page["fetch"]["allow_ports"]["value"], serde_json::json!([]));
        assert_eq!(page["grpc"]["max_connections"]["value"], 4096);
        assert_eq!(page["tls"]["key_file"]["value"], serde_json::Value::Null);
    }

    #[test]
    fn numbers_outside_the_range_of_toml_are_printed_as_text() {
        let page = "[limits]\nmax_image_bytes = 0x10\nmax_question_bytes = '+3'\n\
                    max_image_pixels = '18446744073709551615'";
        let page = effective_toml(&of_toml(page).resolve().unwrap().effective);
        for line in
            ["max_image_bytes = 16", "max_question_bytes = 3", "max_image_pixels = \"18446744073709551615\""]
        {
            assert!(page.contains(&format!("{line}  # file")), "{line} is missing in {page}");
        }
    }

    #[test]
    fn secrets_are_masked_and_the_mask_is_no_key() {
        let effective =
            of_toml("[auth]\nkeys = ['correct-horse', 'battery-staple']").resolve().unwrap().effective;
        let page = effective_toml(&effective);
        assert!(page.contains("keys = [\"***\", \"***\"]  # file a.toml"), "{page}");
        assert!(!(page.clone() + &effective_json(&effective).to_string()).contains("horse"));
        let error = parse_file("b.toml", FileFormat::Toml, &page).unwrap_err().to_string();
        assert!(error.contains("auth.keys") && error.contains("3 bytes"), "{error}");
    }

    #[test]
    fn comments_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("internationalisation", 7), ["internationalisation"]);
    }
}
