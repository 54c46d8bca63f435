//! Record files: one line of output for each line of input.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use blip_server::{config::units::parse_seconds, serve::exit::Exit};
use bulk::{BulkConfig, ExistingFile, Format, Input, Output, OutputFile, Progress, Record, RunSummary, Task};
use clap::{Args, ValueHint};
use futures::{StreamExt as _, stream};

use crate::{
    commands::interactive::RecordGroups,
    messages::print_message,
    records::{ImageLoader, RESULT_FIELDS},
    signals::stop_signals,
};

/// Maximum number of records with the same image in one request.
const MAX_GROUP_RECORDS: usize = 32;

/// The activity of a command on a record file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activity {
    /// What is shown beside the progress.
    pub(crate) name: &'static str,
    /// The columns of a CSV output.
    pub(crate) columns: &'static [&'static str],
    /// The error of a command without anything to process.
    pub(crate) nothing_given: &'static str,
}

/// The input and the output of records.
#[derive(Args, Debug)]
#[command(next_help_heading = "Record files")]
pub(crate) struct RecordFileArgs {
    /// Record file, JSON lines or CSV by its extension; - is standard input
    ///
    /// Images are URLs, or paths relative to this file.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with_all = ["images", "more"])]
    input: Option<PathBuf>,

    /// Output file, a line for each record; - is standard output [default: -]
    ///
    /// The order is that of the input. A line has the fields of its input line and those of its
    /// result. Without --input, each image with each text is a record.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<PathBuf>,

    /// Format of standard input and output: jsonl or csv
    ///
    /// It also applies to files with another extension.
    #[arg(long, value_name = "jsonl|csv", default_value = "jsonl")]
    format: Format,

    /// Send failed lines of the output again, then continue it as --resume does
    #[arg(long, requires = "input", conflicts_with = "force")]
    retry_failed: bool,

    #[command(flatten)]
    run: RunArgs,
}

/// How to process many records.
#[derive(Args, Debug)]
pub(crate) struct RunArgs {
    /// Continue an interrupted output
    #[arg(long, conflicts_with = "force")]
    resume: bool,

    /// Replace an existing output
    #[arg(long)]
    force: bool,

    /// Maximum number of images in flight
    ///
    /// The server reads fewer while it is busy.
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    in_flight: u16,

    /// Time for retries when the server is lost or busy, in seconds or with a unit
    #[arg(long, alias = "patience-s", value_name = "SECONDS", default_value = "120", value_parser = parse_seconds)]
    retry_timeout_s: Duration,
}

impl RecordFileArgs {
    /// Returns whether the records come from a file.
    pub(crate) fn is_given(&self) -> bool {
        self.input.is_some()
    }

    /// Returns whether the results go to a file.
    pub(crate) fn has_output(&self) -> bool {
        self.output().is_some()
    }

