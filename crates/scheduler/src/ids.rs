//! Identifiers that several tables of the scheduler use.

use tokio::time::Instant;

use crate::job::{ClientId, Priority};

/// Identifier of an accepted job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// Number of the submission. Never reused.
    pub(crate) sequence: u64,
    /// Index of the pending job that it waits for.
    pub(crate) index: JobIndex,
}

/// Index of a pending job in the table of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JobIndex(pub(crate) u32);

/// Index of an image in the table of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ImageSlot(pub(crate) u32);

/// Position of a pending job in the fair queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct QueuePosition {
    pub(crate) class: Priority,
    pub(crate) client: ClientId,
    pub(crate) weight: u32,
    pub(crate) due: Instant,
    pub(crate) sequence: u64,
}

impl QueuePosition {
    pub(crate) const fn due_key(&self) -> (Instant, u64) {
        (self.due, self.sequence)
    }
}
