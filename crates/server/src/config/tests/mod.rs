//! Tests over every setting, and what they share.

mod precedence;
mod printing;
mod renamed;

use std::ffi::OsString;

use clap::{Args as _, Command, FromArgMatches as _};
use config::FileFormat;

use crate::config::*;

/// Texts with at least two valid values for every setting except switches.
pub(crate) const TEXTS: &[&str] = &[
    "cpu",
    "cuda:1",
    "f16",
    "bf16",
    "127.0.0.1:1",
    "[::1]:2",
    "10.0.0.0/8",
    "192.168.7.0/24",
    "example.org",
    "*.example.com",
    "a/b.pem",
    "/etc/a b.toml",
    "/predict",
    "/v1/endpoints/7:predict",
    "correct-horse",
    "battery-staple",
    "7",
    "11",
    "13",
    "4097",
    "0.25",
    "0.5",
    "off",
    "auto",
    "int8",
    "fp8",
    "native",
    "libtorch",
    "https://example.org",
    "https://example.com:8443",
    "grpc",
    "http/protobuf",
    "vqa=lists/vqa.txt",
    "colours=lists/colours.json",
    "hf",
    "salesforce",
    "exact",
    "tanh",
    "process",
    "thread",
    "# \"quoted\" = \\ 'text' \n[fetch]",
];

/// Returns those of `texts` that are valid for a setting.
pub(crate) fn valid<'a>(definition: &'static Definition, texts: &[&'a str]) -> Vec<&'a str> {
    let is_valid = |text: &&&str| definition.check("", "", &[(**text).to_owned()]).is_ok();
    texts.iter().filter(is_valid).copied().collect()
}

/// Returns a value of a setting that differs from its default.
pub(crate) fn changed(definition: &'static Definition) -> &'static str {
    let default = definition.default().unwrap_or_default();
    let texts: &[&str] = if definition.kind == Kind::Switch { &["true", "false"] } else { TEXTS };
    let is_changed = |value: &&str| !default.contains(&(**value).to_owned());
    valid(definition, texts).into_iter().find(is_changed).expect("TEXTS has a value for every setting")
}

/// Returns the line of a file that sets `key`.
pub(crate) fn line(definition: &Definition, key: &str, values: &[&str]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| toml::Value::from(*value).to_string()).collect();
    let value = if definition.is_list() { format!("[{}]", quoted.join(",")) } else { quoted.concat() };
    format!("{key} = {value}\n")
}

/// Reads a TOML file.
pub(crate) fn file(text: &str) -> Result<Option<(String, SourceValues)>, SettingsError> {
    Ok(Some(("a.toml".to_owned(), parse_file("a.toml", FileFormat::Toml, text)?)))
}

/// Reads one environment variable.
pub(crate) fn variable(name: &str, value: &str) -> Result<SourceValues, SettingsError> {
    environment([(OsString::from(name), OsString::from(value))], &[])
}

/// Reads a command line.
pub(crate) fn command_line<'a>(
    flags: impl IntoIterator<Item = &'a str>,
) -> Result<SourceValues, clap::Error> {
    let command = CliArgs::augment_args(Command::new("blip-serve").no_binary_name(true));
    let args = CliArgs::from_arg_matches(&command.try_get_matches_from(flags)?)?;
    Ok(args.into_values())
}

/// Returns the flag that sets a setting.
pub(crate) fn flag(definition: &Definition, value: &str) -> String {
    definition.to_arguments(&[value.to_owned()]).concat()
}

/// Compares a file of this repository with its generated content, or writes it if `UPDATE_DOCS` is
/// set.
pub(crate) fn assert_committed(path: &str, generated: &str) {
    let file = format!("{}/../../{path}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(&file, generated).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap();
    assert!(committed == generated, "{path} is stale: run UPDATE_DOCS=1 cargo test -p server committed");
}

#[test]
fn command_line_is_well_formed() {
    CliArgs::augment_args(Command::new("blip-serve")).debug_assert();
}

#[test]
fn default_is_the_demo_model_on_loopback() {
    let settings = Settings::default();
    assert_eq!(settings.model.models, [ModelChoice::of_source("demo")]);
    assert!(settings.grpc.listen.ip().is_loopback());
    assert!(settings.limits.max_image_bytes <= settings.grpc.max_message_bytes);
    assert!(settings.grpc.max_message_bytes <= settings.grpc.max_request_memory_bytes);
}
