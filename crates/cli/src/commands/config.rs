//! `blip-serve config`.

use std::io::Write as _;

use anyhow::Context as _;
use blip_server::{
    config::{effective_json, effective_toml, example},
    serve::exit::Exit,
};
use clap::Args;

use crate::{messages::print_settings_error, settings::SettingsArgs};

/// Print the effective settings of serve with their origins
///
/// The output is a settings file. The command reads the same options, files and environment
/// variables as serve. API keys are masked.
#[derive(Args, Debug)]
pub(crate) struct ConfigCommand {
    /// Print JSON with section, name, value and origin
    #[arg(long, conflicts_with = "example")]
    json: bool,

    /// Print a settings file with all defaults and help, commented out
    #[arg(long)]
    example: bool,

    #[command(flatten)]
    settings: SettingsArgs,
}

impl ConfigCommand {
    pub(crate) fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        let page = if self.example {
            example()
        } else {
            let effective = match self.settings.resolve(variables) {
                Ok(resolved) => resolved.effective,
                Err(error) => return Ok(print_settings_error(&error)),
            };
            if self.json { format!("{:#}\n", effective_json(&effective)) } else { effective_toml(&effective) }
        };
        std::io::stdout().write_all(page.as_bytes()).context("cannot print")?;
        Ok(Exit::Clean)
    }
}
