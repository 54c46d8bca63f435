//! A limit on the working memory of all concurrent decodes.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// A number of bytes that all decodes of one decoder share.
///
/// Reserving blocks the thread, so only threads of a CPU pool may reserve.
#[derive(Debug)]
pub(crate) struct MemoryBudget {
    limit: u64,
    reserved: Mutex<u64>,
    released: Condvar,
}

/// Reserved bytes of a budget. They are released on drop.
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

    /// Blocks until `bytes` are free and reserves them. Returns `None` if the budget is smaller.
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

    // The count is written in one operation, so a panic cannot leave it inconsistent.
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
    fn reservation_above_the_budget_is_rejected() {
        assert!(MemoryBudget::new(10).reserve(11).is_none());
    }

    #[test]
    fn waiting_reservation_succeeds_after_a_release() {
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
