//! The definition of every setting: names, kind, default and help.
//!
//! The `Args` of [`Settings`] define them. The command line, the environment, files and the
//! generated documents read them from here.

use std::{
    any::TypeId,
    num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize},
    sync::LazyLock,
};

use clap::{Arg, ArgAction, Args as _, Command};

use crate::config::{
    error::{SettingsError, in_one_line, one_line},
    sections::telemetry::Ratio,
    settings::Settings,
    units::Unit,
};

/// The prefix of the environment variable of every setting.
pub(crate) const VARIABLE_PREFIX: &str = "BLIP_SERVE__";

/// The text that replaces a secret in messages.
pub(crate) const HIDDEN: &str = "(hidden)";

/// The begin of the last paragraph of a setting's help, if a default is not a value.
const DEFAULT_NOTE: &str = "[default: ";

/// How a value is written in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Switch,
    /// A whole number.
    Number,
    /// A number from 0 to 1.
    Ratio,
    /// A string.
    Text,
}

/// The definition of a setting.
#[derive(Clone, Debug)]
pub struct Definition {
    /// `section.name`, its name in a file.
    pub key: String,
    /// `BLIP_SERVE__SECTION__NAME`, its name in the environment.
    pub variable: String,
    /// How its value, or each of its values, is written.
    pub kind: Kind,
    /// The argument that defines it.
    argument: Arg,
}

/// Returns the definitions of all settings. Those of a section are adjacent.
#[must_use]
pub fn definitions() -> &'static [Definition] {
    static DEFINITIONS: LazyLock<Vec<Definition>> = LazyLock::new(|| {
        let command = Settings::augment_args(Command::new("blip-serve"));
        command.get_arguments().filter_map(Definition::new).collect()
    });
    &DEFINITIONS
}

/// Returns the definition of a key.
#[must_use]
pub fn definition(key: &str) -> Option<&'static Definition> {
    definitions().iter().find(|definition| definition.key == key)
}

/// Returns the environment variable of a key.
pub(crate) fn variable_of(key: &str) -> String {
    format!("{VARIABLE_PREFIX}{}", key.replacen('.', "__", 1).to_uppercase())
}

impl Definition {
    /// Returns `None` for an argument without a variable of a setting.
    fn new(argument: &Arg) -> Option<Self> {
        let variable = argument.get_env()?.to_str()?.to_owned();
        let (section, name) = variable.strip_prefix(VARIABLE_PREFIX)?.split_once("__")?;
        let key = format!("{section}.{name}").to_lowercase();
        Some(Self { key, kind: kind(argument), argument: argument.clone(), variable })
    }

    /// Returns the table of a file that holds the setting.
    #[must_use]
    pub fn section(&self) -> &str {
        self.key.split('.').next().unwrap_or_default()
    }

