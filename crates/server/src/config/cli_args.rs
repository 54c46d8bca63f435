//! The flags of settings on a command line.

use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, error::ErrorKind, parser::ValueSource,
};

use crate::config::{
    renamed::{OLD_NAMES, OLD_VALUES, OldName, current_value},
    schema::{Definition, definition, definitions},
    sources::source_values::{SettingName, SourceKind, SourceValues},
};

/// The settings that a command line gives.
#[derive(Clone, Debug, Default)]
pub struct CliArgs(SourceValues);

impl CliArgs {
    /// Returns the values of the settings.
    #[must_use]
    pub fn into_values(self) -> SourceValues {
        self.0
    }
}

/// The settings of models that a command line gives, except for the models themselves.
///
/// A command that loads a model in its process has these flags, and another definition of
/// `--model`.
#[derive(Clone, Debug, Default)]
pub struct ModelCliArgs(SourceValues);

impl ModelCliArgs {
    /// Returns the values of the settings.
    #[must_use]
    pub fn into_values(self) -> SourceValues {
        self.0
    }

    /// Returns the first flag that is set.
    #[must_use]
    pub fn first_flag(&self) -> Option<&'static str> {
        Self::definitions().find(|definition| self.0.get(definition).is_some()).map(Definition::flag)
    }

    fn definitions() -> impl Iterator<Item = &'static Definition> {
        let is_shown =
            |definition: &&Definition| definition.section() == "model" && definition.key != "model.source";
        definitions().iter().filter(is_shown)
    }
}

impl Args for ModelCliArgs {
    fn augment_args(command: Command) -> Command {
        // The short help has no room for them.
        command.args(Self::definitions().map(|definition| argument(definition).hide_short_help(true)))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for ModelCliArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        values(matches, Self::definitions().map(|definition| SettingName { definition, old: None })).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for CliArgs {
    fn augment_args(command: Command) -> Command {
        command.args(definitions().iter().map(argument)).args(OLD_NAMES.iter().filter_map(old_argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// Returns the argument of a setting. It accepts old values and units, too.
fn argument(definition: &'static Definition) -> Arg {
    let argument = definition.shown_argument();
    let has_old_value = OLD_VALUES.iter().any(|renamed| renamed.key == definition.key);
    if !has_old_value && definition.unit().is_none() {
        return argument;
    }
    argument.value_parser(|value: &str| {
        let current = current_value(&definition.key, value).unwrap_or(value);
        definition.parse(current).map(|()| value.to_owned())
    })
}

/// Returns the hidden argument of an old name.
fn old_argument(renamed: &'static OldName) -> Option<Arg> {
    let argument = match renamed.is_inverted {
        true => Arg::new(renamed.flag).action(ArgAction::SetTrue),
        false => definition(renamed.new_key)?.plain_argument().id(renamed.flag),
    };
    Some(argument.long(renamed.flag).hide(true))
}

impl FromArgMatches for CliArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        values(matches, SettingName::all()).map(Self)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

/// Returns the values that a command line gives to the settings `names`.
fn values(
    matches: &ArgMatches,
    names: impl Iterator<Item = SettingName>,
) -> Result<SourceValues, clap::Error> {
    let mut values = SourceValues::default();
    for name in names {
        let id = name.argument_id();
        if matches.value_source(id) != Some(ValueSource::CommandLine) {
            continue;
        }
        let texts = matches.get_raw(id).into_iter().flatten();
        let texts: Option<Vec<String>> = texts.map(|text| text.to_str().map(str::to_owned)).collect();
        let texts = texts.ok_or_else(|| {
            let flag = name.spelled(SourceKind::CommandLine);
            clap::Error::raw(ErrorKind::InvalidUtf8, format!("invalid value of {flag}: not UTF-8"))
        })?;
        let conflict = |error| clap::Error::raw(ErrorKind::ArgumentConflict, error);
        values.insert(SourceKind::CommandLine, &name, texts).map_err(conflict)?;
    }
    Ok(values)
}
