//! Writes output shards: the content of the input shards with their results.

use std::io;

#[cfg(feature = "parquet")]
use crate::shards::parquet_shard;
use crate::{
    shards::{
        catch_panic::catch_panic,
        columns::ResultColumn,
        exchange::{Results, ShardEnd},
        job::Job,
        shard_format::ShardFormat,
        tar_shard,
    },
    storage::PartialFile,
};

/// How results are written.
#[derive(Debug)]
pub(super) struct ResultFormat {
    /// The name of results: `x.NAME.json` in tar files, and a column of Parquet files.
    pub(super) name: String,
    /// The fields of the column.
    #[cfg_attr(not(feature = "parquet"), expect(dead_code, reason = "only Parquet files have columns"))]
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
    let mut file = PartialFile::create(&job.output).map_err(named)?;
    let end = catch_panic(|| write_partial(shard, job, &mut file, format, results))
        .unwrap_or_else(|error| Ok(ShardEnd::Unreadable(error)));
    let ended = match &end {
        Ok(ShardEnd::Complete) => file.complete(),
        Ok(ShardEnd::Unreadable(_) | ShardEnd::Stopped) | Err(_) => file.discard(),
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
    results: &mut Results,
) -> io::Result<ShardEnd> {
    match job.format {
        ShardFormat::Tar => tar_shard::write_samples(shard, &job.input, file, &format.name, results),
        #[cfg(feature = "parquet")]
        ShardFormat::Parquet => {
            parquet_shard::write_rows(shard, &job.input, file, (&format.name, &format.columns), results)
        }
    }
}
