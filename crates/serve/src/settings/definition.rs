//! What there is to set: every setting with its names, its kind, its default and its help, as the `Args` of
//! [`Settings`] define it.

use std::{
    any::TypeId,
    num::{NonZeroU16, NonZeroU32, NonZeroU64, NonZeroUsize},
    sync::LazyLock,
};

use clap::{Arg, ArgAction, Args as _, Command};

use super::{
    Ratio, Settings, SettingsError,
    error::{in_one_line, one_line},
};

/// What the environment variable of every setting begins with.
pub(super) const VARIABLE_PREFIX: &str = "BLIP_SERVE__";

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

/// What is shown in place of a secret.
pub(super) const HIDDEN: &str = "(hidden)";

/// A setting.
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

/// All settings, in the order of their definition, those of a section together.
#[must_use]
pub fn definitions() -> &'static [Definition] {
    static DEFINITIONS: LazyLock<Vec<Definition>> = LazyLock::new(|| {
        let command = Settings::augment_args(Command::new("blip-serve"));
        command.get_arguments().filter_map(Definition::new).collect()
    });
    &DEFINITIONS
}

/// The setting of a key, if there is one.
#[must_use]
pub fn definition(key: &str) -> Option<&'static Definition> {
    definitions().iter().find(|definition| definition.key == key)
}

impl Definition {
    /// None for an argument that is no setting: it has no variable of the pattern.
    fn new(argument: &Arg) -> Option<Self> {
        let variable = argument.get_env()?.to_str()?.to_owned();
        let (section, name) = variable.strip_prefix(VARIABLE_PREFIX)?.split_once("__")?;
        let key = format!("{section}.{name}").to_lowercase();
        Some(Self { key, kind: kind(argument), argument: argument.clone(), variable })
    }

    /// The table of a file that it is in.
    #[must_use]
    pub fn section(&self) -> &str {
        self.key.split('.').next().unwrap_or_default()
    }

    /// Its name in the table.
    #[must_use]
    pub fn name(&self) -> &str {
        self.key.split('.').next_back().unwrap_or_default()
    }

    /// What its section is about.
    #[must_use]
    pub fn heading(&self) -> &str {
        self.argument.get_help_heading().unwrap_or_default()
    }

    /// Its name on the command line, without the dashes.
    #[must_use]
    pub fn flag(&self) -> &str {
        self.argument.get_long().unwrap_or_default()
    }

    /// Its name inside the command line's parser.
    pub(super) fn id(&self) -> &str {
        self.argument.get_id().as_str()
    }

    /// Whether it has any number of values.
    #[must_use]
    pub fn is_list(&self) -> bool {
        matches!(self.argument.get_action(), ArgAction::Append)
    }

    /// Whether its value is for nobody's eyes.
    #[must_use]
    pub fn is_secret(&self) -> bool {
        self.argument.is_hide_env_values_set()
    }

    /// What a value stands for, such as `BYTES`; nothing for a switch.
    #[must_use]
    pub fn value_name(&self) -> Option<&str> {
        let [name] = self.argument.get_value_names()? else { return None };
        (self.kind != Kind::Switch).then_some(name.as_str())
    }

    /// What it does, without what it does when left alone.
    #[must_use]
    pub fn help(&self) -> String {
        let help = self.whole_help();
        help.split_once(DEFAULT_NOTE).map_or(help.as_str(), |(help, _)| help).trim_end().to_owned()
    }

    /// What holds when it is left alone, in words, where there is no value for that.
    #[must_use]
    pub fn default_note(&self) -> Option<String> {
        Some(self.whole_help().split_once(DEFAULT_NOTE)?.1.trim_end_matches(']').to_owned())
    }

    fn whole_help(&self) -> String {
        let help = self.argument.get_long_help().or_else(|| self.argument.get_help());
        help.map(|help| in_one_line(&help.to_string())).unwrap_or_default()
    }

    /// The values that hold when it is left alone, if it has any then.
    #[must_use]
    pub fn default(&self) -> Option<Vec<String>> {
        if self.kind == Kind::Switch {
            return Some(vec![false.to_string()]);
        }
        let values = self.argument.get_default_values();
        let values: Vec<String> = values.iter().map(|value| value.to_string_lossy().into_owned()).collect();
        (self.is_list() || !values.is_empty()).then_some(values)
    }

    /// What a value has to be, in words.
    #[must_use]
    pub fn expected(&self) -> String {
        let one = match (self.kind, self.is_list()) {
            (Kind::Switch, _) => "true or false",
            (Kind::Number, false) => "a whole number",
            (Kind::Number, true) => "a list of whole numbers",
            (Kind::Ratio, _) => "a number from 0 to 1",
            (Kind::Text, false) => "text in quotes",
            (Kind::Text, true) => "a list of texts in quotes",
        };
        self.value_name().map_or_else(|| one.to_owned(), |name| format!("{one} ({name})"))
    }

    /// The values of a text that a comma stands between those of a list in.
    #[must_use]
    pub fn split(&self, text: &str) -> Vec<String> {
        match (self.is_list(), text.trim()) {
            (false, _) => vec![text.to_owned()],
            (true, "") => Vec::new(),
            (true, text) => text.split(',').map(|value| value.trim().to_owned()).collect(),
        }
    }

