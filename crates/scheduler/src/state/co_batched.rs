//! Queued jobs of one image, which can join a batch with that image.

use std::collections::BTreeSet;

use crate::{ids::JobIndex, job::Priority};

/// A queued job with its class and submission number.
pub(crate) type CoBatchedJob = (Priority, u64, JobIndex);

/// The queued jobs of one image. The first needs no allocation, since most images have one or two.
#[derive(Debug, Default)]
pub(crate) struct CoBatchedJobs {
    /// None only if there is no job.
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
