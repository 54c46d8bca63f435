//! From an input to an output: in order, some groups at a time.

use std::{future::Future, io, pin::pin, time::Duration};

use futures::{Stream, StreamExt as _, future::Either};
use serde_json::{Value, json};

use crate::{
    Fields, Outcome, Output, OutputError, Progress, Record, Task,
    grouping::{Group, groups},
    task::until_answered,
};

/// How to work through the records.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Groups of records that are worked on at a time: as many answers wait at most for one before them.
    pub in_flight: usize,
    /// Records of one group at most.
    pub group: usize,
    /// The value that the records of a group have in common.
    pub shared: &'static str,
    /// How long to keep asking when whoever answers is lost.
    pub patience: Duration,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Records that were written, answered or not.
    pub written: u64,
    /// Those that have no answer.
    pub failed: u64,
    /// Whether the run was stopped from outside before the end.
    pub interrupted: bool,
}

/// Why a run ended before the end of its input. What was written until then is whole, and can be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    /// The input cannot be read.
    #[error("cannot read the input: {0}")]
    Input(io::Error),
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(io::Error),
    /// What an earlier run wrote cannot be gone on with.
    #[error(transparent)]
    Earlier(OutputError),
    /// No record can be answered any more.
    #[error("{0}")]
    Task(String),
    /// The output's last record is about something else than the input's at that place.
    #[error("the output is none of this input: its record {position} is about another {field}")]
    OtherInput {
        /// From 1.
        position: u64,
        /// Which value differs.
        field: &'static str,
    },
}

/// Values by which a resumed output is known to be of the same input.
pub(crate) const IDENTITY: [&str; 2] = ["id", "image"];

/// Answers `records` behind those that `output` has already, until they end or `stop` does.
///
/// # Errors
/// See [`Stopped`].
pub async fn run(
    task: &impl Task,
    records: impl Stream<Item = io::Result<Record>> + Send + Unpin,
    output: &mut Output,
    progress: &Progress,
    plan: &Plan,
    stop: impl Future<Output = ()>,
) -> Result<Summary, Stopped> {
    let records = behind_resumed(records, output).await?;
    let answers = groups(records, plan.shared, plan.group)
        .map(|group| async { answered(task, group.map_err(Stopped::Input)?, plan.patience).await })
        .buffered(plan.in_flight.max(1));
    let (mut answers, mut stop) = (pin!(answers), pin!(stop));
    let mut summary = Summary::default();
    loop {
        let lines = match futures::future::select(answers.next(), &mut stop).await {
            Either::Left((Some(lines), _)) => lines?,
            Either::Left((None, _)) => return Ok(summary),
            Either::Right(_) => return Ok(Summary { interrupted: true, ..summary }),
        };
        for (fields, failed) in lines {
            output.write(&fields).map_err(Stopped::Output)?;
            summary.written += 1;
            summary.failed += u64::from(failed);
            progress.advance(failed);
        }
    }
}

/// Passes over what is answered, and looks whether it is.
async fn behind_resumed<S>(mut records: S, output: &Output) -> Result<S, Stopped>
where
    S: Stream<Item = io::Result<Record>> + Send + Unpin,
{
    let resumed = output.resumed();
    let mut last = None;
    for _ in 0..resumed.records {
        last = records.next().await.transpose().map_err(Stopped::Input)?;
    }
    if let (Some(record), Some(written)) = (last, &resumed.last) {
        check_identity(&record, written)?;
    }
    Ok(records)
}

/// Whether a line was written about this record, as far as both can tell.
pub(crate) fn check_identity(record: &Record, written: &Fields) -> Result<(), Stopped> {
    let Ok(own) = &record.fields else { return Ok(()) };
    match IDENTITY.into_iter().find(|field| text(own.get(*field)) != text(written.get(*field))) {
        Some(field) => Err(Stopped::OtherInput { position: record.position + 1, field }),
        None => Ok(()),
    }
}

/// A value as CSV would have it.
fn text(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

/// The lines of a group: what is written, and whether it is a failure.
pub(crate) async fn answered(
    task: &impl Task,
    group: Group,
    patience: Duration,
) -> Result<Vec<(Fields, bool)>, Stopped> {
    let asked: Vec<Fields> = group.iter().filter_map(|record| record.fields.clone().ok()).collect();
    let outcomes = until_answered(task, &asked, patience).await.map_err(Stopped::Task)?;
    let mut outcomes = outcomes.into_iter();
    let lines = group.into_iter().map(|record| match record.fields {
        Err(cause) => (unreadable(record.position, &cause), true),
        Ok(mut fields) => {
            let (own, failed) = match outcomes.next() {
                Some(Outcome::Answered(own)) => (own, false),
                Some(Outcome::Failed(own) | Outcome::Busy(_, own)) => (own, true),
                Some(Outcome::Lost(_)) | None => (error("INTERNAL", "no answer"), true),
            };
            fields.extend(own);
            (fields, failed)
        }
    });
    Ok(lines.collect())
}

fn unreadable(position: u64, cause: &str) -> Fields {
    let mut fields = error("LINE_INVALID", cause);
    fields.insert("line".to_owned(), json!(position + 1));
    fields
}

fn error(reason: &str, message: &str) -> Fields {
    [("error".to_owned(), json!({ "reason": reason, "message": message }))].into_iter().collect()
}

#[cfg(test)]
mod tests;
