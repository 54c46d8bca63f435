//! Processes an input into an output: in order, with a bounded number of groups in flight.

use std::{future::Future, io, pin::pin, time::Duration};

use futures::{Stream, StreamExt as _, future::Either};
use serde_json::json;

use crate::{
    attempts::process_with_retries,
    grouping::{Group, group_adjacent},
    output::{Output, OutputError},
    progress::{Progress, WaitTimes},
    record::{Fields, Record, csv_cell},
    task::{RecordResult, Task},
};

/// The parameters of a run.
#[derive(Clone, Copy, Debug)]
pub struct BulkConfig {
    /// Maximum number of groups in flight.
    pub max_in_flight: usize,
    /// Maximum number of records in a group.
    pub max_group_records: usize,
    /// The field whose value is the same for all records of a group.
    pub group_by: &'static str,
    /// The fields of results besides `error`. An input line that is the output of an earlier run
    /// has some, too.
    pub result_fields: &'static [&'static str],
    /// How long to retry records whose result is busy or unavailable.
    pub retry_timeout: Duration,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunSummary {
    /// Records that were written, failed ones included.
    pub written: u64,
    /// Records that failed.
    pub failed: u64,
    /// Whether the caller stopped the run before its end.
    pub interrupted: bool,
}

/// An error that ended a run before the end of its input. The output is complete up to that point.
#[derive(Debug, thiserror::Error)]
pub enum BulkError {
    /// The input cannot be read.
    #[error("cannot read the input: {0}")]
    Input(io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// The output of a previous run cannot be used.
    #[error(transparent)]
    PreviousOutput(OutputError),
    /// The task cannot process any further record.
    #[error("{0}")]
    Task(String),
    /// The output belongs to another input.
    #[error("output does not match the input: record {position} has another {field}")]
    InputMismatch {
        /// The position of the record, from 1.
        position: u64,
        /// The field that differs.
        field: &'static str,
    },
}

/// A destination of results, in the order of the input.
pub trait Sink: Send {
    /// Writes the fields of a record and of its result.
    ///
    /// # Errors
    /// The destination cannot be written. The run ends.
    fn write(&mut self, fields: Fields) -> impl Future<Output = io::Result<()>> + Send;
}

impl Sink for Output {
    async fn write(&mut self, fields: Fields) -> io::Result<()> {
        Self::write(self, &fields)
    }
}

/// Fields that show whether an output line belongs to an input record.
pub(crate) const IDENTITY_FIELDS: [&str; 2] = ["id", "image"];

/// Processes the `records` after those that `output` already holds, until they or `stop` end.
///
/// # Errors
/// See [`BulkError`].
pub async fn run(
    task: &impl Task,
    records: impl Stream<Item = io::Result<Record>> + Send + Unpin,
    output: &mut Output,
    progress: &Progress,
    config: &BulkConfig,
    stop: impl Future<Output = ()>,
) -> Result<RunSummary, BulkError> {
    let records = skip_resumed(records, output).await?;
    process_records(task, records, output, progress, config, stop).await
}

/// Processes all `records` into `sink`, until they or `stop` end.
///
/// # Errors
/// See [`BulkError`].
pub async fn process_records(
    task: &impl Task,
    records: impl Stream<Item = io::Result<Record>> + Send,
    sink: &mut impl Sink,
    progress: &Progress,
    config: &BulkConfig,
    stop: impl Future<Output = ()>,
) -> Result<RunSummary, BulkError> {
    let waits = progress.waits();
    let groups = group_adjacent(records, config.group_by, config.max_group_records);
    let lines = waits
        .watch_input(groups)
        .map(|group| async { process_group(task, group.map_err(BulkError::Input)?, config, waits).await })
        .buffered(config.max_in_flight.max(1));
    let (mut lines, mut stop) = (pin!(lines), pin!(stop));
    let mut summary = RunSummary::default();
    loop {
        let group = match futures::future::select(waits.next(&mut lines), &mut stop).await {
            Either::Left((Some(group), _)) => group?,
            Either::Left((None, _)) => return Ok(summary),
            Either::Right(_) => return Ok(RunSummary { interrupted: true, ..summary }),
        };
        for (fields, failed) in group {
            waits.add_result(&fields);
            sink.write(fields).await.map_err(BulkError::Output)?;
            summary.written += 1;
            summary.failed += u64::from(failed);
            progress.advance(failed);
        }
    }
}

/// Skips the records that `output` already holds, and checks that its last line belongs to the
/// input.
async fn skip_resumed<S>(mut records: S, output: &Output) -> Result<S, BulkError>
where
    S: Stream<Item = io::Result<Record>> + Send + Unpin,
{
    let resume_point = output.resume_point();
    let mut last = None;
    for _ in 0..resume_point.records {
        last = records.next().await.transpose().map_err(BulkError::Input)?;
    }
    if let (Some(record), Some(line)) = (last, &resume_point.last) {
        check_identity(&record, line)?;
    }
    Ok(records)
}

/// Returns an error if an output line belongs to another record.
pub(crate) fn check_identity(record: &Record, line: &Fields) -> Result<(), BulkError> {
    let Ok(fields) = &record.fields else { return Ok(()) };
    let differs = |field: &&str| csv_cell(fields.get(*field)) != csv_cell(line.get(*field));
    match IDENTITY_FIELDS.into_iter().find(differs) {
        Some(field) => Err(BulkError::InputMismatch { position: record.position + 1, field }),
        None => Ok(()),
    }
}

/// Returns the output lines of a group: the fields, and whether the record failed. `waits` receives
/// the pauses before retries.
pub(crate) async fn process_group(
    task: &impl Task,
    group: Group,
    config: &BulkConfig,
    waits: &WaitTimes,
) -> Result<Vec<(Fields, bool)>, BulkError> {
    let records: Vec<Fields> = group.iter().filter_map(|record| record.fields.clone().ok()).collect();
    let results = process_with_retries(task, &records, config.retry_timeout, waits).await;
    let mut results = results.map_err(BulkError::Task)?.into_iter();
    let lines = group.into_iter().map(|record| match record.fields {
        Err(cause) => (invalid_line_fields(record.position, &cause), true),
        Ok(mut fields) => {
            let (result_fields, failed) = match results.next() {
                Some(RecordResult::Answered(fields)) => (fields, false),
                Some(RecordResult::Failed(fields) | RecordResult::Busy(_, fields)) => (fields, true),
                Some(RecordResult::Unavailable(_)) | None => {
                    (error_fields("INTERNAL", "the task returned no result"), true)
                }
            };
            // A failed record keeps no earlier result, and an answered one no earlier error.
            fields.remove("error");
            if failed {
                fields.retain(|field, _| !config.result_fields.contains(&field.as_str()));
            }
            fields.extend(result_fields);
            (fields, failed)
        }
    });
    Ok(lines.collect())
}

fn invalid_line_fields(position: u64, cause: &str) -> Fields {
    let mut fields = error_fields("LINE_INVALID", cause);
    fields.insert("line".to_owned(), json!(position + 1));
    fields
}

fn error_fields(reason: &str, message: &str) -> Fields {
    [("error".to_owned(), json!({ "reason": reason, "message": message }))].into_iter().collect()
}

#[cfg(test)]
mod tests;
