//! What decides over the rank of a client among the clients of its class, or of a class among the classes.

use crate::{
    cost::{DEAREST, QUESTION},
    job::ClientId,
};

/// A client's place among the clients of its class: when its turn is in virtual time, then who came first.
pub(super) type Rank = (u64, u64, ClientId);

/// What decides over a client's rank.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// Virtual time up to which the client has had its share.
    pub(super) tag: u64,
    /// The present when its first waiting job came.
    pub(super) since: u64,
    /// When its turn is.
    pub(super) turn: u64,
    /// Counts arrivals and turns: whoever has waited longest goes first among equals.
    pub(super) stamp: u64,
    pub(super) weight: u32,
}

impl Standing {
    pub(super) const fn rank(&self, client: ClientId) -> Rank {
        (self.turn, self.stamp, client)
    }

    /// Comes back to the queue after a pause.
    pub(super) fn arrive(&mut self, now: u64, credit: u64, stamp: &mut u64) {
        self.since = now;
        self.tag = self.tag.max(now);
        self.turn = self.turn_with(credit);
        *stamp += 1;
        self.stamp = *stamp;
    }

    /// Has been served, by turn or along with others.
    pub(super) fn charge(&mut self, price: u64, present: Present, credit: u64, stamp: &mut u64) {
        let weight = u64::from(self.weight);
        let from = self.tag.max(present.earliest);
        let at_most = advance(present.latest, price, weight);
        self.tag = advance(from, price, weight).min(at_most).max(self.tag);
        let turn = self.turn_with(credit);
        if turn != self.turn {
            self.turn = turn;
            *stamp += 1;
            self.stamp = *stamp;
        }
    }

    /// Within the credit, when it came; beyond, when its share says.
    const fn turn_with(&self, credit: u64) -> u64 {
        if self.tag <= self.since.saturating_add(credit) { self.since } else { self.tag }
    }
}

/// How far from the present a tag may be when it is charged.
///
/// Jobs can be passed over for want of room, and others taken along in their place. Who was passed over
/// does not save up more than one dearest job's time for later; who was taken along does not have to wait for
/// longer afterwards than after a turn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present {
    earliest: u64,
    latest: u64,
}

impl Present {
    pub(super) const fn around(now: u64, credit: u64) -> Self {
        let earliest = now.saturating_sub(DEAREST * QUESTION * RESOLUTION);
        Self { earliest, latest: now.saturating_add(credit) }
    }

    /// In a walk everyone is served by turn, which takes nobody too far ahead.
    pub(super) const fn in_walk(now: u64) -> Self {
        Self { latest: u64::MAX, ..Self::around(now, 0) }
    }
}

/// Virtual time by which a unit of price moves a tag at weight 1: so fine that weights of thousands of clients
/// still divide it, so coarse that 64 bits last for a million million questions.
pub(super) const RESOLUTION: u64 = 1024;

pub(super) fn advance(tag: u64, price: u64, weight: u64) -> u64 {
    tag.saturating_add((price.saturating_mul(RESOLUTION) / weight.max(1)).max(1))
}
