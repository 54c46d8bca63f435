//! What decides over the rank of a client among the clients of its class, or of a class among the classes.

use crate::job::ClientId;

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
        self.turn = now.max(self.tag.saturating_sub(credit));
        *stamp += 1;
        self.stamp = *stamp;
    }

    pub(super) fn charge(&mut self, nanoseconds: u64, credit: u64, stamp: &mut u64) {
        self.tag = advance(self.tag, nanoseconds, u64::from(self.weight));
        let turn = self.since.max(self.tag.saturating_sub(credit));
        if turn != self.turn {
            self.turn = turn;
            *stamp += 1;
            self.stamp = *stamp;
        }
    }
}

/// Virtual time a nanosecond of engine time moves a tag at weight 1.
pub(super) const RESOLUTION: u64 = 16;

pub(super) fn advance(tag: u64, nanoseconds: u64, weight: u64) -> u64 {
    tag.saturating_add((nanoseconds.saturating_mul(RESOLUTION) / weight.max(1)).max(1))
}
