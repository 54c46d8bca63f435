//! Record files, shards and text files: where records come from and where results go.

mod output_files;
mod same_path;
mod shard_columns;
mod text_files;
mod activity;

use std::{io::Write as _, ops::Range, path::Path, time::Duration};

use anyhow::Context as _;
use blip_server::{config::units::parse_seconds, serve::exit::Exit};
use bulk::{
    BulkConfig, Defaults, ExistingFile, Fields, Format, Input, Location, Output, OutputFile, Part, Progress,
    Record, RunSummary, ShardFiles, ShardOptions, ShardSummary, Task, is_shard_input,
};
use clap::{Args, ValueHint};
use futures::StreamExt as _;

use crate::{
    commands::interactive::RecordGroups,
    messages::print_message,
    records::{ImageLoader, RESULT_FIELDS},
    signals::StopSignal,
};

use same_path::is_same_path;
use shard_columns::{ColumnArgs, result_columns};
use text_files::output_folder;

pub(crate) use activity::Activity;
pub(crate) use output_files::OutputFiles;
pub(crate) use text_files::{TextFiles, replace_file};

/// Name of the results in shards.
const DEFAULT_RESULT_NAME: &str = "blip";

/// Maximum number of records with the same image in one request.
const MAX_GROUP_RECORDS: usize = 32;

