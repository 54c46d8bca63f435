//! `blip-serve config`.

use std::io::Write as _;

use anyhow::Context as _;
use clap::Args;
use server::{
    config::{effective_json, effective_toml, example},
    serve::exit::Exit,
};

use crate::{messages::print_settings_error, settings::SettingsArgs};

/// Print the effective settings with their origins, as a file for `serve --config`
///
/// Takes the options and the environment of `serve`. API keys are masked.
#[derive(Args, Debug)]
pub struct ConfigCommand {
    /// Print JSON: section, name, value and origin
    #[arg(long, conflicts_with = "example")]
    json: bool,

    /// Print a file with every setting, its help and its default, commented out
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
