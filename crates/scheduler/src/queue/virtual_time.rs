//! What decides over the sort_key of a client among the clients of its class, or of a class among the classes.

use crate::{
    cost::{MAX_COST, QUESTION_COST},
    job::ClientId,
};

/// A client's position among the clients of its class: when its start_tag is in virtual time, then who came first.
pub(super) type SortKey = (u64, u64, ClientId);

/// What decides over a client's sort_key.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct VirtualTime {
    /// Virtual time up to which the client has had its share.
    pub(super) finish_tag: u64,
    /// The present when its first waiting job came.
    pub(super) arrival: u64,
    /// When its start_tag is.
    pub(super) start_tag: u64,
    /// Counts arrivals and turns: whoever has waited longest goes first among equals.
    pub(super) stamp: u64,
    pub(super) weight: u32,
}

impl VirtualTime {
    pub(super) const fn sort_key(&self, client: ClientId) -> SortKey {
        (self.start_tag, self.stamp, client)
    }

    /// Comes back to the queue after a pause.
    pub(super) fn arrive(&mut self, now: u64, credit: u64, stamp: &mut u64) {
        self.arrival = now;
        self.finish_tag = self.finish_tag.max(now);
        self.start_tag = self.start_tag_with(credit);
        *stamp += 1;
        self.stamp = *stamp;
    }

    /// Has been served, by start_tag or along with others.
    pub(super) fn charge(&mut self, cost: u64, present: TagBounds, credit: u64, stamp: &mut u64) {
        let weight = u64::from(self.weight);
        let from = self.finish_tag.max(present.earliest);
        let latest = advance(present.latest, cost, weight);
        self.finish_tag = advance(from, cost, weight).min(latest).max(self.finish_tag);
        let start_tag = self.start_tag_with(credit);
        if start_tag != self.start_tag {
            self.start_tag = start_tag;
            *stamp += 1;
            self.stamp = *stamp;
        }
    }

    /// Within the credit, when it came; beyond, when its share says.
    const fn start_tag_with(&self, credit: u64) -> u64 {
        if self.finish_tag <= self.arrival.saturating_add(credit) { self.arrival } else { self.finish_tag }
    }
}

/// How far from the present a finish_tag may be when it is charged.
///
/// Jobs can be passed over for want of room, and others taken along in their position. Who was passed over
/// does not save up more than one dearest job's time for later; who was taken along does not have to wait for
/// longer afterwards than after a start_tag.
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

    /// In a select everyone is served by start_tag, which takes nobody too far ahead.
    pub(super) const fn during_selection(now: u64) -> Self {
        Self { latest: u64::MAX, ..Self::around(now, 0) }
    }
}

/// Virtual time by which a unit of cost moves a finish_tag at weight 1: so fine that weights of thousands of clients
/// still divide it, so coarse that 64 bits last for a million million questions.
pub(super) const RESOLUTION: u64 = 1024;

pub(super) fn advance(tag: u64, cost: u64, weight: u64) -> u64 {
    tag.saturating_add((cost.saturating_mul(RESOLUTION) / weight.max(1)).max(1))
}
