//! A bound on the working memory of all decodes in flight.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that decodes may hold together. Taking waits, so only threads of a CPU pool may take.
#[derive(Debug)]
pub(crate) struct MemoryQuota {
    limit: u64,
    held: Mutex<u64>,
    freed: Condvar,
}

/// A share of the quota, given back on drop.
#[derive(Debug)]
#[must_use]
pub(crate) struct Share<'a> {
    quota: &'a MemoryQuota,
    bytes: u64,
}

impl MemoryQuota {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, held: Mutex::new(0), freed: Condvar::new() }
    }

    /// Waits until `bytes` are free and takes them; `None` if they never can be.
    pub(crate) fn take(&self, bytes: u64) -> Option<Share<'_>> {
        if bytes > self.limit {
            return None;
        }
        let mut held = self.held();
        while *held + bytes > self.limit {
            held = self.freed.wait(held).unwrap_or_else(PoisonError::into_inner);
        }
        *held += bytes;
        Some(Share { quota: self, bytes })
    }

    // A holder that panics has not left the count half-written: poison says nothing here.
    fn held(&self) -> MutexGuard<'_, u64> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        *self.quota.held() -= self.bytes;
        self.quota.freed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_that_never_fits_is_refused_at_once() {
        assert!(MemoryQuota::new(10).take(11).is_none());
    }

    #[test]
    fn waiting_decode_runs_when_another_ends() {
        let quota = MemoryQuota::new(10);
        let first = quota.take(6).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| quota.take(6).map(|share| share.bytes));
            drop(first);
            assert_eq!(second.join().unwrap(), Some(6));
        });
        assert_eq!(*quota.held(), 0);
    }
}
