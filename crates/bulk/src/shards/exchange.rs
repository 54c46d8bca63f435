//! What the reader and the writer of a run exchange: records, results, and shards that have failed.

use std::{
    collections::HashMap,
    io,
    ops::ControlFlow,
    sync::{Arc, mpsc as unbounded},
};

use serde_json::Value;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
};

use crate::{
    progress::Estimate,
    record::{Fields, Record},
    shards::job::FailedKeys,
};

/// Number of samples between two estimates of their total.
const ESTIMATE_INTERVAL: u64 = 32;

/// Maximum size of an image in a sample, in bytes. No server accepts larger messages.
pub(super) const MAX_IMAGE_BYTES: u64 = 64 << 20;

/// Size of the buffers for shards, in bytes.
pub(super) const BUFFER_BYTES: usize = 1 << 20;

/// Which sample a record comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SampleId {
    /// The position of its shard in the run.
    pub(super) shard: usize,
    /// The key of a sample, or the number of a row.
    pub(super) key: String,
}

/// A shard, by its position in the run, and the reason why it cannot be read.
pub(super) type ShardFailure = (usize, io::Error);

/// Where the reader sends records, and in the same order what they are.
#[derive(Debug)]
pub(super) struct RecordSenders {
    pub(super) records: mpsc::Sender<io::Result<Record>>,
    /// Grows by one for each record, so the channel of records limits it, too.
    pub(super) ids: unbounded::Sender<(SampleId, OwnedSemaphorePermit)>,
    /// Has at most one failure for each shard.
    pub(super) failures: unbounded::Sender<ShardFailure>,
    /// Limits the samples whose results are not written yet, in KiB.
    pub(super) memory: Arc<Semaphore>,
    /// The permits of `memory`.
    pub(super) max_kib: u32,
}

impl RecordSenders {
    /// Waits for memory for a record, and sends it. Returns false if the run has ended.
    fn send(&self, id: SampleId, record: Record) -> bool {
        let bytes = record.fields.as_ref().map_or(0, |fields| fields.values().map(text_bytes).sum());
        let kib = u32::try_from(bytes >> 10).unwrap_or(u32::MAX).clamp(1, self.max_kib);
        let permit = Handle::current().block_on(Arc::clone(&self.memory).acquire_many_owned(kib));
        let Ok(permit) = permit else { return false };
        self.ids.send((id, permit)).is_ok() && self.records.blocking_send(Ok(record)).is_ok()
    }
}

/// Returns the length of a text. Other values of a sample are small.
fn text_bytes(value: &Value) -> usize {
    value.as_str().map_or(0, str::len)
}

/// Sends the records of one shard.
#[derive(Debug)]
pub(super) struct ShardRecords<'a> {
    pub(super) shard: usize,
    /// The position of the next record in the run.
    pub(super) position: u64,
    pub(super) senders: &'a RecordSenders,
    pub(super) estimate: &'a Estimate,
    /// The samples to send, if the shard is retried.
    pub(super) failed: Option<Arc<FailedKeys>>,
    /// Whether the run has ended.
    pub(super) is_closed: bool,
}

