//! Reads shards into records, ahead of the task by a bounded number.

use std::{
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
    record::Record,
    shards::{
        job::Job,
        sample::{Role, SampleFields},
        walk::{Member, MemberName, Visitor, broken, read_member, walk},
    },
};

/// Number of samples between two estimates of their total.
const ESTIMATE_INTERVAL: u64 = 32;

/// Which sample a record comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SampleId {
    /// The position of its shard in the run.
    pub(super) shard: usize,
    pub(super) key: String,
}

/// Where the reader sends records, and in the same order what they are.
#[derive(Debug)]
pub(super) struct RecordSenders {
    pub(super) records: mpsc::Sender<io::Result<Record>>,
    /// Grows by one for each record, so the channel of records limits it, too.
    pub(super) ids: unbounded::Sender<(SampleId, OwnedSemaphorePermit)>,
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

/// Sends the records of all shards until the receiver is dropped.
///
/// A shard that cannot be read ends early. The writer reads it, too, and reports the error.
pub(super) fn read_shards(
    jobs: &[Job],
    result_fields: &'static [&'static str],
    senders: &RecordSenders,
    estimate: &Estimate,
) {
    let mut position = 0;
    for (shard, job) in jobs.iter().enumerate() {
        let sample = SampleFields::default();
        let mut reader = ShardReader {
            shard,
            sample,
            position,
            result_fields,
            senders,
            estimate,
            bytes: 0,
            is_closed: false,
        };
        let _ = walk(&job.input, &mut reader);
        position = reader.position;
        if reader.is_closed {
            return;
        }
        estimate.end_of_file(job.bytes, position);
    }
}

struct ShardReader<'a> {
    shard: usize,
    sample: SampleFields,
    /// The position of the next record in the run.
    position: u64,
    result_fields: &'static [&'static str],
    senders: &'a RecordSenders,
    estimate: &'a Estimate,
    /// The bytes of the shard up to the current member.
    bytes: u64,
    is_closed: bool,
}

impl Visitor for ShardReader<'_> {
    fn member(&mut self, name: Option<&MemberName>, member: &mut Member<'_>) -> io::Result<()> {
        self.bytes = member.raw_file_position();
        let Some(name) = name else { return Ok(()) };
        let role = Role::of(&name.extension);
        let Some(max_bytes) = role.max_bytes().filter(|_| !self.sample.has(role)) else { return Ok(()) };
        let bytes = member.size();
        let content = read_member(member, max_bytes)
            .map_err(|error| broken(&format!("in sample {}", name.key), &error))?;
        match content {
            Some(content) => self.sample.add(role, &name.extension, content),
            None => self.sample.add_too_large(&name.extension, bytes, max_bytes),
        }
        Ok(())
    }

    fn end_of_sample(&mut self, key: &str) -> io::Result<ControlFlow<()>> {
        let fields = std::mem::take(&mut self.sample).into_record(key, self.result_fields);
        let record = Record { position: self.position, fields };
        self.position += 1;
        if self.position.is_multiple_of(ESTIMATE_INTERVAL) {
            self.estimate.update(self.bytes, self.position);
        }
        let id = SampleId { shard: self.shard, key: key.to_owned() };
        self.is_closed = !self.senders.send(id, record);
        Ok(if self.is_closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    }
}
