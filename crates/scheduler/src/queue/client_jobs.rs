//! The jobs of one client by when they are due.
//!
//! Most clients have one, which takes no allocation; those that have many get a tree of their own: it stays
//! shallow, and what a client does touches no other's memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use tokio::time::Instant;

use crate::ids::JobIndex;

/// Order within a client: when the job is due, then which came first.
pub(super) type DueKey = (Instant, u64);

/// A job in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedJob {
    pub(super) index: JobIndex,
    /// Length of its question.
    pub(super) tokens: u32,
}

#[derive(Debug, Default)]
pub(super) struct ClientJobs {
    /// None only while there is no job at all.
    first: Option<(DueKey, QueuedJob)>,
    later: BTreeMap<DueKey, QueuedJob>,
}

impl ClientJobs {
    /// False when there is a job at this key already; it stays.
    pub(super) fn insert(&mut self, key: DueKey, job: QueuedJob) -> bool {
        match self.first {
            None => self.first = Some((key, job)),
            Some((first, _)) if first == key => return false,
            Some((first, before)) if key < first => {
                self.later.insert(first, before);
                self.first = Some((key, job));
            }
            Some(_) => return self.later.insert(key, job).is_none(),
        }
        true
    }

    /// False when there is none at this key.
    pub(super) fn remove(&mut self, key: &DueKey) -> bool {
        if self.first.is_some_and(|(first, _)| first == *key) {
            self.first = self.later.pop_first();
            return true;
        }
        self.later.remove(key).is_some()
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
    first: Option<(DueKey, QueuedJob)>,
    later: Iter<'a, DueKey, QueuedJob>,
}

impl JobsInOrder<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.later.len() == 0
    }
}

impl Iterator for JobsInOrder<'_> {
    type Item = (DueKey, QueuedJob);

    fn next(&mut self) -> Option<Self::Item> {
        self.first.take().or_else(|| self.later.next().map(|(key, job)| (*key, *job)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn jobs_come_out_by_when_they_are_due_whatever_the_order_they_came_in() {
        let start = Instant::now();
        let key = |n: u64| (start + Duration::from_millis(n), n);
        let mut jobs = ClientJobs::default();
        for n in [5, 2, 9, 1, 7] {
            assert!(jobs.insert(key(n), QueuedJob { index: JobIndex(n as u32), tokens: 1 }));
        }
        assert!(!jobs.insert(key(1), QueuedJob { index: JobIndex(0), tokens: 1 }));
        assert!(jobs.remove(&key(1)) && jobs.remove(&key(7)) && !jobs.remove(&key(7)));
        assert_eq!(jobs.iter().map(|(_, job)| job.index.0).collect::<Vec<_>>(), [2, 5, 9]);
        assert_eq!(jobs.len(), 3);
    }
}
