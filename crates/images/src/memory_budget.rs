//! A bound on the working memory of all decodes in flight.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes that decodes may hold together. Taking waits, so only threads of a CPU pool may take.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit: u64,
    reserved: Mutex<u64>,
    released: Condvar,
}

/// A share of the quota, given back on drop.
#[derive(Debug)]
#[must_use]
pub(crate) struct BudgetPermit<'a> {
    budget: &'a MemoryBudget,
    bytes: u64,
}

impl MemoryBudget {
    pub(crate) fn new(limit: u64) -> Self {
        Self { limit, reserved: Mutex::new(0), released: Condvar::new() }
    }

    /// Waits until `bytes` are free and takes them; `None` if they never can be.
    pub(crate) fn reserve(&self, bytes: u64) -> Option<BudgetPermit<'_>> {
        if bytes > self.limit {
            return None;
        }
        let mut reserved = self.reserved();
        while *reserved + bytes > self.limit {
            reserved = self.released.wait(reserved).unwrap_or_else(PoisonError::into_inner);
        }
        *reserved += bytes;
        Some(BudgetPermit { budget: self, bytes })
    }

    // A holder that panics has not left the count half-written: poison says nothing here.
    fn reserved(&self) -> MutexGuard<'_, u64> {
        self.reserved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BudgetPermit<'_> {
    fn drop(&mut self) {
        *self.budget.reserved() -= self.bytes;
        self.budget.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn share_that_never_fits_is_refused_at_once() {
        assert!(MemoryBudget::new(10).reserve(11).is_none());
    }

    #[test]
    fn waiting_decode_runs_when_another_ends() {
        let budget = MemoryBudget::new(10);
        let first = budget.reserve(6).unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| budget.reserve(6).map(|permit| permit.bytes));
            drop(first);
            assert_eq!(second.join().unwrap(), Some(6));
        });
        assert_eq!(*budget.reserved(), 0);
    }
}