impl ShardRecords<'_> {
    /// Returns whether the sample of this key is processed.
    pub(super) fn has(&self, key: &str) -> bool {
        self.failed.as_ref().is_none_or(|failed| failed.contains(key))
    }

    /// Sends a record. The shard has `bytes` bytes up to its end. `Break` if the run has ended. A
    /// sample that is not processed is left out.
    pub(super) fn send(
        &mut self,
        key: String,
        fields: Result<Fields, String>,
        bytes: u64,
    ) -> ControlFlow<()> {
        if self.has(&key) {
            let record = Record { position: self.position, fields };
            self.position += 1;
            if self.position.is_multiple_of(ESTIMATE_INTERVAL) {
                self.estimate.update(self.shard, bytes, self.position);
            }
            self.is_closed = !self.senders.send(SampleId { shard: self.shard, key }, record);
        } else {
            self.is_closed = self.senders.records.is_closed();
        }
        if self.is_closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// The result of a sample.
pub(super) type SampleResult = (SampleId, Fields);

/// The results of the samples, in their order.
#[derive(Debug)]
pub(super) struct Results {
    receiver: mpsc::Receiver<SampleResult>,
    next: Option<SampleResult>,
    failures: unbounded::Receiver<ShardFailure>,
    /// The failures of shards that the writer has not reached yet, and the last one's.
    received: HashMap<usize, io::Error>,
}

impl Results {
    pub(super) fn new(
        receiver: mpsc::Receiver<SampleResult>,
        failures: unbounded::Receiver<ShardFailure>,
    ) -> Self {
        Self { receiver, next: None, failures, received: HashMap::new() }
    }

    /// Waits for the result of a sample. Returns `None` if the run was stopped.
    ///
    /// # Errors
    /// The reader could not read the shard up to here, or found another sample, so the shard has
    /// changed.
    pub(super) fn take(&mut self, shard: usize, key: &str) -> io::Result<Option<Fields>> {
        loop {
            let Some((id, fields)) = self.next.take().or_else(|| self.receiver.blocking_recv()) else {
                return self.failure(shard).map_or(Ok(None), Err);
            };
            if id.shard == shard && id.key == key {
                return Ok(Some(fields));
            }
            // Samples that only the reader found, in an earlier shard.
            if id.shard < shard {
                continue;
            }
            self.next = Some((id, fields));
            let changed = || io::Error::other("the file has changed while it was read");
            return Err(self.failure(shard).unwrap_or_else(changed));
        }
    }

    /// Waits for the end of the run, without its results.
    pub(super) fn discard(&mut self) {
        while self.receiver.blocking_recv().is_some() {}
    }

    /// Returns the error of the reader in a shard. It has sent it before records of later shards.
    fn failure(&mut self, shard: usize) -> Option<io::Error> {
        self.received.extend(self.failures.try_iter());
        self.received.remove(&shard)
    }
}

/// How a shard ended.
#[derive(Debug)]
pub(super) enum ShardEnd {
    /// The output shard is complete.
    Complete,
    /// The output shard was complete, and has no failed sample.
    Unchanged,
    /// The input shard cannot be read. It has no output.
    Unreadable(io::Error),
    /// The run was stopped. The shard has no output.
    Stopped,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_of_the_reader_is_the_error_of_its_shard() {
        let (sender, receiver) = mpsc::channel(4);
        let (failure_sender, failures) = unbounded::channel();
        let mut results = Results::new(receiver, failures);
        let id = |shard, key: &str| SampleId { shard, key: key.to_owned() };
        sender.try_send((id(0, "0"), Fields::new())).unwrap();
        failure_sender.send((0, io::Error::other("broken"))).unwrap();
        sender.try_send((id(1, "0"), Fields::new())).unwrap();
        assert_eq!(results.take(0, "0").unwrap(), Some(Fields::new()));
        assert_eq!(results.take(0, "1").unwrap_err().to_string(), "broken");
        assert_eq!(results.take(1, "0").unwrap(), Some(Fields::new()), "the result of shard 1 stays");
        sender.try_send((id(2, "7"), Fields::new())).unwrap();
        let error = results.take(1, "1").unwrap_err().to_string();
        assert_eq!(error, "the file has changed while it was read");
        drop(sender);
        assert!(results.take(2, "7").unwrap().is_some());
        assert_eq!(results.take(2, "8").unwrap(), None, "the run was stopped");
        failure_sender.send((2, io::Error::other("torn"))).unwrap();
        assert_eq!(results.take(2, "8").unwrap_err().to_string(), "torn");
    }

    #[test]
    fn failure_of_a_later_shard_stays_after_a_change() {
        let (sender, receiver) = mpsc::channel(4);
        let (failure_sender, failures) = unbounded::channel();
        let mut results = Results::new(receiver, failures);
        let id = |shard, key: &str| SampleId { shard, key: key.to_owned() };
        failure_sender.send((2, io::Error::other("torn"))).unwrap();
        failure_sender.send((1, io::Error::other("broken"))).unwrap();
        sender.try_send((id(3, "0"), Fields::new())).unwrap();
        let error = |results: &mut Results, shard| results.take(shard, "0").unwrap_err().to_string();
        assert_eq!(error(&mut results, 0), "the file has changed while it was read");
        assert_eq!([1, 2].map(|shard| error(&mut results, shard)), ["broken", "torn"]);
        assert!(results.take(3, "0").unwrap().is_some());
    }
}
