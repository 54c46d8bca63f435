//! Writes output shards: the content of the input shards with their results.

use std::{io, sync::Arc};

#[cfg(feature = "parquet")]
use crate::shards::parquet_shard;
use crate::{
    shards::{
        catch_panic::catch_panic,
        columns::ResultColumn,
        exchange::{Results, ShardEnd},
        job::{FailedKeys, Job},
        read_shards::failed_keys,
        shard_format::ShardFormat,
        stored_results::{ShardResults, StoredResults},
        tar_shard,
    },
    storage::{Location, PartialFile},
};

/// How results are written.
#[derive(Debug)]
pub(super) struct ResultFormat {
    /// The name of results: `x.NAME.json` in tar files, and a column of Parquet files.
    pub(super) name: String,
    /// The fields of the column.
    pub(super) columns: Vec<ResultColumn>,
}

/// Writes the output of one shard.
///
/// # Errors
/// The output cannot be written.
pub(super) fn write_shard(
    shard: usize,
    job: &Job,
    format: &ResultFormat,
    results: &mut Results,
) -> io::Result<ShardEnd> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", job.output));
    let failed = match failed_keys(job, &format.name, &format.columns) {
        Ok(Some(failed)) if failed.is_empty() => return Ok(ShardEnd::Unchanged),
        Ok(failed) => failed,
        Err(error) => return Ok(ShardEnd::Unreadable(error)),
    };
    let mut file = PartialFile::create(&job.output).map_err(named)?;
    let end = catch_panic(|| write_partial(shard, job, &mut file, format, failed, results))
        .unwrap_or_else(|error| Ok(ShardEnd::Unreadable(error)));
    let ended = match &end {
        Ok(ShardEnd::Complete) => file.complete(),
        Ok(ShardEnd::Unreadable(_) | ShardEnd::Unchanged | ShardEnd::Stopped) | Err(_) => file.discard(),
    };
    // An error of writing is more important than one of the removal. The next run replaces a file
    // that stays.
    end.and_then(|end| ended.map(|()| end)).map_err(named)
}

fn write_partial(
    shard: usize,
    job: &Job,
    file: &mut PartialFile,
    format: &ResultFormat,
    failed: Option<Arc<FailedKeys>>,
    results: &mut Results,
) -> io::Result<ShardEnd> {
    match job.format {
        ShardFormat::Tar => {
            let read = |output: &Location| {
                Ok(Box::new(tar_shard::read_results(output, &format.name)?) as StoredResults<_>)
            };
            match ShardResults::new(shard, job, failed, results, read) {
                Ok(results) => tar_shard::write_samples(&job.input, file, &format.name, results),
                Err(error) => Ok(ShardEnd::Unreadable(error)),
            }
        }
        #[cfg(feature = "parquet")]
        ShardFormat::Parquet => {
            let results_column = (&*format.name, &*format.columns);
            let read = |output: &Location| {
                Ok(Box::new(parquet_shard::read_results(output, results_column)?) as StoredResults<_>)
            };
            match ShardResults::new(shard, job, failed, results, read) {
                Ok(results) => parquet_shard::write_rows(&job.input, file, results_column, results),
                Err(error) => Ok(ShardEnd::Unreadable(error)),
            }
        }
    }
}
