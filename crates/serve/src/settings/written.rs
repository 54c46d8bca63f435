//! Settings as TOML: those that hold, with the origin of each, and the example file.

use std::fmt::Write as _;

use toml::Value;

use super::{Definition, Effective, Kind, definition::definitions};

/// Widest line of comment in the example, in characters.
const WIDTH: usize = 110;

/// A secret as it is printed: too short to be a key, so that nobody feeds it back by mistake.
const MASK: &str = "***";

/// The settings that hold, as a file that says the same, but for secrets.
#[must_use]
pub fn effective_toml(effective: &[Effective]) -> String {
    let mut page = String::new();
    let mut section = "";
    for Effective { definition, values, origin } in effective {
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

/// The same for programs: section, name, value and origin.
#[must_use]
pub fn effective_json(effective: &[Effective]) -> serde_json::Value {
    let mut page = serde_json::Map::new();
    for Effective { definition, values, origin } in effective {
        let value = values.as_ref().map(|values| json(definition, &masked(definition, values)));
        let section = page.entry(definition.section()).or_insert_with(|| serde_json::Map::new().into());
        if let Some(section) = section.as_object_mut() {
            let entry = serde_json::json!({ "value": value, "origin": origin.to_string() });
            section.insert(definition.name().to_owned(), entry);
        }
    }
    page.into()
}

/// The example: every setting with its help, commented out as it is when it is left alone.
#[must_use]
pub fn example() -> String {
    let mut page = String::from(
        "# Settings of blip-serve, every one of them, as they are when they are left alone. Generated from their\n\
         # definitions; docs/configuration.md tells the rest.\n\
         #\n\
         # blip-serve serve --config FILE, or BLIP_SERVE__CONFIG=FILE, reads a file like this one. To set something, take\n\
         # the # away that its line begins with. Environment variables and flags win over the file. Paths are relative to\n\
         # the directory that the server is started in.\n",
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

/// `name = value`.
fn assignment(definition: &Definition, values: &[String]) -> String {
    let mut values = values.iter().map(|value| typed(definition, value));
    let value = match definition.is_list() {
        true => Value::Array(values.collect()),
        false => values.next().unwrap_or_else(|| String::new().into()),
    };
    format!("{} = {value}", definition.name())
}

/// A line for a setting that has no value when it is left alone.
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
        // What TOML has no number for is written as text, which is read just as well.
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

/// The words of a text in lines of at most `width` characters, but for longer words.
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
    use crate::settings::{Layers, Origin, documentation::tests::assert_committed, environment, parse_file};

    fn of_toml(text: &str) -> Layers {
        let layer = parse_file("a.toml", FileFormat::Toml, text).unwrap();
        Layers { file: Some(("a.toml".to_owned(), layer)), ..Layers::default() }
    }

    #[test]
    fn the_committed_example_equals_the_definitions() {
        assert_committed("deploy/blip-serve.example.toml", &example());
    }

    #[test]
    fn the_example_says_nothing_until_it_is_uncommented_and_then_the_defaults() {
        let defaults = Layers::default().resolve().unwrap();
        let example = example();
        let silent = of_toml(&example).resolve().unwrap().effective;
        assert!(silent.iter().all(|effective| effective.origin == Origin::Default));

        let uncommented: String = example
            .lines()
            .map(|line| match line.strip_prefix('#') {
                Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let said = of_toml(&uncommented).resolve().unwrap();
        assert_eq!(format!("{:?}", said.settings), format!("{:?}", defaults.settings));
        for (said, default) in said.effective.iter().zip(&defaults.effective) {
            assert_eq!(said.values, default.values);
            let origin =
                if default.values.is_some() { Origin::File("a.toml".into()) } else { Origin::Default };
            assert_eq!(said.origin, origin, "{}", said.definition.key);
        }
    }

    #[test]
    fn the_origin_of_each_value_stands_beside_it() {
        let mut layers = of_toml("[fetch]\noff = true\nallow_ports = []");
        let variable = ("BLIP_SERVE__MODEL__SOURCE".into(), "blip #1".into());
        layers.environment = environment([variable], &[]).unwrap();
        let page = effective_toml(&layers.resolve().unwrap().effective);
        for line in [
            "off = true  # file a.toml",
            "allow_ports = []  # file a.toml",
            "source = [\"blip #1\"]  # environment BLIP_SERVE__MODEL__SOURCE",
            "device = \"auto\"  # default",
            "# engine_threads = N  (default: one for each CPU, one in all for a model as small as the demo)",
        ] {
            assert!(page.lines().any(|there| there == line), "{line} is not in {page}");
        }
        let page = effective_json(&layers.resolve().unwrap().effective);
        assert_eq!(page["fetch"]["off"], serde_json::json!({ "value": true, "origin": "file a.toml" }));
        assert_eq!(page["fetch"]["allow_ports"]["value"], serde_json::json!([]));
        assert_eq!(page["grpc"]["max_connections"]["value"], 4096);
        assert_eq!(page["tls"]["key_file"]["value"], serde_json::Value::Null);
    }

    #[test]
    fn numbers_are_printed_as_toml_writes_them_and_those_that_it_cannot_as_text() {
        let page = "[limits]\nmax_image_bytes = 0x10\nmax_question_bytes = '+3'\nmax_image_pixels = '18446744073709551615'";
        let page = effective_toml(&of_toml(page).resolve().unwrap().effective);
        for line in
            ["max_image_bytes = 16", "max_question_bytes = 3", "max_image_pixels = \"18446744073709551615\""]
        {
            assert!(page.contains(&format!("{line}  # file")), "{line} is not in {page}");
        }
    }

    #[test]
    fn secrets_are_masked_and_the_mask_is_no_key() {
        let effective =
            of_toml("[auth]\nkeys = ['correct-horse', 'battery-staple']").resolve().unwrap().effective;
        let page = effective_toml(&effective);
        assert!(page.contains("keys = [\"***\", \"***\"]  # file a.toml"), "{page}");
        assert!(!(page.clone() + &effective_json(&effective).to_string()).contains("horse"));
        let told = parse_file("b.toml", FileFormat::Toml, &page).unwrap_err().to_string();
        assert!(told.contains("auth.keys") && told.contains("3 bytes long"), "{told}");
    }

    #[test]
    fn comments_are_wrapped_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("internationalisation", 7), ["internationalisation"]);
    }
}
