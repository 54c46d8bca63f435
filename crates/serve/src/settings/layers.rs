//! The settings of all sources joined: defaults < file < environment < flags.

use std::fmt;

use clap::{Args as _, Command, FromArgMatches as _};

use super::{Definition, Kind, Layer, Settings, SettingsError, definition::definitions, error::one_line};

/// What each source says.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The file with its name, if one was named.
    pub file: Option<(String, Layer)>,
    /// The environment.
    pub environment: Layer,
    /// The command line.
    pub flags: Layer,
}

/// Where a value is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From nowhere: nobody said anything.
    Default,
    /// From the file of this name.
    File(String),
    /// From this variable.
    Environment(String),
    /// From this flag.
    Flag(String),
}

/// A setting as it holds.
#[derive(Clone)]
pub struct Effective {
    /// Which.
    pub definition: &'static Definition,
    /// Its values; none if it was left alone and has no default that is a value.
    pub values: Option<Vec<String>>,
    /// Who says so.
    pub origin: Origin,
}

/// All settings as they hold.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// For the program.
    pub settings: Settings,
    /// For people, in the order of definition.
    pub effective: Vec<Effective>,
}

impl Layers {
    /// What holds.
    ///
    /// # Errors
    /// [`SettingsError::Together`] if settings that belong together are not.
    pub fn resolve(&self) -> Result<Resolved, SettingsError> {
        let effective: Vec<Effective> =
            definitions().iter().map(|definition| self.effective(definition)).collect();
        let settings = settings(&effective).map_err(|error| SettingsError::Together(one_line(&error)))?;
        settings.model.check()?;
        Ok(Resolved { settings, effective })
    }

    pub(super) fn effective(&self, definition: &'static Definition) -> Effective {
        let from_file = || {
            let (path, file) = self.file.as_ref()?;
            Some((file.get(definition)?, Origin::File(path.clone())))
        };
        let flag = || Origin::Flag(format!("--{}", definition.flag()));
        let variable = || Origin::Environment(definition.variable.clone());
        let said = (self.flags.get(definition).map(|values| (values, flag())))
            .or_else(|| self.environment.get(definition).map(|values| (values, variable())))
            .or_else(from_file);
        match said {
            Some((values, origin)) => Effective { definition, values: Some(values.to_vec()), origin },
            None => Effective { definition, values: definition.default(), origin: Origin::Default },
        }
    }
}

/// What holds, as the program wants it: by a command line that says everything that anybody said.
pub(super) fn settings(effective: &[Effective]) -> Result<Settings, clap::Error> {
    let mut command = Settings::augment_args(Command::new("blip-serve").no_binary_name(true))
        .mut_args(|argument| argument.env(None::<&str>).value_delimiter(None));
    let mut line = Vec::new();
    for Effective { definition, values, origin } in effective {
        let (Some(values), false) = (values, *origin == Origin::Default) else { continue };
        let flag = definition.flag();
        match definition.kind {
            Kind::Switch if values.iter().all(|value| value == "true") => line.push(format!("--{flag}")),
            Kind::Switch => {}
            _ => line.extend(values.iter().map(|value| format!("--{flag}={value}"))),
        }
        if values.is_empty() {
            let no_default = Vec::<clap::builder::OsStr>::new();
            command = command.mut_arg(definition.id(), |argument| argument.default_values(no_default));
        }
    }
    Settings::from_arg_matches(&command.try_get_matches_from(line)?)
}

impl fmt::Debug for Effective {
    /// Without its values, which may be secret.
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
