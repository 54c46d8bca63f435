//! The file with results of an evaluation that is not complete.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use blip_server::serve::exit::Exit;
use bulk::{Fields, Format, Input, Output, Record, Task};
use futures::{StreamExt as _, stream};
use serde_json::Value;

use crate::{commands::record_file::RunArgs, messages::print_message};

/// Maximum number of errors that are printed.
const MAX_PRINTED_ERRORS: usize = 10;

/// A file of record results, which a later run can resume.
#[derive(Debug)]
pub(crate) struct PartialResults {
    path: PathBuf,
}

impl PartialResults {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Processes the records that the file does not have. `noun` is what they are, for messages.
    ///
    /// Returns the exit status, and whether all records are in the file.
    pub(crate) async fn complete(
        &self,
        run: &RunArgs,
        task: &impl Task,
        [activity, noun]: [&'static str; 2],
        total: usize,
        records: impl Iterator<Item = Fields> + Send,
    ) -> anyhow::Result<(Exit, bool)> {
        let records = (0..).zip(records);
        let records =
            stream::iter(records.map(|(position, fields)| Ok(Record { position, fields: Ok(fields) })));
        let mut output = Output::open(Some(&self.path), Format::Jsonl, &[], run.existing())?;
        let total = u64::try_from(total).ok();
        let (summary, exit) = run.run(task, activity, records, total, &mut output).await?;
        if summary.interrupted {
            print_message(&format!("stopped after {} {noun}: use --resume to continue", summary.written));
        }
        Ok((exit, !summary.interrupted))
    }

    /// Passes each result to `read`. Prints the first errors, and returns the number of all.
    pub(crate) async fn read(
        &self,
        mut read: impl FnMut(&Fields) -> anyhow::Result<()>,
    ) -> anyhow::Result<usize> {
        let input = Input { file: Some(self.path.as_path().into()), format: Format::Jsonl };
        let mut records = input.records()?;
        let mut failed = 0;
        while let Some(record) = records.next().await {
            let fields = record?.fields.map_err(anyhow::Error::msg)?;
            if let Some(error) = fields.get("error") {
                failed += 1;
                if failed <= MAX_PRINTED_ERRORS {
                    print_message(&format!("{}: {}", describe(&fields), message(error)));
                }
            }
            read(&fields).with_context(|| format!("invalid content of {}", self.path.display()))?;
        }
        if failed > MAX_PRINTED_ERRORS {
            print_message(&format!("{} more errors", failed - MAX_PRINTED_ERRORS));
        }
        Ok(failed)
    }

    /// Removes the file.
    pub(crate) fn remove(&self) -> anyhow::Result<()> {
        std::fs::remove_file(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }
}

fn describe(fields: &Fields) -> String {
    let value = |field: &str| fields.get(field).map(Value::to_string).unwrap_or_default();
    match fields.get("image").and_then(Value::as_str) {
        Some(image) => format!("image {image}"),
        None => format!("record {}", value("id")),
    }
}

fn message(error: &Value) -> String {
    let text = |field: &str| error.get(field).and_then(Value::as_str).unwrap_or_default();
    format!("{} ({})", text("message"), text("reason"))
}