    /// Returns its name in that table.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.split('.').next_back().unwrap_or_default()
    }

    /// Returns the heading of its section.
    #[must_use]
    pub fn heading(&self) -> &str {
        self.argument.get_help_heading().unwrap_or_default()
    }

    /// Returns its name on the command line, without the dashes.
    #[must_use]
    pub fn flag(&self) -> &str {
        self.argument.get_long().unwrap_or_default()
    }

    /// Returns its name inside the command-line parser.
    pub(crate) fn id(&self) -> &str {
        self.argument.get_id().as_str()
    }

    /// Whether it is a list.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.argument.get_action(), ArgAction::Append)
    }

    /// Whether its value is secret.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.argument.is_hide_env_values_set()
    }

    /// Whether it is a switch that is on by default. Its flag takes an optional value.
    #[must_use]
    pub fn is_on_by_default(&self) -> bool {
        self.kind == Kind::Switch && !self.is_plain_flag()
    }

    /// Whether its flag takes no value.
    fn is_plain_flag(&self) -> bool {
        matches!(self.argument.get_action(), ArgAction::SetTrue)
    }

    /// Returns the placeholder of its value, such as `BYTES`. A switch has none.
    #[must_use]
    pub fn value_name(&self) -> Option<&str> {
        let [name] = self.argument.get_value_names()? else { return None };
        (self.kind != Kind::Switch).then_some(name.as_str())
    }

    /// Returns the unit of its value, if values can have units.
    #[must_use]
    pub fn unit(&self) -> Option<Unit> {
        self.value_name().filter(|_| self.kind == Kind::Number).and_then(Unit::of_placeholder)
    }

    /// Returns a value without a unit, in the unit of the setting. An invalid value stays as it is.
    #[must_use]
    pub fn without_unit(&self, value: String) -> String {
        self.unit().and_then(|unit| unit.to_number(&value).ok()).unwrap_or(value)
    }

    /// Returns its help in one line, without a full stop.
    #[must_use]
    pub fn summary(&self) -> String {
        self.paragraphs().into_iter().next().unwrap_or_default()
    }

    /// Returns the paragraphs of its help after the summary, without the default.
    #[must_use]
    pub fn details(&self) -> Vec<String> {
        let mut paragraphs = self.paragraphs();
        paragraphs.retain(|paragraph| !paragraph.starts_with(DEFAULT_NOTE));
        paragraphs.drain(..paragraphs.len().min(1));
        paragraphs
    }

    /// Returns its whole help in one line: the summary alone, or as the first of several sentences.
    #[must_use]
    pub fn help(&self) -> String {
        let details = self.details();
        let end = if details.is_empty() { "" } else { ". " };
        format!("{}{end}{}", self.summary(), details.join(" "))
    }

    /// Returns its default in words, if that is not a value.
    #[must_use]
    pub fn default_note(&self) -> Option<String> {
        let note =
            |paragraph: String| Some(paragraph.strip_prefix(DEFAULT_NOTE)?.strip_suffix(']')?.to_owned());
        self.paragraphs().into_iter().find_map(note)
    }

    /// Returns its help, each paragraph in one line.
    fn paragraphs(&self) -> Vec<String> {
        let help = self.argument.get_long_help().or_else(|| self.argument.get_help());
        let help = help.map(ToString::to_string).unwrap_or_default();
        help.split("\n\n").map(in_one_line).collect()
    }

    /// Returns its default values, if it has any.
    #[must_use]
    pub fn default(&self) -> Option<Vec<String>> {
        if self.is_plain_flag() {
            return Some(vec![false.to_string()]);
        }
        let values = self.argument.get_default_values();
        let values: Vec<String> = values.iter().map(|value| value.to_string_lossy().into_owned()).collect();
        (self.is_list() || !values.is_empty()).then_some(values)
    }

    /// Returns the values allowed, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        let expected = match (self.kind, self.is_list()) {
            (Kind::Switch, _) => "true or false",
            (Kind::Number, false) => self.unit().map_or("a whole number", Unit::expected),
            (Kind::Number, true) => "a list of whole numbers",
            (Kind::Ratio, _) => "a number from 0 to 1",
            (Kind::Text, false) => "text in quotes",
            (Kind::Text, true) => "a list of texts in quotes",
        };
        self.value_name().map_or_else(|| expected.to_owned(), |name| format!("{expected} ({name})"))
    }

    /// Splits the text of a list at its commas. The text of any other setting is one value.
    #[must_use]
    pub fn split(&self, text: &str) -> Vec<String> {
        match (self.is_list(), text.trim()) {
            (false, _) => vec![text.to_owned()],
            (true, "") => Vec::new(),
            (true, text) => text.split(',').map(|value| value.trim().to_owned()).collect(),
        }
    }

    /// Checks values with the parser of the setting.
    ///
    /// # Errors
    /// [`SettingsError::BadValue`] or [`SettingsError::WrongKind`], for `name` in `place`.
    pub fn check(&'static self, place: &str, name: &str, values: &[String]) -> Result<(), SettingsError> {
        for value in values {
            let (place, name, expected) = (place.to_owned(), name.to_owned(), self.expected());
            let shown = if self.is_secret() { HIDDEN.to_owned() } else { format!("{value:?}") };
            if self.kind == Kind::Switch {
                let wrong = |_| SettingsError::WrongKind { place, name, value: shown, expected };
                value.parse::<bool>().map_err(wrong)?;
            } else {
                self.parse(value).map_err(|cause| {
                    let value = shown;
                    SettingsError::BadValue { place, name, value, expected, cause }
                })?;
            }
        }
        Ok(())
    }

    /// Parses one value, and returns the message of its parser on failure.
    pub(crate) fn parse(&'static self, value: &str) -> Result<(), String> {
        let value = self.unit().map_or_else(|| Ok(value.to_owned()), |unit| unit.to_number(value))?;
        let command = Command::new("blip-serve").no_binary_name(true).arg(self.plain_argument());
        let matches = command.try_get_matches_from([format!("--{}={value}", self.flag())]);
        matches.map(drop).map_err(|error| {
            let source = std::error::Error::source(&error).map(ToString::to_string);
            source.map_or_else(|| one_line(&error), |cause| in_one_line(&cause))
        })
    }

    /// Returns the command line that sets the setting to `values`.
    pub(crate) fn to_arguments(&self, values: &[String]) -> Vec<String> {
        let flag = self.flag();
        if self.is_plain_flag() {
            let is_on = values.iter().all(|value| value == "true");
            return is_on.then(|| format!("--{flag}")).into_iter().collect();
        }
        values.iter().map(|value| format!("--{flag}={value}")).collect()
    }

    /// Returns its argument without default, environment variable and requirements.
    /// [`crate::config::sources::resolve::Sources`] applies those.
    pub(crate) fn plain_argument(&'static self) -> Arg {
        let mut plain = Arg::new(self.argument.get_id().clone())
            .long(self.flag())
            .short(self.argument.get_short())
            .action(self.argument.get_action().clone())
            .value_parser(self.argument.get_value_parser().clone())
            .value_hint(self.argument.get_value_hint());
        if self.is_on_by_default() {
            plain = plain.num_args(0..=1).require_equals(true).default_missing_value("true");
            plain = plain.value_name("true|false").hide_possible_values(true);
        }
        if let Some(name) = self.value_name() {
            plain = plain.value_name(name);
        }
        plain
    }

    /// Returns its argument with help, for a command line.
    pub(crate) fn shown_argument(&'static self) -> Arg {
        let mut notes = vec![format!("[env: {}]", self.variable)];
        if let Some(default) = self.default_note().or_else(|| self.default_text()) {
            notes.push(format!("[default: {default}]"));
        }
        let summary = self.summary();
        let short = format!("{summary} {}", notes.join(" "));
        let long = [vec![summary], self.details(), vec![notes.join("\n")]].concat().join("\n\n");
        let mut shown = self.plain_argument().help(short).long_help(long).help_heading(self.heading());
        if let Some(delimiter) = self.argument.get_value_delimiter() {
            shown = shown.value_delimiter(delimiter);
        }
        shown
    }

    /// Returns its default values as a command line holds them. A switch that is off has none.
    fn default_text(&self) -> Option<String> {
        let values = self.default().filter(|_| !self.is_plain_flag())?;
        (!values.is_empty()).then(|| values.join(","))
    }
}