    /// Returns the maximum number of images in flight.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.run.in_flight.into()
    }

    /// Returns the output file, or `None` for standard output.
    fn output(&self) -> Option<&Path> {
        self.output.as_deref().filter(|path| !is_standard_stream(path))
    }

    /// Returns a loader for paths relative to the folder of the input.
    pub(crate) fn image_loader(&self) -> ImageLoader {
        let folder = self.input.as_deref().filter(|path| !is_standard_stream(path)).and_then(Path::parent);
        ImageLoader { folder: folder.map(Path::to_owned).unwrap_or_default() }
    }

    /// Processes the input.
    pub(crate) async fn run(&self, task: &impl Task, activity: Activity) -> anyhow::Result<Exit> {
        let path = self.input.clone().filter(|path| !is_standard_stream(path));
        let format = path.as_deref().and_then(Format::from_extension).unwrap_or(self.format);
        let input = Input { path, format };
        let output = self.output();
        let existing = if self.retry_failed { ExistingFile::Resume } else { self.run.existing() };
        anyhow::ensure!(
            output.is_some() || existing != ExistingFile::Resume,
            "--resume and --retry-failed need --output FILE"
        );
        let format = output.and_then(Format::from_extension).unwrap_or(self.format);
        let mut retried = Exit::Clean;
        if let Some(path) = output.filter(|path| self.retry_failed && path.is_file()) {
            anyhow::ensure!(
                input.path.is_some(),
                "--retry-failed needs --input FILE: it reads the input twice"
            );
            let records = input.records().context("cannot read the input")?;
            let output = OutputFile { path, format, columns: activity.columns };
            let (summary, exit) = self.run.retry(task, records, output).await?;
            if summary.interrupted {
                print_message("stopped: use --retry-failed to continue");
                return Ok(exit);
            }
            retried = exit;
        }
        let records = input.records().context("cannot read the input")?;
        let total = input.count().context("cannot read the input")?;
        let exit = self.write(task, activity, records, total, existing).await?;
        Ok(if exit == Exit::Clean { retried } else { exit })
    }

    /// Processes the records of a command line, and writes the results to the output file.
    pub(crate) async fn run_groups(
        &self,
        task: &impl Task,
        activity: Activity,
        groups: RecordGroups<'_>,
    ) -> anyhow::Result<Exit> {
        let total = u64::try_from(groups.count).ok();
        let records = (0..).zip(groups.groups.flatten());
        let records =
            stream::iter(records.map(|(position, fields)| Ok(Record { position, fields: Ok(fields) })));
        self.write(task, activity, records, total, self.run.existing()).await
    }

    /// Processes `records`, and writes the results.
    async fn write(
        &self,
        task: &impl Task,
        activity: Activity,
        records: impl futures::Stream<Item = std::io::Result<Record>> + Send + Unpin,
        total: Option<u64>,
        existing: ExistingFile,
    ) -> anyhow::Result<Exit> {
        let format = self.output().and_then(Format::from_extension).unwrap_or(self.format);
        let mut output = Output::open(self.output(), format, activity.columns, existing)?;
        let (summary, exit) = self.run.run(task, activity.name, records, total, &mut output).await?;
        if summary.interrupted {
            print_message(&format!("stopped after {} lines: use --resume to continue", summary.written));
        }
        Ok(exit)
    }
}

impl RunArgs {
    pub(crate) fn existing(&self) -> ExistingFile {
        match (self.resume, self.force) {
            (true, _) => ExistingFile::Resume,
            (false, true) => ExistingFile::Replace,
            (false, false) => ExistingFile::Refuse,
        }
    }

    /// Processes `records` until they end or a stop signal arrives. Prints a summary.
    pub(crate) async fn run(
        &self,
        task: &impl Task,
        activity: &'static str,
        records: impl futures::Stream<Item = std::io::Result<bulk::Record>> + Send + Unpin,
        total: Option<u64>,
        output: &mut Output,
    ) -> anyhow::Result<(RunSummary, Exit)> {
        let mut signals = stop_signals()?;
        let mut signal = None;
        let stop = async { signal = signals.next().await };
        let progress = Progress::on_stderr(activity, output.resume_point().records, total);
        let summary = bulk::run(task, records, output, &progress, &self.config(), stop).await?;
        Ok((summary, print_summary(activity, summary, progress, signal)))
    }

    /// Processes the failed lines of an output again. Prints a summary.
    async fn retry(
        &self,
        task: &impl Task,
        records: impl futures::Stream<Item = std::io::Result<bulk::Record>> + Send + Unpin,
        output: OutputFile<'_>,
    ) -> anyhow::Result<(RunSummary, Exit)> {
        const ACTIVITY: &str = "retrying";
        let mut signals = stop_signals()?;
        let mut signal = None;
        let stop = async { signal = signals.next().await };
        let progress = Progress::on_stderr(ACTIVITY, 0, None);
        let summary = bulk::retry_failed(task, records, output, &progress, &self.config(), stop).await?;
        Ok((summary, print_summary(ACTIVITY, summary, progress, signal)))
    }

    fn config(&self) -> BulkConfig {
        BulkConfig {
            max_in_flight: self.in_flight.into(),
            max_group_records: MAX_GROUP_RECORDS,
            group_by: "image",
            result_fields: RESULT_FIELDS,
            retry_timeout: self.retry_timeout_s,
        }
    }
}

/// Prints a summary on standard error, and returns the exit status.
fn print_summary(activity: &str, summary: RunSummary, progress: Progress, signal: Option<i32>) -> Exit {
    let rate = progress.per_second();
    // Removes the bar before the line is printed.
    drop(progress);
    let RunSummary { written, failed, interrupted } = summary;
    let _ = writeln!(std::io::stderr(), "{activity}: {written} lines, {failed} failed, {rate} per second");
    match signal {
        Some(number) if interrupted => Exit::Signal(number),
        _ if failed > 0 => Exit::Failed,
        _ => Exit::Clean,
    }
}

fn is_standard_stream(path: &Path) -> bool {
    path.as_os_str() == "-"
}
