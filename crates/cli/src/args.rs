//! The command line: global options and subcommands.

use blip_server::{
    config::{SettingsError, one_line},
    preprocess::decoding::WORKER_COMMAND,
    serve::exit::Exit,
    telemetry::{self, LogFormat},
};
use clap::{
    CommandFactory as _, Parser, Subcommand,
    error::{ContextKind, ContextValue, ErrorKind},
};
use tracing_subscriber::EnvFilter;

use crate::{
    commands::{
        ask::AskCommand,
        bench::BenchCommand,
        capfilt::CapfiltCommand,
        caption::CaptionCommand,
        config::ConfigCommand,
        convert::ConvertCommand,
        download::DownloadCommand,
        embed::EmbedCommand,
        eval::EvalCommand,
        health::HealthCommand,
        match_texts::MatchCommand,
        merge::MergeCommand,
        models::ModelsCommand,
        serve::ServeCommand,
        shell::{CompletionsCommand, ManCommand},
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
  blip-serve ask cat.jpg -q \"what colour is the cat?\"
  blip-serve ask cat.jpg -q \"how many cats?\" --local  the same without a server

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
    Capfilt(Box<CapfiltCommand>),
    Merge(MergeCommand),
    Eval(Box<EvalCommand>),
    Bench(Box<BenchCommand>),
    Models(Box<ModelsCommand>),
    Health(Box<HealthCommand>),
    Config(Box<ConfigCommand>),
    Completions(CompletionsCommand),
    Man(ManCommand),
}

/// Parses the command line, runs the subcommand, and prints its error in one line.
#[must_use]
pub(crate) fn run() -> Exit {
    // Not one of the commands, so that neither help nor completions show it.
    if std::env::args_os().nth(1).is_some_and(|word| word == WORKER_COMMAND) {
        return decode_worker::run().unwrap_or(Exit::Failed);
    }
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
                        Command::Ask(command) => command.run(&variables).await,
                        Command::Caption(command) => command.run(&variables).await,
                        Command::Match(command) => command.run(&variables).await,
                        Command::Embed(command) => command.run(&variables).await,
                        Command::Capfilt(command) => command.run(&variables).await,
                        Command::Merge(command) => command.run().await,
                        Command::Eval(command) => command.run(&variables).await,
                        Command::Bench(command) => command.run(&variables).await,
                        Command::Models(command) => command.run().await,
                        Command::Health(command) => command.run().await,
                        Command::Config(command) => command.run(&variables),
                        Command::Completions(command) => command.run(Cli::command()),
                        Command::Man(command) => command.run(Cli::command()),
                    }
                });
                // Does not wait for connections and engine threads that exceeded their limits.
                runtime.shutdown_background();
                exit
            },
        );
    result.unwrap_or_else(|error| {
        print_message(&format!("{error:#}"));
        if error.is::<SettingsError>() { Exit::Usage } else { Exit::Failed }
    })
}

/// Prints help and version as they are, and the error of an invalid command line as one line.
fn print_usage(error: &clap::Error) -> Exit {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand || !error.use_stderr() {
        let _ = error.print();
        return if error.use_stderr() { Exit::Usage } else { Exit::Clean };
    }
    let words = std::env::args_os().skip(1).filter_map(|word| word.into_string().ok());
    let subcommand = words.into_iter().find(|word| Cli::command().find_subcommand(word).is_some());
    print_message(&usage_message(error, subcommand.as_deref()));
    Exit::Usage
}

/// Returns the error of an invalid command line in one line, with a suggestion.
fn usage_message(error: &clap::Error, subcommand: Option<&str>) -> String {
    let kinds = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let suggestion = kinds.into_iter().find_map(|kind| match error.get(kind)? {
        ContextValue::String(name) => Some(name.clone()),
        ContextValue::Strings(names) => names.last().cloned(),
        _ => None,
    });
    let suggestion = suggestion.map(|name| format!("; did you mean {name}?")).unwrap_or_default();
    let command = subcommand.map(|name| format!(" {name}")).unwrap_or_default();
    format!("{}{suggestion} (see blip-serve{command} --help)", one_line(error))
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
    fn unknown_option_and_command_suggest_similar_ones() {
        for (line, command, message) in [
            (
                "blip-serve ask --imgae a.png",
                Some("ask"),
                "unexpected argument '--imgae' found; did you mean --image? (see blip-serve ask --help)",
            ),
            (
                "blip-serve captoin",
                None,
                "unrecognized subcommand 'captoin'; did you mean caption? (see blip-serve --help)",
            ),
            (
                "blip-serve ask a.png -q x --priority hihg",
                Some("ask"),
                "invalid value 'hihg' for '--priority <PRIORITY>' [possible values: low, normal, high]; did \
                 you mean high? (see blip-serve ask --help)",
            ),
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(usage_message(&error, command), message);
        }
        let error = Cli::try_parse_from(["blip-serve", "serve", "--xyzzy"]).unwrap_err();
        assert_eq!(
            usage_message(&error, None),
            "unexpected argument '--xyzzy' found (see blip-serve --help)"
        );
    }

    #[test]
    fn short_options_mean_the_same_in_every_command() {
        let line = "blip-serve ask -i in.jsonl -o out.jsonl -m demo -s blip:50051";
        let matches = Cli::command().try_get_matches_from(line.split(' ')).unwrap();
        let (_, ask) = matches.subcommand().unwrap();
        for (id, value) in [("input", "in.jsonl"), ("output", "out.jsonl"), ("model", "demo")] {
            assert_eq!(ask.get_raw(id).unwrap().next().unwrap(), value, "{id}");
        }
        let mut longs = std::collections::BTreeMap::new();
        for command in Cli::command().get_subcommands() {
            for argument in command.get_arguments() {
                let (Some(short), Some(long)) = (argument.get_short(), argument.get_long()) else { continue };
                let known = longs.entry(short).or_insert_with(|| long.to_owned());
                assert_eq!(known, long, "-{short} of {}", command.get_name());
            }
        }
        assert!(['i', 'm', 'o', 'q', 's', 't'].iter().all(|short| longs.contains_key(short)), "{longs:?}");
    }

    #[test]
    fn options_of_every_group_have_their_heading() {
        let command = Cli::command();
        let ask = command.find_subcommand("ask").unwrap();
        let heading = |id: &str| {
            let argument = ask.get_arguments().find(|argument| argument.get_id() == id).unwrap();
            argument.get_help_heading()
        };
        for (id, expected) in [
            ("questions", None),
            ("images", None),
            ("json", None),
            ("timeout_s", None),
            ("model", None),
            ("server", Some("Connection")),
            ("local", Some("Without a server")),
            ("device", Some("Model")),
            ("input", Some("Record files")),
            ("in_flight", Some("Record files")),
            ("num_beams", Some("Generation")),
        ] {
            assert_eq!(heading(id), expected, "{id}");
        }
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
