//! The arguments of `serve` and `config` that set settings.

use std::path::{Path, PathBuf};

use blip_server::config::{
    CliArgs, SettingsError, SourceValues, definition,
    sources::{
        environment::environment,
        file::read_file,
        resolve::{Resolved, Sources},
    },
};
use clap::{Args, ValueHint};

use crate::embedded_models::EMBEDDED_MODELS;

/// The environment variable that names the settings file.
pub(crate) const CONFIG_VARIABLE: &str = "BLIP_SERVE__CONFIG";

/// The settings file, and one flag for each setting.
#[derive(Args, Debug)]
pub(crate) struct SettingsArgs {
    /// Settings file, TOML or YAML by its extension
    ///
    /// Environment variables and flags override it. Its paths are relative to the current
    /// directory.
    #[arg(long, value_name = "FILE", env = CONFIG_VARIABLE, value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    #[command(flatten)]
    flags: CliArgs,
}

impl SettingsArgs {
    /// Resolves the settings: defaults < file < environment < flags.
    ///
    /// `variables` are the environment variables of the program that are not settings.
    pub(crate) fn resolve(self, variables: &[String]) -> Result<Resolved, SettingsError> {
        resolve(self.config.as_deref(), self.flags.into_values(), &[], variables)
    }
}

/// Resolves settings: defaults < file < environment < flags.
///
/// `defaults` replace the defaults of their keys. `variables` are the environment variables of the
/// program that are not settings.
pub(crate) fn resolve(
    config: Option<&Path>,
    flags: SourceValues,
    defaults: &[(&str, &str)],
    variables: &[String],
) -> Result<Resolved, SettingsError> {
    let read = |path: &Path| Ok((path.display().to_string(), read_file(path)?));
    let file = config.map(read).transpose()?;
    let program_variables: Vec<&str> = variables.iter().map(String::as_str).collect();
    let environment = environment(std::env::vars_os(), &program_variables)?;
    let mut sources = Sources { file, environment, flags };
    for (key, value) in defaults {
        let Some(definition) = definition(key) else { continue };
        let in_file = sources.file.as_ref().and_then(|(_, file)| file.get(definition));
        let is_set =
            in_file.or(sources.environment.get(definition)).or(sources.flags.get(definition)).is_some();
        if !is_set {
            let value = definition.without_unit((*value).to_owned());
            sources.flags.set(definition, definition.split(&value));
        }
    }
    let mut resolved = sources.resolve()?;
    for renaming in &resolved.renamings {
        tracing::warn!(old = renaming.old, new = renaming.new, "setting renamed");
    }
    resolved.settings.model.embedded = EMBEDDED_MODELS;
    Ok(resolved)
}
