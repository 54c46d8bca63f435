//! Processes shards.

use std::{
    future::Future,
    io,
    sync::{Arc, mpsc as unbounded},
};

use futures::{StreamExt as _, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    progress::{Estimate, Progress},
    record::{Defaults, Fields},
    run::{BulkConfig, BulkError, RunSummary, Sink, process_records},
    shards::{
        columns::ShardColumns,
        exchange::{RecordSenders, Results, SampleId, SampleResult, ShardEnd},
        job::{Job, ShardFiles},
        read_shards::read_shards,
        write_shard::{ResultFormat, write_shard},
    },
    storage::{Location, StopRequests, lengths},
    task::Task,
};

/// Number of records that are read ahead, and of results that wait for the disk.
const READ_AHEAD: usize = 32;

/// Memory of the samples between the reader and the writer, in KiB. A larger sample is alone.
const MAX_SAMPLE_KIB: u32 = 512 << 10;

/// The reader and the writer found different samples.
const CHANGED: &str = "a shard has changed while it was read: use --resume to process it again";

/// What a run of shards needs beside its files.
#[derive(Clone, Debug)]
pub struct ShardOptions {
    /// The result of a sample is its member `result_name.json`, or its value in the column
    /// `result_name`.
    pub result_name: String,
    /// The fields of samples without a text.
    pub defaults: Defaults,
    /// The columns of Parquet files.
    pub columns: ShardColumns,
}

/// The result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSummary {
    /// The samples of the run.
    pub samples: RunSummary,
    /// The number of output shards that are complete, without those of earlier runs.
    pub complete_shards: usize,
    /// The number of output shards of earlier runs that have no failed sample.
    pub unchanged_shards: usize,
    /// The number of shards that cannot be read. They have no output.
    pub failed_shards: usize,
}

/// Processes the samples of all `files`, until they or `stop` end.
///
/// Of the fields of a result, `config.result_fields` and `error` are written, but for `timing`,
/// which differs in each run. `on_unreadable` receives the location and the error of each shard
/// that cannot be read.
///
/// # Errors
/// See [`BulkError`].
pub async fn run_shards(
    task: &impl Task,
    files: ShardFiles,
    options: ShardOptions,
    progress: &Progress,
    config: &BulkConfig,
    on_unreadable: impl Fn(&Location, &io::Error) + Send + 'static,
    stop: impl Future<Output = ()>,
) -> Result<ShardSummary, BulkError> {
    let (record_sender, mut records) = mpsc::channel(READ_AHEAD);
    let (id_sender, ids) = unbounded::channel();
    let (results, result_receiver) = mpsc::channel(READ_AHEAD);
    let estimate = Arc::new(Estimate::new(progress));
    let (jobs, result_fields, shards) = (files.jobs.clone(), config.result_fields, files.jobs.len());
    let memory = Arc::new(Semaphore::new(MAX_SAMPLE_KIB as usize));
    let (failure_sender, failures) = unbounded::channel();
    let senders = RecordSenders {
        records: record_sender,
        ids: id_sender,
        failures: failure_sender,
        memory,
        max_kib: MAX_SAMPLE_KIB,
    };
    let ShardOptions { result_name, defaults, columns } = options;
    let name = result_name.clone();
    let format = ResultFormat { name: result_name, columns: columns.results.clone() };
    let requests = StopRequests::default();
    measure(&requests, &jobs, &estimate)?;
    let of_reader = requests.clone();
    let reader = tokio::task::spawn_blocking(move || {
        of_reader.scope(|| read_shards(&jobs, (&name, &columns), result_fields, &senders, &estimate));
    });
    let of_writer = requests.clone();
    let writer = tokio::task::spawn_blocking(move || {
        let results = Results::new(result_receiver, failures);
        of_writer.scope(|| write_shards(&files.jobs, &format, results, &of_writer, on_unreadable))
    });
    let mut sink = ShardSink { ids, results, result_fields: config.result_fields };
    let records = stream::poll_fn(move |context| records.poll_recv(context))
        .map(|record| record.map(|record| record.with_defaults(&defaults)));
    let processed = process_records(task, records, &mut sink, progress, config, stop).await;
    // Ends the writer after the results that it has received.
    drop(sink);
    let is_stopped = !matches!(processed, Ok(RunSummary { interrupted: false, .. }));
    if is_stopped {
        requests.stop();
    }
    let written = writer.await.map_err(io::Error::other).and_then(|written| written);
    // If writing has failed, the results had nowhere to go.
    let ended = written.map_err(BulkError::Output)?;
    // A reader that waits for a file has nothing to complete.
    if !is_stopped {
        reader.await.map_err(|error| BulkError::Input(io::Error::other(error)))?;
    }
    let is_complete = ended.complete + ended.unchanged + ended.failed == shards;
    let samples = match processed {
        // The writer has ended before the last result: it found fewer samples than the reader.
        Err(BulkError::Output(error)) if is_complete && error.kind() == io::ErrorKind::BrokenPipe => {
            return Err(BulkError::Input(io::Error::other(CHANGED)));
        }
        processed => processed?,
    };
    if !is_complete && !samples.interrupted {
        return Err(BulkError::Input(io::Error::other(CHANGED)));
    }
    Ok(ShardSummary {
        samples,
        complete_shards: ended.complete,
        unchanged_shards: ended.unchanged,
        failed_shards: ended.failed,
    })
}

