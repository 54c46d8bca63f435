//! `blip-serve capfilt`: captions and a filter of texts, as BLIP's data sets were made.
//!
//! `task` captions an image and scores its texts. `report` summarizes the results that the output
//! holds after the run.

mod task;
mod report_file;
mod markdown;
mod report;
mod sample;
mod histogram;
mod scored_text;

use anyhow::Context as _;
use blip_server::{request::generation::GenerationOptions, serve::exit::Exit};
use bulk::Fields;
use clap::{Args, ValueHint};
use proto::{CaptionRequest, MatchRequest};

use crate::{
    commands::{
        capfilt::{
            report::FilterReport,
            report_file::{ReportFile, parse_report_file},
            task::CapfiltTask,
        },
        interactive,
        record_file::{Activity, OutputFiles},
        task_args::TaskArgs,
    },
    messages::print_message,
    output::ResultPrinter,
    request_args::generation_message,
    target::DefaultModel,
};

/// The share of probability that sampling uses, as in the BLIP paper.
const DEFAULT_TOP_P: f32 = 0.9;

/// The seed of sampling, so that a continued run has the captions of an unbroken one.
const DEFAULT_SEED: u64 = 0;

/// Caption images and filter their texts by the matching model
///
/// This is CapFilt of the BLIP paper. One model samples captions of an image. Another one gives the
/// text of the image and the captions a probability to describe it. Texts with a higher probability
/// than the threshold pass. Both models run on a server, or with --local in this process. A record
/// has the field image, and optionally text and prompt.
#[derive(Args, Debug)]
#[command(
    mut_arg("model", |argument| argument
        .long("caption-model")
        .short(None)
        .help("Name of the caption model of the server, or its source to load it")
        .long_help(
            "Name of the caption model of the server, or its source to load it\n\n\
             With --server, it is the name of a model of that server. Otherwise the command loads \
             it, as serve --model does: demo-caption, a folder, a .pth file, or a name on the \
             Hugging Face hub. --match-model is then required, too.\n\n\
             [default: the first model of the server for captions; with --local, demo-caption]",
        )),
    mut_arg("num_answers", |argument| argument
        .long("captions")
        .alias("num-answers")
        .help("Number of captions to sample for each image [default: 1]")),
    mut_arg("top_p", |argument| argument
        .help("Sampling: total probability of the most likely tokens [default: 0.9]")),
    mut_arg("seed", |argument| argument
        .help("Sampling: seed; the seed of an image depends on it and on the image [default: 0]")),
    after_help = "Examples:
  blip-serve capfilt -i 'shard-{000..127}.tar' -o filtered/ --local --report report.md
  blip-serve capfilt -i pairs.jsonl -o filtered.jsonl --captions 2 --threshold 0.8
  blip-serve capfilt -i shards/ -o filtered/ --device cuda --resume \\
      --caption-model Salesforce/blip-image-captioning-large \\
      --match-model Salesforce/blip-itm-large-coco"
)]
pub(crate) struct CapfiltCommand {
    /// Beginning of the captions, which is left out of the texts
    ///
    /// It is the prompt of records without one.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,

    /// Name of the matching model of the server, or its source to load it
    ///
    /// As for --caption-model. [default: the first model of the server for matching; with --local,
    /// demo-match]
    #[arg(long, value_name = "NAME|SOURCE")]
    match_model: Option<String>,

    /// Probability above which a text passes
    ///
    /// With the default, a text passes if the matching head says that it describes the image.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.5, value_parser = parse_threshold)]
    threshold: f64,

    /// File for a report of the whole output: .md or .json; repeatable
    ///
    /// It has counts, a histogram of the probabilities and a sample of the texts. The command reads
    /// the output for it when all records are processed, those of interrupted runs included.
    #[arg(long = "report", value_name = "FILE", value_hint = ValueHint::FilePath,
          value_parser = parse_report_file)]
    reports: Vec<ReportFile>,

    #[command(flatten)]
    task: TaskArgs,

    #[command(flatten)]
    generation: GenerationOptions,
}

const ACTIVITY: Activity = Activity {
    name: "filtering",
    columns: &["id", "image", "text", "prompt", "passed_texts", "scored_texts", "error"],
    nothing_given: "no image: expected a file, a folder, a URL or --input",
    request_field: "prompt",
    column_fields: &["text", "prompt"],
    text_field: None,
    default_model: DefaultModel::CaptionAndMatch,
};

