//! The command line: `blip-serve serve` and `blip-serve ask`.

pub mod ask;
mod print;
pub mod serve;

use std::io::{IsTerminal as _, Write as _};

use clap::{Parser, Subcommand, error::ErrorKind};
use tracing_subscriber::EnvFilter;

use crate::exit::{self, Exit};

/// Version and commit of this build.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (commit ", env!("BLIP_SERVE_COMMIT"), ")");

/// Answers questions about images with the BLIP visual question answering model, over gRPC.
#[derive(Debug, Parser)]
#[command(name = "blip-serve", version = VERSION, propagate_version = true, arg_required_else_help = true,
          after_help = "Examples:
  blip-serve serve                                    the built-in demo model, on this machine only
  blip-serve serve --model ./blip-vqa-base --device cuda --grpc-listen 0.0.0.0:50051
  blip-serve ask --image cat.jpg --question \"what colour is the cat?\"

Every option of serve can be set by an environment variable, too: see blip-serve serve --help.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What to log on standard error: error, warn, info, debug, trace, or a tracing filter such as blip_serve=debug
    #[arg(long, global = true, value_name = "FILTER", env = "BLIP_SERVE__LOG", default_value = "warn")]
    log: EnvFilter,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a model over gRPC
    Serve(Box<serve::ServeCommand>),
    /// Ask a running server questions about images
    Ask(ask::AskCommand),
}

/// Runs the program: parses the command line, does what it says, tells what went wrong in one line.
#[must_use]
pub fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let ansi = std::io::stderr().is_terminal();
    tracing_subscriber::fmt().with_env_filter(cli.log).with_writer(std::io::stderr).with_ansi(ansi).init();
    let result =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(
            |runtime| {
                let exit = runtime.block_on(async {
                    match cli.command {
                        Command::Serve(command) => command.run().await,
                        Command::Ask(command) => command.run().await,
                    }
                });
                // Connections and engine threads that outlived their limits are not waited for again.
                runtime.shutdown_background();
                exit
            },
        );
    result.unwrap_or_else(|error| {
        complain(&format!("{error:#}"));
        Exit::Failed
    })
}

/// Help and version go out as they are; a mistake is told in one line.
fn usage(error: &clap::Error) -> Exit {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || !error.use_stderr() {
        let _ = error.print();
        return if error.use_stderr() { Exit::Usage } else { Exit::Clean };
    }
    let text = error.render().to_string();
    let first = text.split("\n\n").next().unwrap_or_default();
    let line = first.split_whitespace().collect::<Vec<_>>().join(" ");
    complain(&format!("{} (see blip-serve --help)", line.trim_start_matches("error: ")));
    Exit::Usage
}

/// One line on standard error, which may be closed.
fn complain(message: &str) {
    let _ = writeln!(std::io::stderr(), "blip-serve: {}", message.replace('\n', " "));
}

/// Exit codes, for the help of `serve`.
const EXIT_CODES: &str = exit::HELP;

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_setting_of_serve_has_help_and_an_environment_variable_of_one_pattern() {
        let command = Cli::command();
        let serve = command.find_subcommand("serve").unwrap();
        for argument in serve.get_arguments().filter(|argument| argument.get_id() != "help") {
            assert!(argument.get_help().is_some(), "{argument}");
            let variable = argument.get_env().unwrap().to_str().unwrap();
            assert!(
                variable.starts_with("BLIP_SERVE__") && variable.matches("__").count() == 2,
                "{variable}"
            );
        }
    }
}
