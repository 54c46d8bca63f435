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

    /// Settings file of serve, for --local [env: BLIP_SERVE__CONFIG]
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, hide_short_help = true)]
    config: Option<PathBuf>,

    #[command(flatten)]
    flags: ModelCliArgs,
}

impl LocalArgs {
    /// Returns an option that has a meaning only with an engine in the process.
    pub(crate) fn first_option(&self) -> Option<&'static str> {
        self.config.as_ref().map(|_| "config").or_else(|| self.flags.first_flag())
    }

    /// Returns the settings of the engine. Without a source that names models, it has
    /// `default_model`.
    pub(crate) fn settings(
        &self,
        model: Option<&str>,
        default_model: &str,
        variables: &[String],
    ) -> Result<Settings, SettingsError> {
        let mut flags = self.flags.clone().into_values();
        if let Some(model) = model {
            set_models(&mut flags, model)?;
        }
        let config = self.config.clone().or_else(|| std::env::var_os(CONFIG_VARIABLE).map(Into::into));
        let mut defaults = defaults::DEFAULTS.to_vec();
        defaults.push(("model.source", default_model));
        let resolved = resolve(config.as_deref(), flags, &defaults, variables)?;
        Ok(defaults::without_clients(resolved.settings))
    }
}

/// Sets the models to those of the option `--model`.
fn set_models(flags: &mut SourceValues, models: &str) -> Result<(), SettingsError> {
    let Some(definition) = definition("model.source") else { return Ok(()) };
    let models = definition.split(models);
    definition.check("command line", "--model", &models)?;
    flags.set(definition, models);
    Ok(())
}
