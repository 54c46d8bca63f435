//! `blip-serve completions`.

use std::io::Write as _;

use anyhow::Context as _;
use blip_server::serve::exit::Exit;
use clap::Args;
use clap_complete::Shell;

/// Print a completion script for a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  blip-serve completions bash > ~/.local/share/bash-completion/completions/blip-serve
  blip-serve completions zsh > ~/.zfunc/_blip-serve      with fpath+=~/.zfunc in ~/.zshrc
  blip-serve completions fish > ~/.config/fish/completions/blip-serve.fish")]
pub(crate) struct CompletionsCommand {
    /// Shell
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

impl CompletionsCommand {
    /// Prints the script for `program`.
    pub(crate) fn run(&self, mut program: clap::Command) -> anyhow::Result<Exit> {
        let (mut script, name) = (Vec::new(), program.get_name().to_owned());
        clap_complete::generate(self.shell, &mut program, name, &mut script);
        std::io::stdout().write_all(&script).context("cannot print")?;
        Ok(Exit::Clean)
    }
}