fn kind(argument: &Arg) -> Kind {
    let numbers = [
        TypeId::of::<u16>(),
        TypeId::of::<u32>(),
        TypeId::of::<u64>(),
        TypeId::of::<usize>(),
        TypeId::of::<NonZeroU16>(),
        TypeId::of::<NonZeroU32>(),
        TypeId::of::<NonZeroU64>(),
        TypeId::of::<NonZeroUsize>(),
    ];
    let parsed = argument.get_value_parser().type_id();
    match argument.get_action() {
        ArgAction::SetTrue => Kind::Switch,
        _ if parsed == TypeId::of::<bool>() => Kind::Switch,
        _ if numbers.iter().any(|number| parsed == *number) => Kind::Number,
        _ if parsed == TypeId::of::<Ratio>() => Kind::Ratio,
        _ => Kind::Text,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_argument_is_a_setting_with_unique_names() {
        let command = Settings::augment_args(Command::new("blip-serve"));
        assert_eq!(command.get_arguments().count(), definitions().len());
        let mut names = HashSet::new();
        for definition in definitions() {
            assert!(!definition.heading().is_empty() && !definition.flag().is_empty(), "{definition:?}");
            assert_eq!(definition.variable, variable_of(&definition.key));
            assert_eq!(definition.variable.matches("__").count(), 2, "{}", definition.variable);
            assert!(names.insert(definition.key.clone()) && names.insert(definition.flag().to_owned()));
        }
    }

    #[test]
    fn every_setting_has_a_short_summary_and_full_sentences() {
        for definition in definitions() {
            let (summary, details) = (definition.summary(), definition.details());
            assert!((1..=80).contains(&summary.chars().count()), "{}: {summary}", definition.key);
            assert!(!summary.ends_with('.') && !summary.contains(". "), "{summary}");
            assert!(details.iter().all(|paragraph| paragraph.ends_with('.')), "{details:?}");
            assert!(!details.concat().contains("default: "), "{details:?}");
        }
    }

    #[test]
    fn settings_of_a_section_are_adjacent_under_one_heading() {
        let mut sections: Vec<(&str, &str)> =
            definitions().iter().map(|definition| (definition.section(), definition.heading())).collect();
        sections.dedup();
        let distinct: HashSet<&str> = sections.iter().map(|(section, _)| *section).collect();
        assert_eq!(sections.len(), distinct.len(), "{sections:?}");
    }

    #[test]
    fn computed_default_is_a_note() {
        let note = |key: &str| definition(key).unwrap().default_note();
        assert_eq!(note("preprocess.threads").as_deref(), Some("one for each CPU"));
        assert_eq!(note("fetch.allow_domains").as_deref(), Some("all"));
        assert_eq!(note("fetch.allow_ports"), None);
    }

    #[test]
    fn default_is_a_valid_value() {
        for definition in definitions() {
            let default = definition.default().unwrap_or_default();
            definition.check("the default", &definition.key, &default).unwrap();
        }
    }

    #[test]
    fn switches_show_their_default_and_their_optional_value() {
        let help = |key: &str| definition(key).unwrap().shown_argument().get_help().unwrap().to_string();
        assert!(help("fetch.enabled").ends_with("[env: BLIP_SERVE__FETCH__ENABLED] [default: true]"));
        assert!(help("auth.insecure").ends_with("[env: BLIP_SERVE__AUTH__INSECURE]"));
        let usage = |key: &str| {
            let command = Command::new("blip-serve").arg(definition(key).unwrap().shown_argument());
            command.clone().render_help().to_string()
        };
        assert!(usage("fetch.enabled").contains("--fetch[=<true|false>]  "));
        assert!(usage("auth.insecure").contains("--insecure  "));
    }

    #[test]
    fn invalid_value_is_reported_with_place_and_expectation() {
        let error = |key: &str, value: &str| {
            definition(key).unwrap().check("a.toml", key, &[value.to_owned()]).unwrap_err().to_string()
        };
        assert_eq!(
            error("fetch.max_bytes", "lots"),
            "a.toml: invalid fetch.max_bytes: \"lots\", expected a whole number, or a size such as 4GiB \
             (BYTES): invalid digit found in string"
        );
        for switch in ["fetch.enabled", "auth.insecure"] {
            let expected = format!("a.toml: invalid {switch}: \"yes\", expected true or false");
            assert_eq!(error(switch, "yes"), expected);
        }
        assert!(error("model.device", "gpu").contains("cuda:N"));
        assert!(error("tls.cert_file", "").contains("expected text in quotes (FILE)"));
        let secret = error("auth.keys", "hunter2");
        assert!(secret.contains("auth.keys") && secret.contains("7 bytes"), "{secret}");
        assert!(!secret.contains("hunter2"), "{secret}");
    }
}
