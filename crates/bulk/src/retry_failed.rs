//! Retries the failed lines of a previous output.
//!
//! All lines are written to a new file, which then replaces the output.

use std::{fs, future::Future, io, path::Path, pin::pin};

use futures::{
    Stream, StreamExt as _,
    future::{Either, select},
    stream,
};
use tempfile::NamedTempFile;

use crate::{
    format::Format,
    output::{ExistingFile, Output},
    previous_output::{OutputLine, PreviousOutput},
    progress::{Progress, WaitTimes},
    record::{Fields, Record},
    run::{BulkConfig, BulkError, IDENTITY_FIELDS, RunSummary, check_identity, process_group},
    task::Task,
};

/// The output file of a previous run.
#[derive(Clone, Copy, Debug)]
pub struct OutputFile<'a> {
    /// The file.
    pub path: &'a Path,
    /// The format of its records.
    pub format: Format,
    /// The columns of a CSV file.
    pub columns: &'a [&'static str],
}

/// The new content of an output line.
enum LineUpdate {
    /// The line stays as it is.
    Unchanged(OutputLine),
    /// These fields replace the line.
    Retried {
        fields: Fields,
        /// Whether the record failed again.
        failed: bool,
    },
}

/// Retries those `records` whose lines in `output_file` have an error.
///
/// The summary counts the retried records. The file is replaced in one step when one of these ends:
/// the records, `stop`, or the ability of `task` to process records. Lines after that point stay as
/// they are.
///
/// # Errors
/// See [`BulkError`].
pub async fn retry_failed(
    task: &impl Task,
    records: impl Stream<Item = io::Result<Record>> + Send + Unpin,
    output_file: OutputFile<'_>,
    progress: &Progress,
    config: &BulkConfig,
    stop: impl Future<Output = ()>,
) -> Result<RunSummary, BulkError> {
    let OutputFile { path, format, columns } = output_file;
    // A symbolic link stays. Its target is replaced.
    let path = &*fs::canonicalize(path).map_err(BulkError::Output)?;
    let previous_lines = || PreviousOutput::open(path, format, columns).map_err(BulkError::PreviousOutput);
    let file = create_beside(path).map_err(BulkError::Output)?;
    let output = Output::open(Some(file.path()), format, columns, ExistingFile::Replace);
    let mut output = output.map_err(BulkError::PreviousOutput)?;
    let waits = progress.waits();
    let updates = waits
        .watch_input(records.zip(stream::iter(previous_lines()?)))
        .map(|(record, line)| async {
            let (record, line) = (record.map_err(BulkError::Input)?, line.map_err(BulkError::Output)?);
            update_line(task, record, line, config, waits).await
        })
        .buffered(config.max_in_flight.max(1));
    let (mut updates, mut stop) = (pin!(updates), pin!(stop));
    let (mut summary, mut task_error, mut lines) = (RunSummary::default(), None, 0);
    loop {
        let written = match select(waits.next(&mut updates), &mut stop).await {
            Either::Left((Some(Ok(LineUpdate::Unchanged(line))), _)) => output.copy(line.bytes()),
            Either::Left((Some(Ok(LineUpdate::Retried { fields, failed })), _)) => {
                summary.written += 1;
                summary.failed += u64::from(failed);
                waits.add_result(&fields);
                progress.advance(failed);
                output.write(&fields)
            }
            Either::Left((Some(Err(BulkError::Task(cause))), _)) => {
                task_error = Some(BulkError::Task(cause));
                break;
            }
            Either::Left((Some(Err(error)), _)) => return Err(error),
            Either::Left((None, _)) => break,
            Either::Right(_) => {
                summary.interrupted = true;
                break;
            }
        };
        written.map_err(BulkError::Output)?;
        lines += 1;
    }
    for line in previous_lines()?.skip(lines) {
        line.and_then(|line| output.copy(line.bytes())).map_err(BulkError::Output)?;
    }
    let synced = file.as_file().sync_all();
    synced.and_then(|()| Ok(file.persist(path).map(drop)?)).map_err(BulkError::Output)?;
    task_error.map_or(Ok(summary), Err)
}

/// Creates a file in the folder of `path`, so that it can replace `path` in one step.
fn create_beside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let file = tempfile::Builder::new().prefix(".blip-serve-retry-").tempfile_in(folder)?;
    file.as_file().set_permissions(fs::metadata(path)?.permissions())?;
    Ok(file)
}

