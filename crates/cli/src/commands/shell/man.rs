//! `blip-serve man`.

use std::{io::Write as _, path::PathBuf};

use anyhow::Context as _;
use blip_server::{config::SettingsError, serve::exit::Exit};
use clap::{Args, ValueHint};
use clap_mangen::Man;

/// Print a man page, or write all man pages to a folder
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve man ask | man -l -
  blip-serve man --output ~/.local/share/man/man1")]
pub(crate) struct ManCommand {
    /// Command of the page [default: the program]
    #[arg(value_name = "COMMAND", conflicts_with = "output")]
    command: Option<String>,

    /// Output folder of all pages
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    output: Option<PathBuf>,
}

impl ManCommand {
    /// Prints or writes the pages of `program`.
    pub(crate) fn run(&self, mut program: clap::Command) -> anyhow::Result<Exit> {
        if let Some(folder) = &self.output {
            let write = || -> std::io::Result<()> {
                std::fs::create_dir_all(folder)?;
                clap_mangen::generate_to(program, folder)
            };
            write().with_context(|| format!("cannot write to {}", folder.display()))?;
            return Ok(Exit::Clean);
        }
        // Completes the names of the subcommands.
        program.build();
        let page = match &self.command {
            None => program,
            Some(name) => match program.find_subcommand(name) {
                Some(command) => command.clone(),
                None => return Err(SettingsError::Conflict(format!("unknown command {name:?}")).into()),
            },
        };
        let name = page.get_bin_name().unwrap_or_else(|| page.get_name()).replace(' ', "-");
        let mut text = Vec::new();
        Man::new(page).title(name).render(&mut text).context("cannot print")?;
        std::io::stdout().write_all(&text).context("cannot print")?;
        Ok(Exit::Clean)
    }
}
