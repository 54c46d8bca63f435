//! Reads shards into records, ahead of the task by a bounded number.

use std::{io, sync::Arc};

#[cfg(feature = "parquet")]
use crate::shards::parquet_shard;
use crate::{
    progress::Estimate,
    shards::{
        catch_panic::catch_panic,
        columns::{ResultColumn, ShardColumns},
        exchange::{RecordSenders, ShardRecords},
        job::{FailedKeys, Job, RetriedOutput},
        shard_format::ShardFormat,
        tar_shard,
    },
};

/// Sends the records of all shards until the receiver is dropped.
///
/// A shard that cannot be read ends early. The writer reports its error.
pub(super) fn read_shards(
    jobs: &[Job],
    (result_name, columns): (&str, &ShardColumns),
    result_fields: &'static [&'static str],
    senders: &RecordSenders,
    estimate: &Estimate,
) {
    let mut position = 0;
    for (shard, job) in jobs.iter().enumerate() {
        // A run that has ended is noticed here if no shard has a failed sample.
        if senders.records.is_closed() {
            return;
        }
        let failed = match failed_keys(job, result_name, &columns.results) {
            Ok(failed) if failed.as_ref().is_none_or(|keys| !keys.is_empty()) => failed,
            // The writer reports an output that cannot be read.
            Ok(_) | Err(_) => {
                estimate.end_of_file(shard, position);
                continue;
            }
        };
        let mut records = ShardRecords { shard, position, senders, estimate, failed, is_closed: false };
        let read = catch_panic(|| match job.format {
            ShardFormat::Tar => tar_shard::read_samples(&job.input, result_fields, &mut records),
            #[cfg(feature = "parquet")]
            ShardFormat::Parquet => parquet_shard::read_rows(&job.input, result_name, columns, &mut records),
        });
        if records.is_closed {
            return;
        }
        position = records.position;
        if let Err(error) = read.flatten() {
            // The writer can have ended before, with its own error.
            let _ = senders.failures.send((shard, error));
        }
        estimate.end_of_file(shard, position);
    }
}

/// Returns the keys of the failed samples of a shard that is retried, or `None` for another shard.
/// The output is read once, by the first caller.
///
/// # Errors
/// The output cannot be read.
pub(super) fn failed_keys(
    job: &Job,
    result_name: &str,
    columns: &[ResultColumn],
) -> io::Result<Option<Arc<FailedKeys>>> {
    let Some(RetriedOutput { failed }) = job.retried.as_deref() else { return Ok(None) };
    let read = || read_failed_keys(job, result_name, columns).map_err(|error| error.to_string());
    let failed = failed.get_or_init(read).clone();
    failed.map(Some).map_err(|reason| io::Error::other(format!("cannot retry {}: {reason}", job.output)))
}

#[cfg_attr(not(feature = "parquet"), expect(unused_variables, reason = "only Parquet files have columns"))]
fn read_failed_keys(job: &Job, result_name: &str, columns: &[ResultColumn]) -> io::Result<Arc<FailedKeys>> {
    let mut failed = FailedKeys::new();
    let mut add = |key: &str, has_failed: bool| {
        if has_failed {
            failed.insert(key.to_owned());
        }
    };
    catch_panic(|| match job.format {
        ShardFormat::Tar => tar_shard::read_states(&job.output, result_name, &mut add),
        #[cfg(feature = "parquet")]
        ShardFormat::Parquet => parquet_shard::read_states(&job.output, (result_name, columns), &mut add),
    })
    .flatten()?;
    Ok(Arc::new(failed))
}