/// Starts to look up the lengths of the inputs for the estimate. Servers can take long to answer.
fn measure(requests: &StopRequests, jobs: &[Job], estimate: &Arc<Estimate>) -> Result<(), BulkError> {
    let (requests, estimate) = (requests.clone(), Arc::clone(estimate));
    let inputs: Vec<Location> = jobs.iter().map(|job| job.input.clone()).collect();
    let thread = std::thread::Builder::new().name("lengths".to_owned());
    let started = thread.spawn(move || estimate.set_lengths(&requests.scope(|| lengths(&inputs))));
    started.map(drop).map_err(BulkError::Input)
}

/// How many shards have ended in each way.
#[derive(Clone, Copy, Debug, Default)]
struct EndedShards {
    complete: usize,
    unchanged: usize,
    failed: usize,
}

/// Writes all output shards, up to the first retried one after an early end of the run. Returns the
/// number of those that have ended.
fn write_shards(
    jobs: &[Job],
    format: &ResultFormat,
    mut results: Results,
    requests: &StopRequests,
    on_unreadable: impl Fn(&Location, &io::Error),
) -> io::Result<EndedShards> {
    let mut ended = EndedShards::default();
    let mut is_last_failed = false;
    for (shard, job) in jobs.iter().enumerate() {
        // Without failed samples, a shard waits for no result.
        if job.retried.is_some() && requests.is_stopped() {
            break;
        }
        let end = match write_shard(shard, job, format, &mut results) {
            // A request that was stopped is no error of the shard or of the output.
            Ok(ShardEnd::Unreadable(_)) | Err(_) if requests.is_stopped() => break,
            end => end?,
        };
        // A shard without failed samples has no results.
        if !matches!(end, ShardEnd::Unchanged) {
            is_last_failed = matches!(end, ShardEnd::Unreadable(_));
        }
        match end {
            ShardEnd::Complete => ended.complete += 1,
            ShardEnd::Unchanged => ended.unchanged += 1,
            ShardEnd::Unreadable(error) => {
                on_unreadable(&job.input, &error);
                ended.failed += 1;
            }
            ShardEnd::Stopped => break,
        }
    }
    // The reader can have found samples in it. Their results are not used.
    if is_last_failed {
        results.discard();
    }
    Ok(ended)
}

/// Passes results to the writer.
struct ShardSink {
    ids: unbounded::Receiver<(SampleId, OwnedSemaphorePermit)>,
    results: mpsc::Sender<SampleResult>,
    result_fields: &'static [&'static str],
}

impl Sink for ShardSink {
    async fn write(&mut self, mut fields: Fields) -> io::Result<()> {
        fields.retain(|field, _| {
            field == "error" || (field != "timing" && self.result_fields.contains(&field.as_str()))
        });
        let closed = || io::Error::from(io::ErrorKind::BrokenPipe);
        // The reader sends the id before the record.
        let (id, _memory) = self.ids.try_recv().map_err(|_| closed())?;
        self.results.send((id, fields)).await.map_err(|_| closed())
    }
}

#[cfg(test)]
mod tests;
