//! Reads shards into records, ahead of the task by a bounded number.

#[cfg(feature = "parquet")]
use crate::shards::parquet_shard;
use crate::{
    progress::Estimate,
    shards::{
        catch_panic::catch_panic,
        columns::ShardColumns,
        exchange::{RecordSenders, ShardRecords},
        job::Job,
        shard_format::ShardFormat,
        tar_shard,
    },
};

/// Sends the records of all shards until the receiver is dropped.
///
/// A shard that cannot be read ends early. The writer reports its error.
#[cfg_attr(not(feature = "parquet"), expect(unused_variables, reason = "only Parquet files have columns"))]
pub(super) fn read_shards(
    jobs: &[Job],
    (result_name, columns): (&str, &ShardColumns),
    result_fields: &'static [&'static str],
    senders: &RecordSenders,
    estimate: &Estimate,
) {
    let mut position = 0;
    for (shard, job) in jobs.iter().enumerate() {
        let mut records = ShardRecords { shard, position, senders, estimate, is_closed: false };
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
        estimate.end_of_file(job.bytes, position);
    }
}
