//! The files with the results of a command, which are read after it.

use std::path::Path;

use anyhow::Context as _;
use bulk::{Fields, Input, Location, Record, ResultColumn, existing, shard_results};
use futures::{Stream, StreamExt as _};

use crate::commands::record_file::same_path::is_same_path;

/// The files with the results of a command.
#[derive(Debug)]
pub(crate) enum OutputFiles {
    /// A record file.
    Records(Input),
    /// The output shards.
    Shards {
        /// The shards. Those of inputs that cannot be read do not exist.
        shards: Vec<Location>,
        /// The name of the results.
        result_name: String,
        /// The fields of their column in Parquet files.
        columns: Vec<ResultColumn>,
    },
}

impl OutputFiles {
    /// Returns whether `path` is one of the files.
    pub(crate) fn has(&self, path: &Path) -> bool {
        let is_path = |file: &Location| file.path().is_some_and(|file| is_same_path(file, path));
        match self {
            Self::Records(input) => input.file.as_ref().is_some_and(is_path),
            // Shards can be very many, and the comparison of names reads no folder.
            Self::Shards { shards, .. } => {
                shards.iter().any(|shard| Some(shard.name()) == path.file_name() && is_path(shard))
            }
        }
    }

    /// Passes the fields of each record to `read`, in their order. Returns the number of shards
    /// that do not exist.
    ///
    /// # Errors
    /// A file or a result that cannot be read, and the first error of `read`, with the record.
    pub(crate) async fn read(&self, read: impl FnMut(Fields) -> anyhow::Result<()>) -> anyhow::Result<usize> {
        match self {
            Self::Records(input) => {
                read_all(input.records()?, read).await?;
                Ok(0)
            }
            Self::Shards { shards, result_name, columns } => {
                let existing = existing(shards)?;
                let missing = shards.len() - existing.len();
                read_all(shard_results(existing, result_name, columns)?, read).await?;
                Ok(missing)
            }
        }
    }
}

async fn read_all(
    mut records: impl Stream<Item = std::io::Result<Record>> + Unpin,
    mut read: impl FnMut(Fields) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    while let Some(record) = records.next().await {
        let Record { position, fields } = record?;
        let result = fields.map_err(anyhow::Error::msg).and_then(&mut read);
        result.with_context(|| format!("record {} of the output", position + 1))?;
    }
    Ok(())
}