/// The input and the output of records.
#[derive(Args, Debug)]
#[command(next_help_heading = "Record files")]
pub(crate) struct RecordFileArgs {
    /// Record file (JSON lines or CSV), - for standard input, or shards (tar, Parquet)
    ///
    /// The extension decides the format. Images are URLs, or paths relative to this file. Shards
    /// are a .tar file of WebDataset or a .parquet file, a folder of such files, or a name such as
    /// 'shard-{000..127}.tar' (in quotes). - is standard input. Files can have URLs with s3://,
    /// gs://, az://, http:// or https://. A URL of a folder ends in a slash.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath,
          conflicts_with_all = ["images", "more"])]
    input: Option<Location>,

    /// Output file, a line for each record, or a folder for shards [default: -]
    ///
    /// The order is that of the input. A line has the fields of its input line and those of its
    /// result. Without --input, each image with each text is a record. The folder for shards can be
    /// a URL with s3://, gs:// or az://.
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    output: Option<Location>,

    /// Format of standard input and output: jsonl or csv [default: jsonl]
    ///
    /// It also applies to files with another extension.
    #[arg(long, value_name = "jsonl|csv")]
    format: Option<Format>,

    /// Send failed records of the output again, then continue it as --resume does
    ///
    /// The other results stay as they are. A shard with failed samples is written again as a whole.
    #[arg(long, requires = "input", conflicts_with = "force")]
    retry_failed: bool,

    /// Process part I of N of the input, from 0, so that N machines share it
    ///
    /// Part I of shards is every Nth shard, and the machines can share the output folder. Part
    /// I of a record file is a range of its lines, for a separate output.
    #[arg(long, value_name = "I/N", requires = "input")]
    shard: Option<Part>,

    /// Name of the results in shards: x.NAME.json or a column [default: blip]
    ///
    /// In tar files, the result of x.jpg is x.NAME.json. In Parquet files, the results are the
    /// column NAME.
    #[arg(long, value_name = "NAME", requires = "input", value_parser = parse_result_name)]
    result_name: Option<String>,

    #[command(flatten)]
    columns: ColumnArgs,

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

    /// Checks that every given option has an effect. `json` is the option of that name.
    ///
    /// # Errors
    /// The first option without an effect.
    pub(crate) fn check(&self, json: bool) -> anyhow::Result<()> {
        if self.has_shards() {
            anyhow::ensure!(self.format.is_none(), "--format is for record files: the input is shards");
            anyhow::ensure!(!json, "--json is for standard output: the results of shards are in files");
        }
        let has_unused_format = self.format.is_some() && !self.is_given();
        for (is_given, option) in [
            (self.run.resume, "--resume"),
            (self.run.force, "--force"),
            (self.retry_failed, "--retry-failed"),
            (has_unused_format, "--format"),
        ] {
            anyhow::ensure!(!is_given || self.output().is_some(), "{option} needs --output FILE");
        }
        Ok(())
    }

    /// Returns the format of a file, or of a standard stream.
    fn format_of(&self, file: Option<&Location>) -> Format {
        file.and_then(Format::from_extension).or(self.format).unwrap_or(Format::Jsonl)
    }

    /// Returns the output, or `None` for standard output.
    fn output(&self) -> Option<&Location> {
        self.output.as_ref().filter(|output| !is_standard_stream(output))
    }

    /// Returns the output file of records, or `None` for standard output.
    ///
    /// # Errors
    /// A URL. Records are appended one by one, which object stores cannot do.
    fn record_output(&self) -> anyhow::Result<Option<&Path>> {
        let Some(output) = self.output() else { return Ok(None) };
        let path = output.path();
        path.with_context(|| format!("cannot write records to {output}: use a file, or shards")).map(Some)
    }

    /// Returns the output, if it is a folder. It is created if its name ends in a slash.
    pub(crate) fn output_folder(&self) -> anyhow::Result<Option<&Path>> {
        match self.record_output()? {
            Some(output) if output_folder(output)? => Ok(Some(output)),
            _ => Ok(None),
        }
    }

    /// Returns what to do with an existing output.
    pub(crate) fn existing(&self) -> ExistingFile {
        if self.retry_failed { ExistingFile::RetryFailed } else { self.run.existing() }
    }

    /// Returns a loader for paths relative to the folder of the input. Paths in shards have the
    /// folder of their shard.
    pub(crate) fn image_loader(&self) -> ImageLoader {
        if self.has_shards() {
            return ImageLoader::default();
        }
        let input = self.input.as_ref().filter(|input| !is_standard_stream(input));
        ImageLoader { folder: input.map(Location::folder) }
    }

    /// Returns whether `path` is the input.
    pub(crate) fn has_input(&self, path: &Path) -> bool {
        let input = self.input.as_ref().filter(|input| !is_standard_stream(input));
        input.and_then(Location::path).is_some_and(|input| is_same_path(input, path))
    }

    /// Returns whether the input is shards.
    pub(crate) fn has_shards(&self) -> bool {
        self.input.as_ref().is_some_and(is_shard_input)
    }

    /// Returns the shards to process, or `None` if the input is a record file.
    ///
    /// # Errors
    /// Options that do not fit the input, and the errors of [`ShardFiles::find`].
    pub(crate) fn shards(&self) -> anyhow::Result<Option<ShardFiles>> {
        let Some(input) = self.input.as_ref().filter(|input| is_shard_input(input)) else {
            anyhow::ensure!(self.result_name.is_none(), "--result-name is for shards");
            self.columns.check(&[])?;
            return Ok(None);
        };
        let Some(output) = self.output() else { anyhow::bail!("shards need a folder: --output FOLDER") };
        // `find` comes later, because it creates the output folder.
        let names =
            ShardFiles::outputs(input, &Path::new("").into(), Part::WHOLE).map_err(anyhow::Error::msg)?;
        self.columns.check(&names)?;
        let part = self.shard.unwrap_or(Part::WHOLE);
        ShardFiles::find(input, output, self.existing(), part).map(Some).map_err(anyhow::Error::msg)
    }

    /// Returns the files of the results, or `None` if they go to standard output.
    ///
    /// # Errors
    /// An input that names no shards.
    pub(crate) fn output_files(&self, activity: Activity) -> anyhow::Result<Option<OutputFiles>> {
        let Some(output) = self.output() else { return Ok(None) };
        let Some(input) = self.input.as_ref().filter(|input| is_shard_input(input)) else {
            let format = self.format_of(Some(output));
            return Ok(Some(OutputFiles::Records(Input { file: Some(output.clone()), format })));
        };
        let part = self.shard.unwrap_or(Part::WHOLE);
        let shards = ShardFiles::outputs(input, output, part).map_err(anyhow::Error::msg)?;
        let columns = result_columns(activity);
        Ok(Some(OutputFiles::Shards { shards, result_name: self.result_name(), columns }))
    }

    /// Returns the name of the results in shards.
    fn result_name(&self) -> String {
        self.result_name.clone().unwrap_or_else(|| DEFAULT_RESULT_NAME.to_owned())
    }

    /// Processes the input, or `shards`. Records without a text get the fields `defaults`.
    pub(crate) async fn run(
        &self,
        task: &impl Task,
        activity: Activity,
        defaults: Fields,
        shards: Option<ShardFiles>,
    ) -> anyhow::Result<Exit> {
        let defaults = Defaults { text_field: activity.request_field, fields: defaults };
        if let Some(files) = shards {
            return self.run_shards(files, task, activity, defaults).await;
        }
        let file = self.input.clone().filter(|input| !is_standard_stream(input));
        let format = self.format_of(file.as_ref());
        let input = Input { file, format };
        let output = self.record_output()?;
        let existing = self.existing();
        let format = self.format_of(self.output());
        let total = input.count().with_context(|| cannot_read(&input))?;
        let part = self.part_range(total)?;
        let mut retried = Exit::Clean;
        if let Some(path) = output.filter(|path| self.retry_failed && path.is_file()) {
            anyhow::ensure!(
                input.file.is_some(),
                "--retry-failed needs --input FILE: it reads the input twice"
            );
            let records = self.records(&input, &defaults, &part)?;
            let output = OutputFile { path, format, columns: activity.columns };
            let (summary, exit) = self.run.retry(task, records, output).await?;
            if summary.interrupted {
                print_message("stopped: use --retry-failed to continue");
                return Ok(exit);
            }
            retried = exit;
        }
        let records = self.records(&input, &defaults, &part)?;
        let total = total.map(|total| part.end.min(total) - part.start);
        let exit = self.write(task, activity, records, total, existing).await?;
        Ok(if exit == Exit::Clean { retried } else { exit })
    }

    /// Returns the positions of the records to process, of `total` records.
    fn part_range(&self, total: Option<u64>) -> anyhow::Result<Range<u64>> {
        match (self.shard, total) {
            (None, _) => Ok(0..u64::MAX),
            (Some(part), Some(total)) => Ok(part.range(total)),
            (Some(_), None) => anyhow::bail!("--shard needs --input FILE: it counts the records first"),
        }
    }

    /// Returns the records of `part` of the input, with `defaults` for fields that they lack.
    fn records(
        &self,
        input: &Input,
        defaults: &Defaults,
        part: &Range<u64>,
    ) -> anyhow::Result<impl futures::Stream<Item = std::io::Result<Record>> + Send + Unpin + use<>> {
        let records = input.records().with_context(|| cannot_read(input))?;
        let defaults = defaults.clone();
        let position = |position: u64| usize::try_from(position).unwrap_or(usize::MAX);
        let records = records.skip(position(part.start)).take(position(part.end - part.start));
        Ok(records.map(move |record| record.map(|record| record.with_defaults(&defaults))))
    }

    /// Processes shards.
    async fn run_shards(
        &self,
        files: ShardFiles,
        task: &impl Task,
        activity: Activity,
        defaults: Defaults,
    ) -> anyhow::Result<Exit> {
        let skipped = files.complete;
        let progress = Progress::on_stderr(activity.name, 0, Some(0));
        let signal = StopSignal::watch()?;
        let on_unreadable =
            |shard: &Location, error: &std::io::Error| print_message(&format!("{shard}: {error}"));
        let columns = self.columns.shard_columns(activity);
        let options = ShardOptions { result_name: self.result_name(), defaults, columns };
        let config = self.run.config();
        let summary =
            bulk::run_shards(task, files, options, &progress, &config, on_unreadable, signal.received())
                .await?;
        let exit = print_summary(activity.name, summary.samples, progress, signal.number());
        let ShardSummary { complete_shards, unchanged_shards, failed_shards, samples } = summary;
        print_shards(complete_shards, skipped + unchanged_shards, failed_shards);
        if samples.interrupted {
            let option = if self.retry_failed { "--retry-failed" } else { "--resume" };
            print_message(&format!("stopped: use {option} to process the other shards"));
        }
        Ok(if exit == Exit::Clean && failed_shards > 0 { Exit::Failed } else { exit })
    }

    /// Processes the records of a command line, and writes the results to the output file.
    pub(crate) async fn run_groups(
        &self,
        task: &impl Task,
        activity: Activity,
        groups: RecordGroups<'_>,
    ) -> anyhow::Result<Exit> {
        let total = u64::try_from(groups.count).ok();
        self.write(task, activity, groups.into_records(), total, self.run.existing()).await
    }

    /// Processes the records of a command line, and writes a text file for each.
    pub(crate) async fn run_text_files(
        &self,
        task: &impl Task,
        activity: Activity,
        groups: RecordGroups<'_>,
        files: &mut TextFiles<'_>,
    ) -> anyhow::Result<Exit> {
        let progress = Progress::on_stderr(activity.name, 0, u64::try_from(groups.count).ok());
        let signal = StopSignal::watch()?;
        let records = groups.into_records();
        let summary =
            bulk::process_records(task, records, files, &progress, &self.run.config(), signal.received())
                .await?;
        if summary.interrupted {
            print_message("stopped: use --resume to process the other images");
        }
        Ok(print_summary(activity.name, summary, progress, signal.number()))
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
        let format = self.format_of(self.output());
        let mut output = Output::open(self.record_output()?, format, activity.columns, existing)?;
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
        let signal = StopSignal::watch()?;
        let progress = Progress::on_stderr(activity, output.resume_point().records, total);
        let summary = bulk::run(task, records, output, &progress, &self.config(), signal.received()).await?;
        Ok((summary, print_summary(activity, summary, progress, signal.number())))
    }

    /// Processes the failed lines of an output again. Prints a summary.
    async fn retry(
        &self,
        task: &impl Task,
        records: impl futures::Stream<Item = std::io::Result<bulk::Record>> + Send + Unpin,
        output: OutputFile<'_>,
    ) -> anyhow::Result<(RunSummary, Exit)> {
        const ACTIVITY: &str = "retrying";
        let signal = StopSignal::watch()?;
        let progress = Progress::on_stderr(ACTIVITY, 0, None);
        let summary =
            bulk::retry_failed(task, records, output, &progress, &self.config(), signal.received()).await?;
        Ok((summary, print_summary(ACTIVITY, summary, progress, signal.number())))
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
    let bound_by = progress.bound_by().map(|stages| format!(", bound by: {stages}")).unwrap_or_default();
    // Removes the bar before the line is printed.
    drop(progress);
    let RunSummary { written, failed, interrupted } = summary;
    let _ = writeln!(
        std::io::stderr(),
        "{activity}: {written} lines, {failed} failed, {rate} per second{bound_by}"
    );
    match signal {
        Some(number) if interrupted => Exit::Signal(number),
        _ if failed > 0 => Exit::Failed,
        _ => Exit::Clean,
    }
}

/// Prints the numbers of shards of a run.
pub(crate) fn print_shards(complete: usize, skipped: usize, failed: usize) {
    print_message(&format!("{complete} shards complete, {skipped} were already, {failed} cannot be read"));
}

/// Parses a name of results. It becomes a part of file names.
fn parse_result_name(name: &str) -> Result<String, String> {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'-';
    match name {
        _ if !name.is_empty() && name.bytes().all(valid) => Ok(name.to_owned()),
        _ => Err("must consist of small letters, digits, _ and -".to_owned()),
    }
}

fn is_standard_stream(file: &Location) -> bool {
    file.path() == Some(Path::new("-"))
}

/// Returns the first part of the error of an input that cannot be read.
fn cannot_read(input: &Input) -> String {
    match &input.file {
        Some(file @ Location::Url(_)) => format!("cannot read the input {file}"),
        _ => "cannot read the input".to_owned(),
    }
}
