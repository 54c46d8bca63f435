//! Flights that wait on one image.

use std::collections::BTreeSet;

use crate::{ids::JobIndex, job::Priority};

/// A job among those that wait on an image.
pub(crate) type CoBatchedJob = (Priority, u64, JobIndex);

/// Flights that wait on one image. Most images have one or two: the first takes no allocation.
#[derive(Debug, Default)]
pub(crate) struct CoBatchedJobs {
    /// None only while there is none at all.
    first: Option<CoBatchedJob>,
    others: BTreeSet<CoBatchedJob>,
}

impl CoBatchedJobs {
    pub(crate) fn insert(&mut self, job: CoBatchedJob) {
        match self.first {
            None => self.first = Some(job),
            Some(first) if job < first => {
                self.others.insert(first);
                self.first = Some(job);
            }
            Some(first) if job > first => drop(self.others.insert(job)),
            Some(_) => {}
        }
    }

    pub(crate) fn remove(&mut self, job: &CoBatchedJob) {
        if self.first == Some(*job) {
            self.first = self.others.pop_first();
        } else {
            self.others.remove(job);
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.first.is_none()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = JobIndex> {
        self.first.iter().chain(&self.others).map(|(.., job)| *job)
    }
}
