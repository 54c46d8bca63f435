//! Identifiers that the tables of the scheduler share.

use tokio::time::Instant;

use crate::job::{ClientId, Priority};

/// Identity of a job that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct JobId {
    /// Number of the submission; never used twice.
    pub(crate) sequence: u64,
    /// Where to look for it.
    pub(crate) index: JobIndex,
}

/// Index of a index in the table of flights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct JobIndex(pub(crate) u32);

/// Index of an image in the table of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ImageSlot(pub(crate) u32);

/// Where in the order a index stands.
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
