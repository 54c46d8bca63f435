//! `docs/reference/configuration.md`, generated from the definitions.

use std::fmt::Write as _;

use crate::config::schema::{Definition, definitions};

/// The text before the tables.
const ABOUT: &str = "\
# Configuration

Generated from the settings in `crates/server/src/config`. A test compares the two.

The [configuration guide](../operations/configuration-guide.md) explains how to set these options,
which ones to consider first, and which names changed.
";

const HEADER: &str = "| key | flag | environment variable | default | |\n| --- | --- | --- | --- | --- |\n";

/// Returns the content of `docs/reference/configuration.md`.
#[must_use]
pub fn documentation() -> String {
    let mut page = String::from(ABOUT);
    let mut section = "";
    for definition in definitions() {
        if definition.section() != section {
            section = definition.section();
            let _ = write!(page, "\n## {} (`{section}`)\n\n{HEADER}", definition.heading());
        }
        let _ = writeln!(
            page,
            "| `{}` | `{}` | `{}` | {} | {} |",
            definition.key,
            escaped(&flag(definition)),
            definition.variable,
            default(definition),
            escaped(&definition.help()),
        );
    }
    page
}

/// Returns the flag with its placeholder. A switch that is on by default is shown as it is turned
/// off.
fn flag(definition: &Definition) -> String {
    let flag = definition.flag();
    match definition.value_name() {
        Some(name) => format!("--{flag} {name}"),
        None if definition.is_on_by_default() => format!("--{flag}=false"),
        None => format!("--{flag}"),
    }
}

fn default(definition: &Definition) -> String {
    match (definition.default_note(), definition.default()) {
        (Some(note), _) => escaped(&note),
        (None, Some(values)) if !values.is_empty() => format!("`{}`", escaped(&values.join(","))),
        _ => "none".to_owned(),
    }
}

/// Escapes a text for a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::assert_committed;

    #[test]
    fn documentation_equals_committed_file() {
        assert_committed("docs/reference/configuration.md", &documentation());
    }

    #[test]
    fn every_setting_is_one_row_of_five_cells() {
        let page = documentation();
        for definition in definitions() {
            let row = format!("| `{}` |", definition.key);
            let rows: Vec<&str> = page.lines().filter(|line| line.starts_with(&row)).collect();
            let [row] = rows.as_slice() else { panic!("{rows:?}") };
            assert_eq!(row.replace("\\|", "").matches('|').count(), 6, "{row}");
        }
    }

    #[test]
    fn switch_that_is_on_is_shown_as_turned_off() {
        let page = documentation();
        assert!(page.contains("| `--fetch=false` | `BLIP_SERVE__FETCH__ENABLED` | `true` |"));
        assert!(page.contains("| `--insecure` | `BLIP_SERVE__AUTH__INSECURE` | `false` |"));
    }
}
