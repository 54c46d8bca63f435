//! The combination of all sources: defaults < file < environment < command line.

use std::fmt;

use clap::{Args as _, Command, FromArgMatches as _};

use crate::config::{
    error::{SettingsError, one_line},
    renamed::Renaming,
    schema::{Definition, definitions},
    settings::Settings,
    sources::source_values::{SourceKind, SourceValues},
};

/// The values of each source.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The file and its path, if there is one.
    pub file: Option<(String, SourceValues)>,
    /// The environment.
    pub environment: SourceValues,
    /// The command line.
    pub flags: SourceValues,
}

/// The source of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No source: the default.
    Default,
    /// The file of this path.
    File(String),
    /// This variable.
    Environment(String),
    /// This flag.
    Flag(String),
}

/// A setting in effect.
#[derive(Clone)]
pub struct ResolvedSetting {
    /// The setting.
    pub definition: &'static Definition,
    /// Its values, or `None` if no source sets it and its default is not a value.
    pub values: Option<Vec<String>>,
    /// The source of the values.
    pub origin: Origin,
}

/// All settings in effect.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The settings for the program.
    pub settings: Settings,
    /// The settings as text, in the order of their definition.
    pub effective: Vec<ResolvedSetting>,
    /// The old names and values that the sources use. The program logs each as a warning.
    pub renamings: Vec<Renaming>,
}

impl Sources {
    /// Combines the sources.
    ///
    /// # Errors
    /// [`SettingsError::Conflict`] if settings contradict each other or a required one is missing.
    pub fn resolve(&self) -> Result<Resolved, SettingsError> {
        let effective: Vec<ResolvedSetting> =
            definitions().iter().map(|definition| self.effective(definition)).collect();
        let settings = parse(&effective).map_err(|error| SettingsError::Conflict(one_line(&error)))?;
        settings.model.check()?;
        Ok(Resolved { settings, effective, renamings: self.renamings() })
    }

    /// Returns the old names and values of all sources.
    fn renamings(&self) -> Vec<Renaming> {
        let file = self.file.as_ref().map(|(_, file)| file);
        let sources = file.into_iter().chain([&self.environment, &self.flags]);
        sources.flat_map(SourceValues::renamings).cloned().collect()
    }

    /// Returns the values of the strongest source that sets a setting.
    pub(crate) fn effective(&self, definition: &'static Definition) -> ResolvedSetting {
        let from_file = || {
            let (path, file) = self.file.as_ref()?;
            Some((file.get(definition)?, Origin::File(path.clone())))
        };
        let flag = || Origin::Flag(self.flags.name_of(definition).spelled(SourceKind::CommandLine));
        let variable =
            || Origin::Environment(self.environment.name_of(definition).spelled(SourceKind::Environment));
        let strongest = (self.flags.get(definition).map(|values| (values, flag())))
            .or_else(|| self.environment.get(definition).map(|values| (values, variable())))
            .or_else(from_file);
        match strongest {
            Some((values, origin)) => ResolvedSetting { definition, values: Some(values.to_vec()), origin },
            None => ResolvedSetting { definition, values: definition.default(), origin: Origin::Default },
        }
    }
}

/// Parses a command line that holds the values of all sources.
fn parse(effective: &[ResolvedSetting]) -> Result<Settings, clap::Error> {
    let mut command = Settings::augment_args(Command::new("blip-serve").no_binary_name(true))
        .mut_args(|argument| argument.env(None::<&str>).value_delimiter(None));
    let mut line = Vec::new();
    for ResolvedSetting { definition, values, origin } in effective {
        let (Some(values), false) = (values, *origin == Origin::Default) else { continue };
        line.extend(definition.to_arguments(values));
        if values.is_empty() {
            let no_default = Vec::<clap::builder::OsStr>::new();
            command = command.mut_arg(definition.id(), |argument| argument.default_values(no_default));
        }
    }
    Settings::from_arg_matches(&command.try_get_matches_from(line)?)
}

impl fmt::Debug for ResolvedSetting {
    /// Shows the setting without its values, which may be secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.definition.key, self.origin)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(path) => write!(f, "file {path}"),
            Self::Environment(variable) => write!(f, "environment {variable}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}
