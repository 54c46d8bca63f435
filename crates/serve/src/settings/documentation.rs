//! `docs/configuration.md`, generated from the definitions.

use std::fmt::Write as _;

use super::definition::{Definition, definitions};

/// `docs/configuration.md`, whole.
#[must_use]
pub fn documentation() -> String {
    let mut page = String::from(ABOUT);
    let mut section = "";
    for definition in definitions() {
        if definition.section() != section {
            section = definition.section();
            let _ = write!(page, "\n## {} (`{section}`)\n\n{HEAD}", definition.heading());
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

fn flag(definition: &Definition) -> String {
    let flag = definition.flag();
    definition.value_name().map_or_else(|| format!("--{flag}"), |name| format!("--{flag} {name}"))
}

fn default(definition: &Definition) -> String {
    match (definition.default_note(), definition.default()) {
        (Some(note), _) => escaped(&note),
        (None, Some(values)) if !values.is_empty() => format!("`{}`", escaped(&values.join(","))),
        _ => "none".to_owned(),
    }
}

/// A text for a cell of a table.
fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*").replace('<', "&lt;")
}

const HEAD: &str = "| key | flag | environment variable | default | |\n| --- | --- | --- | --- | --- |\n";

const ABOUT: &str = "\
# Configuration

Generated from the definitions in `crates/serve/src/settings`; a test compares the two.

A setting is taken from the first of these that names it:

1. a flag of `blip-serve serve`,
2. its environment variable, `BLIP_SERVE__SECTION__NAME`,
3. the file that `--config FILE` or `BLIP_SERVE__CONFIG` names, TOML or YAML by the ending of its name,
4. its default.

In a file, a setting is a name in the table of its section:

```toml
[grpc]
listen = \"0.0.0.0:50051\"

[auth]
keys_file = \"/etc/blip-serve/keys.toml\"

[fetch]
allow_ports = [80, 443, 8443]
```

```yaml
grpc:
  listen: 0.0.0.0:50051
fetch:
  allow_ports: [80, 443, 8443]
```

- Lists are lists, or texts with commas; in the environment and on the command line they have commas. A list replaces the
  one below it, an empty one too.
- Texts are written as texts: `keys: [\"12345678\"]`, since YAML would read a number, and read some numbers otherwise.
- Paths, in a file too, are relative to the directory that the server is started in.
- `[[models]]` tables and the table `[candidate_lists]` are other ways to write `model.source` and `model.candidate_lists`, with
  more to say: see [models.md](models.md).
- A key or a variable of this pattern that is no setting is refused, with the nearest that is one; so is a value that its
  setting cannot have. Either is one line on standard error and exit code 2.
- YAML's references (`*name`) are not read.

`blip-serve config`, with the options and the environment of `serve`, prints what holds, each value with its origin, as a
file that says the same again; `--json` is for programs. API keys are masked there. `blip-serve config --example` prints
[deploy/blip-serve.example.toml](../deploy/blip-serve.example.toml): every setting, commented out.

The file of API keys (`auth.keys_file`) and the TLS files are read anew on SIGHUP, and when they have changed, every
`auth.reload_s` seconds; what is wrong with them is logged and the old ones stay. The log filter can be changed by
`PUT /log-filter` ([tracing.md](tracing.md)). Everything else holds from start to end.

Variables that are no settings of the server: `BLIP_SERVE__LOG` and `BLIP_SERVE__LOG_FORMAT`, the log filter of every
command (`--log`) and how its lines are written (`--log-format`); those of `blip-serve ask` and `health`, which their
help lists; and OpenTelemetry's own, whose names begin with `OTEL_` ([tracing.md](tracing.md)).
";

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Holds a file of this repository to what is generated for it, or writes it if that is wanted.
    pub(in crate::settings) fn assert_committed(path: &str, generated: &str) {
        let file = format!("{}/{path}", env!("CARGO_MANIFEST_DIR"));
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&file, generated).unwrap();
        }
        let committed = std::fs::read_to_string(&file).unwrap();
        assert!(committed == generated, "{path} is stale: run UPDATE_DOCS=1 cargo test committed");
    }

    #[test]
    fn the_committed_documentation_equals_the_definitions() {
        assert_committed("docs/configuration.md", &documentation());
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
}
