//! `blip-serve eval`: accuracy and other metrics of a model on the data sets of the paper.
//!
//! A task of the paper has a folder: `vqa`, `caption` and `retrieval`. Each reads a data set, turns
//! it into records, processes them as a record file (`record_file`) that a later run can resume,
//! writes a results file and prints metrics.

mod vqa;
mod caption;
mod retrieval;
mod partial_results;
mod results_file;
mod protocol;
mod image_pattern;
mod json_file;

use blip_server::serve::exit::Exit;
use clap::{ArgMatches, Args, Command, FromArgMatches, Subcommand};

use crate::commands::eval::{caption::CaptionEvalCommand, retrieval::RetrievalCommand, vqa::VqaCommand};

/// Compute metrics of a model on a data set: VQA, captions or retrieval
///
/// Without a subcommand, it computes the accuracy on a VQA data set, as eval vqa does. A running
/// server processes the images, or with --local a model in this process.
#[derive(Args, Debug)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "Examples:
  blip-serve eval --questions v2_OpenEnded_mscoco_val2014_questions.json \\
      --annotations v2_mscoco_val2014_annotations.json --images val2014 --results results.json
  blip-serve eval caption --annotations captions_val2014.json --images val2014 \\
      --results captions.json --protocol paper
  blip-serve eval retrieval --data dataset_flickr30k.json --images flickr30k-images \\
      --results retrieval.json --protocol paper"
)]
pub(crate) struct EvalCommand {
    // Before the subcommand, which is removed from the matches when it is read.
    #[command(flatten)]
    plain: PlainVqa,

    #[command(subcommand)]
    task: Option<EvalTask>,
}

/// The options of `eval vqa` without a subcommand.
#[derive(Debug)]
struct PlainVqa(Option<Box<VqaCommand>>);

impl Args for PlainVqa {
    fn augment_args(command: Command) -> Command {
        VqaCommand::augment_args(command)
    }

    fn augment_args_for_update(command: Command) -> Command {
        VqaCommand::augment_args_for_update(command)
    }
}

impl FromArgMatches for PlainVqa {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        match matches.subcommand_name() {
            Some(_) => Ok(Self(None)),
            None => VqaCommand::from_arg_matches(matches).map(|command| Self(Some(Box::new(command)))),
        }
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[derive(Debug, Subcommand)]
enum EvalTask {
    Vqa(Box<VqaCommand>),
    Caption(Box<CaptionEvalCommand>),
    Retrieval(Box<RetrievalCommand>),
}

impl EvalCommand {
    pub(crate) async fn run(self, variables: &[String]) -> anyhow::Result<Exit> {
        match (self.task, self.plain.0) {
            (Some(EvalTask::Vqa(command)), _) => command.run(variables).await,
            (Some(EvalTask::Caption(command)), _) => command.run(variables).await,
            (Some(EvalTask::Retrieval(command)), _) => command.run(variables).await,
            (None, Some(command)) => command.run(variables).await,
            (None, None) => anyhow::bail!("nothing to evaluate: see blip-serve eval --help"),
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        eval: EvalCommand,
    }

    fn parse(line: &str) -> Result<EvalCommand, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.eval)
    }

    #[test]
    fn options_without_subcommand_are_those_of_vqa() {
        const VQA: &str = "--questions q.json --images i --results r.json";
        let plain = parse(&format!("eval {VQA}")).unwrap();
        assert!(plain.task.is_none());
        let named = parse(&format!("eval vqa {VQA}")).unwrap();
        assert!(named.plain.0.is_none());
        let Some(EvalTask::Vqa(named)) = named.task else { panic!("another task") };
        assert_eq!(format!("{:?}", plain.plain.0.unwrap()), format!("{named:?}"));
    }

    #[test]
    fn subcommand_needs_only_its_options() {
        const CAPTION: &str = "caption --annotations a.json --images i --results r.json";
        assert!(matches!(parse(&format!("eval {CAPTION}")).unwrap().task, Some(EvalTask::Caption(_))));
        parse(&format!("eval --questions q.json {CAPTION}")).unwrap_err();
        for line in
            ["eval --images i", "eval --images i --questions q.json", "eval caption", "eval retrieval"]
        {
            let error = parse(line).unwrap_err();
            assert_eq!(error.kind(), clap::error::ErrorKind::MissingRequiredArgument, "{line}");
        }
    }
}
