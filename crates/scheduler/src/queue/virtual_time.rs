//! Virtual time of a client among the clients of its class, or of a class among the classes.

use crate::{
    cost::{MAX_COST, QUESTION_COST},
    job::ClientId,
};

/// Order of clients: by start tag, then by stamp.
pub(super) type SortKey = (u64, u64, ClientId);

/// Start tag and finish tag of a client or class.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VirtualTime {
    /// Virtual time up to which the client has received its share.
    pub(super) finish_tag: u64,
    /// Virtual time at which its first queued job arrived.
    pub(super) arrival: u64,
    /// Virtual time at which its next job may start.
    pub(super) start_tag: u64,
    /// Counts arrivals and turns. Among equal tags the lower stamp goes first.
    pub(super) stamp: u64,
    pub(super) weight: u32,
}

impl VirtualTime {
    pub(super) const fn sort_key(&self, client: ClientId) -> SortKey {
        (self.start_tag, self.stamp, client)
    }

    /// Enters the queue after a pause.
    pub(super) fn arrive(&mut self, now: u64, credit: u64, stamp: &mut u64) {
        self.arrival = now;
        self.finish_tag = self.finish_tag.max(now);
        self.start_tag = self.start_tag_with(credit);
        *stamp += 1;
        self.stamp = *stamp;
    }

    /// Charges a started job.
    pub(super) fn charge(&mut self, cost: u64, bounds: TagBounds, credit: u64, stamp: &mut u64) {
        let weight = u64::from(self.weight);
        let from = self.finish_tag.max(bounds.earliest);
        let limit = advance(bounds.latest, cost, weight);
        self.finish_tag = advance(from, cost, weight).min(limit).max(self.finish_tag);
        let start_tag = self.start_tag_with(credit);
        if start_tag != self.start_tag {
            self.start_tag = start_tag;
            *stamp += 1;
            self.stamp = *stamp;
        }
    }

    /// Returns the arrival within the credit, and the finish tag beyond it.
    const fn start_tag_with(&self, credit: u64) -> u64 {
        if self.finish_tag <= self.arrival.saturating_add(credit) { self.arrival } else { self.finish_tag }
    }
}

/// Bounds of a finish tag around the current virtual time, when a job is charged.
///
/// Jobs can be skipped if they do not fit, and co-batched jobs go first then. A skipped client does
/// not save up more than one job of maximum cost. A client with co-batched jobs waits afterwards
/// for no longer than after a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct TagBounds {
    earliest: u64,
    latest: u64,
}

impl TagBounds {
    pub(super) const fn around(now: u64, credit: u64) -> Self {
        let earliest = now.saturating_sub(MAX_COST * QUESTION_COST * RESOLUTION);
        Self { earliest, latest: now.saturating_add(credit) }
    }

    /// In a selection all jobs are charged by turn, so no tag gets too far ahead.
    pub(super) const fn during_selection(now: u64) -> Self {
        Self { latest: u64::MAX, ..Self::around(now, 0) }
    }
}

/// Virtual time of one unit of cost at weight 1. Weights of thousands of clients still divide it,
/// and 64 bits last for 10^12 questions.
pub(super) const RESOLUTION: u64 = 1024;

pub(super) fn advance(tag: u64, cost: u64, weight: u64) -> u64 {
    tag.saturating_add((cost.saturating_mul(RESOLUTION) / weight.max(1)).max(1))
}
