//! The options that say what holds, of `serve` and of `config`.

use std::path::PathBuf;

use clap::{Args, Command, CommandFactory as _, ValueHint};
use server::config::{
    CliArgs, SettingsError,
    sources::{
        environment::environment,
        file::read_file,
        resolve::{Resolved, Sources},
    },
};

use crate::{args::Cli, embedded_models::EMBEDDED_MODELS};

/// A flag for every setting, and the file for those without.
#[derive(Args, Debug)]
pub(crate) struct SettingsOptions {
    /// A file of settings, TOML or YAML by the ending of its name, which environment variables and flags win over. Paths
    /// in it are relative to the current directory
    #[arg(long, value_name = "FILE", env = "BLIP_SERVE__CONFIG", value_hint = ValueHint::FilePath)]
    config: Option<PathBuf>,

    #[command(flatten)]
    flags: CliArgs,
}

impl SettingsOptions {
    /// What holds: defaults < file < environment < flags.
    pub(crate) fn resolve(self) -> Result<Resolved, SettingsError> {
        let read = |path: &PathBuf| Ok((path.display().to_string(), read_file(path)?));
        let file = self.config.as_ref().map(read).transpose()?;
        let program = Cli::command();
        let taken: Vec<&str> = variables(&program).collect();
        let environment = environment(std::env::vars_os(), &taken)?;
        let mut resolved = Sources { file, environment, flags: self.flags.into_values() }.resolve()?;
        for renaming in &resolved.renamings {
            tracing::warn!(old = renaming.old, new = renaming.new, "setting renamed");
        }
        resolved.settings.model.embedded = EMBEDDED_MODELS;
        Ok(resolved)
    }
}

/// The variables that the program reads besides those of settings.
fn variables(command: &Command) -> Box<dyn Iterator<Item = &str> + '_> {
    let own = command.get_arguments().filter_map(|argument| argument.get_env()?.to_str());
    Box::new(own.chain(command.get_subcommands().flat_map(variables)))
}

#[cfg(test)]
mod tests {
    use server::config::definitions;

    use super::*;

    #[test]
    fn the_variables_that_are_no_settings_are_known() {
        let program = Cli::command();
        let taken: Vec<&str> = variables(&program).collect();
        for variable in ["BLIP_SERVE__API_KEY", "BLIP_SERVE__CONFIG", "BLIP_SERVE__LOG", "BLIP_SERVE__SERVER"]
        {
            assert!(taken.contains(&variable), "{variable} of {taken:?}");
        }
        assert!(definitions().iter().all(|definition| !taken.contains(&&*definition.variable)));
    }
}
