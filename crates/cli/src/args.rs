//! The command line: `blip-serve serve`, `download`, `convert`, `ask`, `caption`, `match`, `embed`, `eval`, `bench`, `health`
//! and `config`.

use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use server::{
    config::one_line,
    serve::exit::Exit,
    telemetry::{self, LogFormat},
};
use tracing_subscriber::EnvFilter;

use crate::{commands, messages::print_message, version::VERSION};

/// Answers questions about images with the BLIP visual question answering model, over gRPC and HTTP.
#[derive(Debug, Parser)]
#[command(name = "blip-serve", version = VERSION, propagate_version = true, arg_required_else_help = true,
          after_help = "Examples:
  blip-serve serve                                    the built-in demo model, on this machine only
  blip-serve serve --model Salesforce/blip-vqa-base   a model of the Hugging Face hub, downloaded once
  blip-serve serve --model ./blip-vqa-base --device cuda --grpc-listen 0.0.0.0:50051 --auth-keys-file keys.toml
  blip-serve ask --image cat.jpg --question \"what colour is the cat?\"

Every option of serve can be set by an environment variable or in a file, too: see blip-serve serve --help,
and blip-serve config --example.")]
pub struct Cli {
    #[command(subcommand)]
    command: Command,

    /// What to log on standard error: error, warn, info, debug, trace, or a tracing filter such as blip_serve=debug
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "BLIP_SERVE__LOG",
        default_value = "warn,bulk=info,hub=info"
    )]
    log: EnvFilter,

    /// How log lines are written: pretty, for people, or json, one object a line
    #[arg(
        long,
        global = true,
        value_name = "pretty|json",
        env = "BLIP_SERVE__LOG_FORMAT",
        default_value = "pretty"
    )]
    log_format: LogFormat,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a model over gRPC and HTTP
    Serve(Box<commands::serve::ServeCommand>),
    /// Download a model from the hub
    Download(commands::download::DownloadCommand),
    /// Write a model of any format as a folder with safetensors
    Convert(commands::convert::ConvertCommand),
    /// Ask a running server questions about images
    Ask(Box<commands::ask::AskCommand>),
    /// Have a running server describe images
    Caption(Box<commands::caption::CaptionCommand>),
    /// Have a running server say how well texts describe images
    Match(Box<commands::match_texts::MatchCommand>),
    /// Have a running server turn images and texts into vectors
    Embed(Box<commands::embed::EmbedCommand>),
    /// Ask a running server the questions of a VQA data set, and compute the accuracy
    Eval(Box<commands::eval::EvalCommand>),
    /// Ask a server many questions, and measure how it answers
    Bench(Box<commands::bench::BenchCommand>),
    /// Ask a running server whether it is ready
    Health(commands::health::HealthCommand),
    /// Print the settings that serve would have, each with its origin
    Config(Box<commands::config::ConfigCommand>),
}

/// Runs the program: parses the command line, runs the subcommand, and prints its error in one line.
#[must_use]
pub fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error),
    };
    let variables = program_variables(&Cli::command());
    let log_filter = telemetry::install(cli.log, cli.log_format);
    let result =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Into::into).and_then(
            |runtime| {
                let exit = runtime.block_on(async {
                    match cli.command {
                        Command::Serve(command) => command.run(log_filter, &variables).await,
                        Command::Download(command) => command.run().await,
                        Command::Convert(command) => command.run().await,
                        Command::Ask(command) => command.run().await,
                        Command::Caption(command) => command.run().await,
                        Command::Match(command) => command.run().await,
                        Command::Embed(command) => command.run().await,
                        Command::Eval(command) => command.run().await,
                        Command::Bench(command) => command.run().await,
                        Command::Health(command) => command.run().await,
                        Command::Config(command) => command.run(&variables),
                    }
                });
                // Does not wait for connections and engine threads that exceeded their limits.
                runtime.shutdown_background();
                exit
            },
        );
    result.unwrap_or_else(|error| {
        print_message(&format!("{error:#}"));
        Exit::Failed
    })
}

/// Prints help and version as they are, and an invalid command line as one line.
fn print_usage(error: &clap::Error) -> Exit {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || !error.use_stderr() {
        let _ = error.print();
        return if error.use_stderr() { Exit::Usage } else { Exit::Clean };
    }
    print_message(&format!("{} (see blip-serve --help)", one_line(error)));
    Exit::Usage
}

/// Returns the environment variables that the program reads besides those of settings.
fn program_variables(command: &clap::Command) -> Vec<String> {
    let variables =
        command.get_arguments().filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()));
    variables.chain(command.get_subcommands().flat_map(program_variables)).collect()
}

#[cfg(test)]
mod tests {
    use server::config::{Kind, definitions};

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_and_config_take_the_same_settings() {
        let command = Cli::command();
        let flags = |name: &str| -> Vec<String> {
            let command = command.find_subcommand(name).unwrap();
            command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned)).collect()
        };
        let of_serve = flags("serve");
        assert!(of_serve.len() > definitions().len());
        let more: Vec<String> = flags("config").into_iter().filter(|flag| !of_serve.contains(flag)).collect();
        assert_eq!(more, ["json", "example"]);
    }

    #[test]
    fn the_help_of_serve_tells_the_variable_and_the_default_of_every_setting() {
        let mut command = Cli::command();
        let help = command.find_subcommand_mut("serve").unwrap().render_long_help().to_string();
        let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for definition in definitions() {
            let variable = format!("[env: {}]", definition.variable);
            let (_, rest) = help.split_once(&variable).unwrap_or_else(|| panic!("{variable} in {help}"));
            let default = definition.default_note().or_else(|| Some(definition.default()?.join(",")));
            let Some(default) = default.filter(|default| !default.is_empty()) else { continue };
            if definition.kind == Kind::Switch {
                continue;
            }
            let default = format!(" [default: {default}]");
            assert!(rest.starts_with(&default), "{variable}: {default}");
        }
    }

    #[test]
    fn program_variables_are_no_settings() {
        let variables = program_variables(&Cli::command());
        for variable in ["BLIP_SERVE__API_KEY", "BLIP_SERVE__CONFIG", "BLIP_SERVE__LOG", "BLIP_SERVE__SERVER"] {
            assert!(variables.iter().any(|known| known == variable), "{variable} of {variables:?}");
        }
        assert!(definitions().iter().all(|definition| !variables.contains(&definition.variable)));
    }
}
