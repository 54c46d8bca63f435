//! The queued jobs of one client, by the time when they are due.
//!
//! The first job needs no allocation, since most clients have one job. Further jobs are in a tree
//! for each client. So trees stay shallow, and clients do not touch each other's memory.

use std::collections::BTreeMap;
use std::collections::btree_map::Iter;

use tokio::time::Instant;

use crate::ids::JobIndex;

/// Order of a client's jobs: when they are due, then by submission.
pub(super) type DueKey = (Instant, u64);

/// A job in the queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueuedJob {
    pub(super) index: JobIndex,
    /// Length of the question.
    pub(super) tokens: u32,
}

/// The queued jobs of one client.
#[derive(Debug, Default)]
pub(super) struct ClientJobs {
    /// None only if there is no job.
    first: Option<(DueKey, QueuedJob)>,
    later: BTreeMap<DueKey, QueuedJob>,
}

impl ClientJobs {
    /// Returns false, and changes nothing, if the key exists.
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

    /// Returns false if the key does not exist.
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

/// Iterates over a client's jobs, the one that is due first at the front.
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
    fn client_jobs_iterate_by_due_time_in_any_insertion_order() {
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
