//! Files of records: a line out for every line in.

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use bulk::{ExistingFile, Format, Input, Output, BulkConfig, Progress, RunSummary, Task, OutputFile};
use clap::{Args, ValueHint};
use futures::StreamExt as _;
use server::serve::exit::Exit;

use crate::{messages::print_message, records::Pictures, signals::stop_signals};

/// Records with the same image that are asked together at most.
const GROUP: usize = 32;

/// Where records come from and go to.
#[derive(Args, Debug)]
#[command(next_help_heading = "Files of records")]
pub(crate) struct BulkOptions {
    /// A file of records, JSON lines or CSV by the ending of its name; - is standard input. Images in it are URLs, or paths
    /// relative to it
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, conflicts_with_all = ["images", "more"])]
    input: Option<PathBuf>,

    /// Where the same records go with their answers, in the same order; - is standard output
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath, requires = "input", default_value = "-")]
    output: PathBuf,

    /// How records are written where no name says it: jsonl or csv
    #[arg(long, value_name = "jsonl|csv", default_value = "jsonl")]
    format: Format,

    /// Ask again the lines of an output that failed, then go on behind its last as --resume does
    #[arg(long, requires = "input", conflicts_with = "force")]
    retry_failed: bool,

    #[command(flatten)]
    work: WorkOptions,
}

/// How to work through many records.
#[derive(Args, Debug)]
pub(crate) struct WorkOptions {
    /// Go on with an output that was cut off
    #[arg(long, conflicts_with = "force")]
    resume: bool,

    /// Begin anew an output that is there
    #[arg(long)]
    force: bool,

    /// Images that are asked about at a time; the server takes fewer if it has enough
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    in_flight: u16,

    /// How long to go on trying when the server is lost or has no room, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience_s: u64,
}

impl BulkOptions {
    /// Whether there is a file to work through.
    pub(crate) fn is_wanted(&self) -> bool {
        self.input.is_some()
    }

    /// Where paths of images begin: in the folder of the input.
    pub(crate) fn pictures(&self) -> Pictures {
        let folder = self.input.as_deref().filter(|path| !is_standard(path)).and_then(Path::parent);
        Pictures { folder: folder.map(Path::to_owned).unwrap_or_default() }
    }

    /// Works through the input. `what` is done is said beside the progress; `columns` are those of a CSV output.
    pub(crate) async fn run(
        &self,
        task: &impl Task,
        what: &'static str,
        columns: &[&'static str],
    ) -> anyhow::Result<Exit> {
        let path = self.input.clone().filter(|path| !is_standard(path));
        let format = path.as_deref().and_then(Format::from_extension).unwrap_or(self.format);
        let input = Input { path, format };
        let output = Some(&*self.output).filter(|path| !is_standard(path));
        let existing = if self.retry_failed { ExistingFile::Resume } else { self.work.existing() };
        anyhow::ensure!(
            output.is_some() || existing != ExistingFile::Resume,
            "--resume and --retry-failed need --output FILE"
        );
        let format = output.and_then(Format::from_extension).unwrap_or(self.format);
        let mut again = Exit::Clean;
        if let Some(path) = output.filter(|path| self.retry_failed && path.is_file()) {
            anyhow::ensure!(input.path.is_some(), "--retry-failed needs --input FILE, which is read twice");
            let records = input.records().context("cannot read the input")?;
            let written = OutputFile { path, format, columns };
            let (summary, exit) = self.work.retry(task, records, written).await?;
            if summary.interrupted {
                print_message("stopped: --retry-failed goes on");
                return Ok(exit);
            }
            again = exit;
        }
        let records = input.records().context("cannot read the input")?;
        let total = input.count().context("cannot read the input")?;
        let mut output = Output::open(output, format, columns, existing)?;
        let (summary, exit) = self.work.run(task, what, records, total, &mut output).await?;
        if summary.interrupted {
            print_message(&format!("stopped after {} lines: --resume goes on", summary.written));
        }
        Ok(if exit == Exit::Clean { again } else { exit })
    }
}

impl WorkOptions {
    pub(crate) fn existing(&self) -> ExistingFile {
        match (self.resume, self.force) {
            (true, _) => ExistingFile::Resume,
            (false, true) => ExistingFile::Replace,
            (false, false) => ExistingFile::Refuse,
        }
    }

    /// Works through `records` until they end or a signal comes, and says in one line on standard error what was done.
    pub(crate) async fn run(
        &self,
        task: &impl Task,
        what: &'static str,
        records: impl futures::Stream<Item = std::io::Result<bulk::Record>> + Send + Unpin,
        total: Option<u64>,
        output: &mut Output,
    ) -> anyhow::Result<(RunSummary, Exit)> {
        let mut signals = stop_signals()?;
        let mut signal = None;
        let stop = async { signal = signals.next().await };
        let progress = Progress::on_stderr(what, output.resume_point().records, total);
        let summary = bulk::run(task, records, output, &progress, &self.plan(), stop).await?;
        Ok((summary, finished(what, summary, progress, signal)))
    }

    /// Asks again what failed in an output, and says likewise what was done.
    async fn retry(
        &self,
        task: &impl Task,
        records: impl futures::Stream<Item = std::io::Result<bulk::Record>> + Send + Unpin,
        written: OutputFile<'_>,
    ) -> anyhow::Result<(RunSummary, Exit)> {
        const WHAT: &str = "asking again";
        let mut signals = stop_signals()?;
        let mut signal = None;
        let stop = async { signal = signals.next().await };
        let progress = Progress::on_stderr(WHAT, 0, None);
        let summary = bulk::retry_failed(task, records, written, &progress, &self.plan(), stop).await?;
        Ok((summary, finished(WHAT, summary, progress, signal)))
    }

    fn plan(&self) -> BulkConfig {
        BulkConfig {
            max_in_flight: self.in_flight.into(),
            max_group_records: GROUP,
            group_by: "image",
            retry_timeout: Duration::from_secs(self.patience_s),
        }
    }
}

/// Says in one line what was done.
fn finished(what: &str, summary: RunSummary, progress: Progress, signal: Option<i32>) -> Exit {
    let rate = progress.per_second();
    // The bar is gone before the line comes.
    drop(progress);
    let RunSummary { written, failed, interrupted } = summary;
    let _ = writeln!(std::io::stderr(), "{what}: {written} lines, {failed} failed, {rate} a second");
    match signal {
        Some(number) if interrupted => Exit::Signal(number),
        _ if failed > 0 => Exit::Failed,
        _ => Exit::Clean,
    }
}

fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}
