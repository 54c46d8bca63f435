//! The arguments of `serve` and `config` that set settings.

use std::path::PathBuf;

use blip_server::config::{
    CliArgs, SettingsError,
    sources::{
        environment::environment,
        file::read_file,
        resolve::{Resolved, Sources},
    },
};
use clap::{Args, ValueHint};

use crate::embedded_models::EMBEDDED_MODELS;

/// The settings file, and one flag for each setting.
#[derive(Args, Debug)]
pub(crate) struct SettingsArgs {
    /// Settings file, TOML or YAML by its extension
    ///
    /// Environment variables and flags override it. Its paths are relative to the current
    /// directory.
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__CONFIG", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    #[command(flatten)]
    flags: CliArgs,
}

impl SettingsArgs {
    /// Resolves the settings: defaults < file < environment < flags.
    ///
    /// `variables` are the environment variables of the program that are not settings.
    pub(crate) fn resolve(self, variables: &[String]) -> Result<Resolved, SettingsError> {
        let read = |path: &PathBuf| Ok((path.display().to_string(), read_file(path)?));
        let file = self.config.as_ref().map(read).transpose()?;
        let program_variables: Vec<&str> = variables.iter().map(String::as_str).collect();
        let environment = environment(std::env::vars_os(), &program_variables)?;
        let mut resolved = Sources { file, environment, flags: self.flags.into_values() }.resolve()?;
        for renaming in &resolved.renamings {
            tracing::warn!(old = renaming.old, new = renaming.new, "setting renamed");
        }
        resolved.settings.model.embedded = EMBEDDED_MODELS;
        Ok(resolved)
    }
}