    /// Whether the setting can have these values, by its own parser.
    ///
    /// # Errors
    /// [`SettingsError::BadValue`] and [`SettingsError::WrongKind`], told as of `name` in `place`.
    pub fn check(&'static self, place: &str, name: &str, values: &[String]) -> Result<(), SettingsError> {
        for value in values {
            let (place, name, expected) = (place.to_owned(), name.to_owned(), self.expected());
            let shown = if self.is_secret() { HIDDEN.to_owned() } else { format!("{value:?}") };
            if self.kind == Kind::Switch {
                let wrong = |_| SettingsError::WrongKind { place, name, value: shown, expected };
                value.parse::<bool>().map_err(wrong)?;
                continue;
            }
            let command = Command::new("blip-serve").no_binary_name(true).arg(self.plain_argument());
            let matches = command.try_get_matches_from([format!("--{}={value}", self.flag())]);
            matches.map_err(|error| {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                let cause = source.map_or_else(|| one_line(&error), |cause| in_one_line(&cause));
                SettingsError::BadValue { place, name, value: shown, expected, cause }
            })?;
        }
        Ok(())
    }

    /// Its argument, bound to no other setting and to no layer below: those are joined by [`super::Layers`].
    pub(super) fn plain_argument(&'static self) -> Arg {
        let mut plain = Arg::new(self.argument.get_id().clone())
            .long(self.flag())
            .action(self.argument.get_action().clone())
            .value_parser(self.argument.get_value_parser().clone())
            .value_hint(self.argument.get_value_hint());
        if let Some(name) = self.value_name() {
            plain = plain.value_name(name);
        }
        plain
    }

    /// Its argument as a command line shows it.
    pub(super) fn shown_argument(&'static self) -> Arg {
        let mut notes = vec![format!("[env: {}]", self.variable)];
        if let Some(default) = self.default_note().or_else(|| self.default_text()) {
            notes.push(format!("[default: {default}]"));
        }
        let mut shown = self
            .plain_argument()
            .help(format!("{} {}", self.help(), notes.join(" ")))
            .long_help(format!("{}\n\n{}", self.help(), notes.join("\n")))
            .help_heading(self.heading());
        if let Some(delimiter) = self.argument.get_value_delimiter() {
            shown = shown.value_delimiter(delimiter);
        }
        shown
    }

    /// The values that hold when it is left alone, as a command line has them.
    fn default_text(&self) -> Option<String> {
        let values = self.default()?;
        (self.kind != Kind::Switch && !values.is_empty()).then(|| values.join(","))
    }
}

/// How the help of a setting says what holds when it is left alone and there is no value for that.
const DEFAULT_NOTE: &str = "[default: ";

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
    fn every_argument_is_a_setting_with_help_and_names_of_one_pattern() {
        let command = Settings::augment_args(Command::new("blip-serve"));
        assert_eq!(command.get_arguments().count(), definitions().len());
        let mut names = HashSet::new();
        for definition in definitions() {
            assert!(!definition.help().is_empty(), "{definition:?}");
            assert!(!definition.heading().is_empty() && !definition.flag().is_empty(), "{definition:?}");
            assert_eq!(definition.variable, definition.variable.to_uppercase());
            assert_eq!(definition.variable.matches("__").count(), 2, "{}", definition.variable);
            assert!(names.insert(definition.key.clone()) && names.insert(definition.flag().to_owned()));
        }
    }

    #[test]
    fn the_settings_of_a_section_are_together_under_one_heading() {
        let mut seen: Vec<(&str, &str)> =
            definitions().iter().map(|definition| (definition.section(), definition.heading())).collect();
        seen.dedup();
        let distinct: HashSet<&str> = seen.iter().map(|(section, _)| *section).collect();
        assert_eq!(seen.len(), distinct.len(), "{seen:?}");
    }

    #[test]
    fn a_setting_without_a_default_says_what_holds_instead() {
        let told = |key: &str| definition(key).unwrap().default_note();
        assert_eq!(told("preprocess.threads").as_deref(), Some("one for each CPU"));
        assert_eq!(told("fetch.allow_domains").as_deref(), Some("all"));
        assert_eq!(told("fetch.allow_ports"), None);
        assert!(!definition("preprocess.threads").unwrap().help().contains("default"));
    }

    #[test]
    fn a_default_can_be_had_as_a_value_too() {
        for definition in definitions() {
            let default = definition.default().unwrap_or_default();
            definition.check("the default", &definition.key, &default).unwrap();
        }
    }

    #[test]
    fn a_value_that_cannot_be_is_told_with_its_place_and_what_is_expected() {
        let told = |key: &str, value: &str| {
            definition(key).unwrap().check("a.toml", key, &[value.to_owned()]).unwrap_err().to_string()
        };
        assert_eq!(
            told("fetch.max_bytes", "lots"),
            "a.toml: fetch.max_bytes is \"lots\", expected a whole number (BYTES): invalid digit found in string"
        );
        assert_eq!(told("fetch.off", "yes"), "a.toml: fetch.off is \"yes\", expected true or false");
        assert!(told("model.device", "gpu").contains("cuda:N"));
        assert!(told("tls.cert_file", "").contains("expected text in quotes (FILE)"));
        let told = told("auth.keys", "hunter2");
        assert!(
            told.contains("auth.keys") && told.contains("7 bytes long") && !told.contains("hunter2"),
            "{told}"
        );
    }
}
