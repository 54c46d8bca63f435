//! The settings on a command line, before they are joined with the other layers.

use clap::{ArgMatches, Args, Command, FromArgMatches, error::ErrorKind, parser::ValueSource};

use super::{Layer, definition::definitions};

/// The flags that were given.
#[derive(Clone, Debug, Default)]
pub struct Flags(Layer);

impl Flags {
    /// The same as a layer.
    #[must_use]
    pub fn into_layer(self) -> Layer {
        self.0
    }
}

impl Args for Flags {
    fn augment_args(command: Command) -> Command {
        command.args(definitions().iter().map(super::Definition::shown_argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Flags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut layer = Layer::default();
        for definition in definitions() {
            if matches.value_source(definition.id()) != Some(ValueSource::CommandLine) {
                continue;
            }
            let values = matches.get_raw(definition.id()).into_iter().flatten();
            let values: Option<Vec<String>> = values.map(|value| value.to_str().map(str::to_owned)).collect();
            let told = || {
                let message = format!("the value of --{} is not UTF-8", definition.flag());
                clap::Error::raw(ErrorKind::InvalidUtf8, message)
            };
            layer.set(definition, values.ok_or_else(told)?);
        }
        Ok(Self(layer))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