async fn update_line(
    task: &impl Task,
    record: Record,
    line: OutputLine,
    config: &BulkConfig,
    waits: &WaitTimes,
) -> Result<LineUpdate, BulkError> {
    let OutputLine::Failed(_, line_fields) = &line else { return Ok(LineUpdate::Unchanged(line)) };
    // The line of an invalid record has no identity.
    if IDENTITY_FIELDS.iter().any(|field| line_fields.contains_key(*field)) {
        check_identity(&record, line_fields)?;
    }
    let lines = process_group(task, vec![record], config, waits).await?;
    Ok(match lines.into_iter().next() {
        Some((fields, failed)) => LineUpdate::Retried { fields, failed },
        None => LineUpdate::Unchanged(line),
    })
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicU64, Ordering},
        time::Duration,
    };

    use futures::future::{pending, ready};
    use serde_json::json;

    use super::*;
    use crate::task::RecordResult;

    const CONFIG: BulkConfig = BulkConfig {
        max_in_flight: 4,
        max_group_records: 4,
        group_by: "image",
        result_fields: &["answer"],
        retry_timeout: Duration::ZERO,
    };

    /// Fails each third record until it is repaired. Then it is unavailable from a record on.
    struct FailingTask {
        is_repaired: AtomicBool,
        calls: AtomicU64,
        unavailable_from: u64,
    }

    impl FailingTask {
        fn new(unavailable_from: u64) -> Self {
            Self { is_repaired: AtomicBool::new(false), calls: AtomicU64::new(0), unavailable_from }
        }
    }

    impl Task for FailingTask {
        async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
            // Gives way, as a request to a server does.
            tokio::task::yield_now().await;
            let result = |record: Fields| {
                self.calls.fetch_add(1, Ordering::Relaxed);
                let id = record["id"].as_u64().unwrap();
                match (id % 3, self.is_repaired.load(Ordering::Relaxed)) {
                    (_, true) if id >= self.unavailable_from => RecordResult::Unavailable("gone".to_owned()),
                    (0, false) => {
                        RecordResult::Failed([("error".to_owned(), json!("no"))].into_iter().collect())
                    }
                    _ => RecordResult::Answered([("answer".to_owned(), json!(id))].into_iter().collect()),
                }
            };
            Ok(records.into_iter().map(result).collect())
        }
    }

    fn records(image: &'static str) -> impl Stream<Item = io::Result<Record>> + Send + Unpin {
        stream::iter((0..12).map(move |position| {
            let fields = json!({ "id": position, "image": image });
            Ok(Record { position, fields: fields.as_object().cloned().ok_or_else(String::new) })
        }))
    }

    /// Writes an output whose every third line failed. Returns its folder and its content.
    async fn first_run(task: &FailingTask, format: Format) -> (tempfile::TempDir, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        let mut output = Output::open(Some(&path), format, COLUMNS, ExistingFile::Refuse).unwrap();
        let progress = Progress::in_log();
        let summary = crate::run(task, records("a.png"), &mut output, &progress, &CONFIG, pending()).await;
        assert_eq!(summary.unwrap().failed, 4);
        task.is_repaired.store(true, Ordering::Relaxed);
        task.calls.store(0, Ordering::Relaxed);
        let content = std::fs::read_to_string(path).unwrap();
        (folder, content)
    }

    const COLUMNS: &[&str] = &["id", "image", "answer", "error"];

    async fn second_run(
        task: &FailingTask,
        folder: &tempfile::TempDir,
        format: Format,
        image: &'static str,
        stop: impl Future<Output = ()>,
    ) -> (Result<RunSummary, BulkError>, String) {
        let path = folder.path().join("out");
        let output_file = OutputFile { path: &path, format, columns: COLUMNS };
        let progress = Progress::in_log();
        let summary = retry_failed(task, records(image), output_file, &progress, &CONFIG, stop).await;
        let files = std::fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(files, 1, "the temporary file was not removed");
        (summary, std::fs::read_to_string(path).unwrap())
    }

    #[tokio::test]
    async fn only_failed_lines_change() {
        for format in [Format::Jsonl, Format::Csv] {
            let task = FailingTask::new(u64::MAX);
            let (folder, before) = first_run(&task, format).await;
            let (summary, after) = second_run(&task, &folder, format, "a.png", pending()).await;
            assert_eq!(summary.unwrap(), RunSummary { written: 4, failed: 0, interrupted: false });
            assert_eq!(task.calls.load(Ordering::Relaxed), 4);
            let header_lines = usize::from(format == Format::Csv);
            for (index, (old, new)) in before.lines().zip(after.lines()).enumerate() {
                let failed = index >= header_lines && (index - header_lines).is_multiple_of(3);
                assert_eq!(old != new, failed, "{old} became {new}");
            }
            assert_eq!(before.lines().count(), after.lines().count());
        }
    }

    #[tokio::test]
    async fn interrupted_retry_leaves_all_lines_complete() {
        let task = FailingTask::new(u64::MAX);
        let (folder, before) = first_run(&task, Format::Jsonl).await;
        let (summary, after) = second_run(&task, &folder, Format::Jsonl, "a.png", ready(())).await;
        assert!(summary.unwrap().interrupted);
        assert_eq!(after.lines().count(), before.lines().count());
    }

    #[tokio::test]
    async fn results_before_task_is_unavailable_are_written() {
        let task = FailingTask::new(6);
        let (folder, before) = first_run(&task, Format::Jsonl).await;
        let (summary, after) = second_run(&task, &folder, Format::Jsonl, "a.png", pending()).await;
        assert_eq!(summary.unwrap_err().to_string(), "gone");
        let changed: Vec<usize> = before
            .lines()
            .zip(after.lines())
            .enumerate()
            .filter_map(|(index, (old, new))| (old != new).then_some(index))
            .collect();
        assert_eq!((changed, after.lines().count()), (vec![0, 3], 12));
    }

    #[tokio::test]
    async fn output_of_another_input_is_unchanged() {
        let task = FailingTask::new(u64::MAX);
        let (folder, before) = first_run(&task, Format::Jsonl).await;
        let (summary, after) = second_run(&task, &folder, Format::Jsonl, "b.png", pending()).await;
        let error = summary.unwrap_err().to_string();
        assert_eq!(error, "output does not match the input: record 1 has another image");
        assert_eq!(after, before);
    }
}
