//! An engine inside this process, in place of a running server.
//!
//! It is the server itself, on a connection in memory: the same scheduler, engine and checks.

mod engine;
mod defaults;

use std::path::PathBuf;

use blip_server::config::{ModelCliArgs, Settings, SettingsError, SourceValues, definition};
use clap::{Args, ValueHint};

use crate::settings::{CONFIG_VARIABLE, resolve};

pub(crate) use engine::run_with_engine;

/// Whether an engine runs in the process, and its settings.
#[derive(Args, Debug)]
#[command(next_help_heading = "Without a server")]
pub(crate) struct LocalArgs {
    /// Load the model in this process instead of calling a server
    ///
    /// This is also the case if --model is set and --server is not. The process uses the settings
    /// of serve: those of its settings file, of its environment variables, and of the options
    /// below. Limits that divide a server among clients do not apply.
    #[arg(short, long)]
    pub(crate) local: bool,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,
}

/// The settings of an engine in the process.
#[derive(Args, Debug)]
pub(crate) struct EngineArgs {
    /// Settings file of serve, for a model in this process [env: BLIP_SERVE__CONFIG]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, hide_short_help = true)]
    config: Option<PathBuf>,

    #[command(flatten)]
    flags: ModelCliArgs,
}

impl EngineArgs {
    /// Returns an option that has a meaning only with an engine in the process.
    pub(crate) fn first_option(&self) -> Option<&'static str> {
        self.config.as_ref().map(|_| "config").or_else(|| self.flags.first_flag())
    }

    /// Returns whether the command line has the flag of a setting.
    pub(crate) fn has_flag(&self, key: &str) -> bool {
        definition(key).is_some_and(|definition| self.flags.clone().into_values().get(definition).is_some())
    }

    /// Returns the settings of the engine. Without a source that names models, it has
    /// `default_model`.
    ///
    /// `overrides` are keys with the values that take the place of any other.
    pub(crate) fn settings(
        &self,
        model: Option<&str>,
        default_model: &str,
        overrides: &[(&str, &str)],
        variables: &[String],
    ) -> Result<Settings, SettingsError> {
        let mut flags = self.flags.clone().into_values();
        if let Some(model) = model {
            set(&mut flags, "model.source", "--model", model)?;
        }
        for (key, value) in overrides {
            set(&mut flags, key, key, value)?;
        }
        let config = self.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(Into::into));
        let mut defaults = defaults::DEFAULTS.to_vec();
        defaults.push(("model.source", default_model));
        let resolved = resolve(config.as_deref(), flags, &defaults, variables)?;
        Ok(defaults::without_clients(resolved.settings))
    }
}

/// Sets a setting. `name` is how a message calls it.
fn set(flags: &mut SourceValues, key: &str, name: &str, value: &str) -> Result<(), SettingsError> {
    let Some(definition) = definition(key) else { return Ok(()) };
    let values = definition.split(value);
    definition.check("command line", name, &values)?;
    flags.set(definition, values);
    Ok(())
}
