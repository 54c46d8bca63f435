//! The jobs of one client by when they are due.
//!
//! Most clients have one, which takes no allocation; those that have many get a tree of their own: it stays
//! shallow, and what a client does touches no other's memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use tokio::time::Instant;

use crate::ids::FlightId;

/// Order within a client: when the job is due, then which came first.
pub(super) type Turn = (Instant, u64);

/// A job in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct Queued {
    pub(super) flight: FlightId,
    /// Length of its question.
    pub(super) tokens: u32,
}

#[derive(Debug, Default)]
pub(super) struct ClientJobs {
    /// None only while there is no job at all.
    first: Option<(Turn, Queued)>,
    later: BTreeMap<Turn, Queued>,
}

impl ClientJobs {
    /// False when there is a job at this turn already; it stays.
    pub(super) fn insert(&mut self, turn: Turn, job: Queued) -> bool {
        match self.first {
            None => self.first = Some((turn, job)),
            Some((first, _)) if first == turn => return false,
            Some((first, before)) if turn < first => {
                self.later.insert(first, before);
                self.first = Some((turn, job));
            }
            Some(_) => return self.later.insert(turn, job).is_none(),
        }
        true
    }

    /// False when there is none at this turn.
    pub(super) fn remove(&mut self, turn: &Turn) -> bool {
        if self.first.is_some_and(|(first, _)| first == *turn) {
            self.first = self.later.pop_first();
            return true;
        }
        self.later.remove(turn).is_some()
    }

    pub(super) fn len(&self) -> usize {
        usize::from(self.first.is_some()) + self.later.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(super) fn iter(&self) -> JobsInOrder<'_> {
        JobsInOrder { first: self.first, later: self.later.iter() }
    }
}

/// The jobs of a client, the one that is due first at the front.
pub(super) struct JobsInOrder<'a> {
    first: Option<(Turn, Queued)>,
    later: Iter<'a, Turn, Queued>,
}

impl JobsInOrder<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.later.len() == 0
    }
}

impl Iterator for JobsInOrder<'_> {
    type Item = (Turn, Queued);

    fn next(&mut self) -> Option<Self::Item> {
        self.first.take().or_else(|| self.later.next().map(|(turn, job)| (*turn, *job)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn jobs_come_out_by_when_they_are_due_whatever_the_order_they_came_in() {
        let start = Instant::now();
        let turn = |n: u64| (start + Duration::from_millis(n), n);
        let mut jobs = ClientJobs::default();
        for n in [5, 2, 9, 1, 7] {
            assert!(jobs.insert(turn(n), Queued { flight: FlightId(n as u32), tokens: 1 }));
        }
        assert!(!jobs.insert(turn(1), Queued { flight: FlightId(0), tokens: 1 }));
        assert!(jobs.remove(&turn(1)) && jobs.remove(&turn(7)) && !jobs.remove(&turn(7)));
        assert_eq!(jobs.iter().map(|(_, job)| job.flight.0).collect::<Vec<_>>(), [2, 5, 9]);
        assert_eq!(jobs.len(), 3);
    }
}