impl CapfiltCommand {
    pub(crate) async fn run(mut self, variables: &[String]) -> anyhow::Result<Exit> {
        self.task.target.match_model = self.match_model.take();
        let outputs = self.outputs()?;
        let priority = self.task.target.priority();
        let captions = CaptionRequest {
            model: self.task.target.model_name(),
            priority,
            generation: generation_message(sampling(self.generation)),
            ..CaptionRequest::default()
        };
        let matching =
            MatchRequest { model: self.task.target.match_model_name(), priority, ..MatchRequest::default() };
        let prompts: Vec<Fields> = match &self.prompt {
            Some(prompt) => vec![interactive::record("prompt", prompt)],
            None => vec![Fields::new()],
        };
        let threshold = self.threshold;
        let printer = ResultPrinter::new(self.task.json, false);
        let to_groups = |images| interactive::groups_by_image(images, "prompt", &prompts);
        let to_task = |client, images| CapfiltTask { client, images, captions, matching, threshold };
        let exit = self.task.run(ACTIVITY, variables, &printer, &prompts, to_groups, to_task).await?;
        match (outputs, exit) {
            (Some(outputs), Exit::Clean | Exit::Failed) => {
                write_reports(&self.reports, &outputs, threshold).await?;
            }
            (Some(_), _) => print_message("no report: the output is not complete"),
            (None, _) => {}
        }
        Ok(exit)
    }

    /// Returns the files that the reports are made of, or `None` without a report.
    fn outputs(&self) -> anyhow::Result<Option<OutputFiles>> {
        if self.reports.is_empty() {
            return Ok(None);
        }
        let outputs = self.task.output_files(ACTIVITY)?;
        let outputs = outputs.context("--report needs --output FILE: the report is made of the output")?;
        for report in &self.reports {
            let path = report.path();
            anyhow::ensure!(!outputs.has(path), "{} is the output: name another report", path.display());
            anyhow::ensure!(
                !self.task.has_input(path),
                "{} is the input: name another report",
                path.display()
            );
        }
        Ok(Some(outputs))
    }
}

/// Returns the generation options. They are those of nucleus sampling, unless they demand another
/// way.
fn sampling(options: GenerationOptions) -> GenerationOptions {
    if options.num_beams.is_some() || options.sample == Some(false) {
        return options;
    }
    GenerationOptions {
        sample: Some(true),
        top_p: options.top_p.or(Some(DEFAULT_TOP_P)),
        seed: options.seed.or(Some(DEFAULT_SEED)),
        ..options
    }
}

async fn write_reports(files: &[ReportFile], outputs: &OutputFiles, threshold: f64) -> anyhow::Result<()> {
    let mut report = FilterReport::new(threshold);
    let read = outputs.read(|fields| report.add(&fields)).await;
    report.shards_without_output = read.context("cannot make the report")?;
    files.iter().try_for_each(|file| file.write(&report))
}

fn parse_threshold(text: &str) -> Result<f64, String> {
    let threshold = text.parse().ok().filter(|threshold| (0.0..=1.0).contains(threshold));
    threshold.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        command: CapfiltCommand,
    }

    fn command(options: &str) -> Result<CapfiltCommand, clap::Error> {
        let line = format!("capfilt {options}");
        Line::try_parse_from(line.split_whitespace()).map(|line| line.command)
    }

    #[test]
    fn captions_are_sampled_unless_options_demand_another_way() {
        let options = |line: &str| sampling(command(line).unwrap().generation);
        let default = options("");
        assert_eq!((default.sample, default.top_p, default.seed), (Some(true), Some(0.9), Some(0)));
        let other = options("--top-p 0.8 --seed 7 --captions 3");
        assert_eq!((other.top_p, other.seed, other.num_answers), (Some(0.8), Some(7), Some(3)));
        for line in ["--num-beams 3", "--sample=false"] {
            assert_eq!(options(line), command(line).unwrap().generation);
        }
    }

    #[test]
    fn threshold_outside_of_probabilities_is_an_error() {
        for line in ["--threshold 1.5", "--threshold nan", "--threshold x"] {
            let error = command(line).unwrap_err().to_string();
            assert!(error.contains("must be a number from 0 to 1"), "{error}");
        }
        assert!(command("").unwrap().threshold.total_cmp(&0.5).is_eq());
    }
}
