//! The command line: global options and subcommands.

use blip_server::{
    config::one_line,
    serve::exit::Exit,
    telemetry::{self, LogFormat},
};
use clap::{CommandFactory as _, Parser, Subcommand, error::ErrorKind};
use tracing_subscriber::EnvFilter;

use crate::{
    commands::{
        ask::AskCommand, bench::BenchCommand, caption::CaptionCommand, config::ConfigCommand,
        convert::ConvertCommand, download::DownloadCommand, embed::EmbedCommand, eval::EvalCommand,
        health::HealthCommand, match_texts::MatchCommand, serve::ServeCommand,
    },
    decode_worker,
    messages::print_message,
    version::VERSION,
};

/// Serve BLIP image and text models over gRPC and HTTP
#[derive(Debug, Parser)]
#[command(name = "blip-serve", version = VERSION, propagate_version = true, arg_required_else_help = true,
          after_help = "Examples:
  blip-serve serve                                    the embedded demo model, on this machine only
  blip-serve serve --model Salesforce/blip-vqa-base   a model of the Hugging Face hub
  blip-serve serve --model ./blip-vqa-base --device cuda \\
      --grpc-listen 0.0.0.0:50051 --auth-keys-file keys.toml
  blip-serve ask --image cat.jpg --question \"what colour is the cat?\"

Environment variables and a settings file can also set the options of serve:
see blip-serve serve --help and blip-serve config --example.")]
pub(crate) struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Log filter: a level such as debug, or directives such as blip_server=debug
    ///
    /// The program logs to standard error. The levels are error, warn, info, debug and trace. A
    /// directive is TARGET=LEVEL. Commas separate directives.
    #[arg(
        long,
        global = true,
        value_name = "FILTER",
        env = "BLIP_SERVE__LOG",
        default_value = "warn,bulk=info,hub=info"
    )]
    log: EnvFilter,

    /// Format of log lines: pretty for people, json for one object per line
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
    Serve(Box<ServeCommand>),
    Download(DownloadCommand),
    Convert(ConvertCommand),
    Ask(Box<AskCommand>),
    Caption(Box<CaptionCommand>),
    Match(Box<MatchCommand>),
    Embed(Box<EmbedCommand>),
    Eval(Box<EvalCommand>),
    Bench(Box<BenchCommand>),
    Health(HealthCommand),
    Config(Box<ConfigCommand>),
    /// Decode images for the server, which starts this command itself
    #[command(hide = true)]
    DecodeWorker,
}

/// Parses the command line, runs the subcommand, and prints its error in one line.
#[must_use]
pub(crate) fn run() -> Exit {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error),
    };
    if matches!(cli.command, Command::DecodeWorker) {
        return decode_worker::run().unwrap_or(Exit::Failed);
    }
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
                        Command::DecodeWorker => Ok(Exit::Usage),
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

/// Prints help and version as they are, and the error of an invalid command line as one line.
fn print_usage(error: &clap::Error) -> Exit {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || !error.use_stderr() {
        let _ = error.print();
        return if error.use_stderr() { Exit::Usage } else { Exit::Clean };
    }
    print_message(&format!("{} (see blip-serve --help)", one_line(error)));
    Exit::Usage
}

/// Returns the environment variables that set arguments other than settings.
fn program_variables(command: &clap::Command) -> Vec<String> {
    let variables =
        command.get_arguments().filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()));
    variables.chain(command.get_subcommands().flat_map(program_variables)).collect()
}

#[cfg(test)]
mod tests {
    use blip_server::config::{Kind, definitions};

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn help_lines_are_short_phrases() {
        let command = Cli::command();
        let commands: Vec<&clap::Command> = command.get_subcommands().collect();
        let arguments =
            command.get_arguments().chain(commands.iter().flat_map(|command| command.get_arguments()));
        let helps =
            commands.iter().map(|command| command.get_about()).chain(arguments.map(clap::Arg::get_help));
        // The server appends variable and default to the help of a setting.
        let phrase =
            |help: &clap::builder::StyledStr| help.to_string().split(" [env: ").next().unwrap().to_owned();
        let wrong = |help: &String| help.chars().count() > 80 || help.ends_with('.');
        let wrong: Vec<String> = helps.flatten().map(phrase).filter(wrong).collect();
        assert!(wrong.is_empty(), "{wrong:#?}");
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
    fn serve_help_shows_variable_and_default_of_every_setting() {
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
    fn program_variables_are_not_settings() {
        let variables = program_variables(&Cli::command());
        for variable in ["BLIP_SERVE__API_KEY", "BLIP_SERVE__CONFIG", "BLIP_SERVE__LOG", "BLIP_SERVE__SERVER"]
        {
            assert!(variables.iter().any(|known| known == variable), "{variable} of {variables:?}");
        }
        assert!(definitions().iter().all(|definition| !variables.contains(&definition.variable)));
    }
}
