//! The memory budget of request messages, which all calls of all protocols share.
//!
//! The protocol adapters reserve memory before they read a message, by its announced length. A
//! message without a reservation is rejected.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{ErrorReason, RequestError};

/// The unit of reservations. The semaphore counts in `u32`, so that bytes would be too small.
const PERMIT_BYTES: usize = 1 << 10;

/// When a client may retry after the budget was exhausted. Some calls end in this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The memory budget. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    permits: Arc<Semaphore>,
    capacity_bytes: usize,
    max_message_bytes: usize,
    idle_timeout: Duration,
}

impl MemoryBudget {
    /// Creates a budget of `capacity_bytes` for messages of at most `max_message_bytes` each. An
    /// upload without progress ends after `idle_timeout`.
    #[must_use]
    pub fn new(capacity_bytes: usize, max_message_bytes: usize, idle_timeout: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(capacity_bytes.div_ceil(PERMIT_BYTES)));
        Self { permits, capacity_bytes, max_message_bytes, idle_timeout }
    }

    /// Returns the maximum length of a message, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// Returns how long an upload may make no progress.
    #[must_use]
    pub fn idle_timeout(&self) -> Duration {
        self.idle_timeout
    }

    /// Returns the error of an upload that made no progress within the timeout.
    pub(crate) fn upload_idle(&self) -> RequestError {
        RequestError::new(ErrorReason::UploadStalled).limit(format!("{} s", self.idle_timeout.as_secs()))
    }

    /// Reserves memory for a message of `message_bytes`.
    ///
    /// # Errors
    /// A [`RequestError`] of the call if the message is too long or the budget is exhausted.
    pub fn reserve(&self, message_bytes: usize) -> Result<BudgetPermit, RequestError> {
        let permit = BudgetPermit::default();
        permit.add(self.acquire(message_bytes)?);
        Ok(permit)
    }

    /// Adds memory for the next `more_bytes` of a message to `permit`, which has memory for the
    /// first `reserved_bytes`.
    ///
    /// # Errors
    /// The same as those of [`MemoryBudget::reserve`].
    pub fn extend(
        &self,
        permit: &BudgetPermit,
        reserved_bytes: usize,
        more_bytes: usize,
    ) -> Result<(), RequestError> {
        let message_bytes = reserved_bytes.saturating_add(more_bytes);
        if message_bytes > self.max_message_bytes {
            return Err(self.too_large(format!("at least {message_bytes} bytes")));
        }
        permit.add(self.acquire(more_bytes)?);
        Ok(())
    }

    fn too_large(&self, value: String) -> RequestError {
        let limit = format!("{} bytes", self.max_message_bytes);
        RequestError::new(ErrorReason::MessageTooLarge).value(value).limit(limit)
    }

    pub(crate) fn acquire(&self, message_bytes: usize) -> Result<OwnedSemaphorePermit, RequestError> {
        if message_bytes > self.max_message_bytes {
            return Err(self.too_large(format!("{message_bytes} bytes")));
        }
        let permits = u32::try_from(message_bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
        Arc::clone(&self.permits).try_acquire_many_owned(permits).map_err(|_| {
            let free = self.permits.available_permits() * PERMIT_BYTES;
            RequestError::new(ErrorReason::ServerBusy)
                .value(format!("{} bytes of requests", self.capacity_bytes.saturating_sub(free)))
                .limit(format!("{} bytes", self.capacity_bytes))
                .retry_after(RETRY_AFTER)
        })
    }
}

/// The memory that the messages of one call have reserved. An extension of its HTTP request.
///
/// The memory returns to the budget when the last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct BudgetPermit(Arc<Mutex<VecDeque<OwnedSemaphorePermit>>>);

impl BudgetPermit {
    pub(crate) fn add(&self, permit: OwnedSemaphorePermit) {
        self.permits().push_back(permit);
    }

    /// Moves the memory of the first remaining message into a separate permit.
    #[must_use]
    pub fn next_message(&self) -> Self {
        let first = self.permits().pop_front();
        Self(Arc::new(Mutex::new(first.into_iter().collect())))
    }

    fn permits(&self) -> MutexGuard<'_, VecDeque<OwnedSemaphorePermit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE_TIMEOUT: Duration = Duration::from_secs(20);

    #[test]
    fn message_over_the_limit_is_rejected_with_free_memory() {
        let error = MemoryBudget::new(1 << 30, 1000, IDLE_TIMEOUT).reserve(1001).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::MessageTooLarge);
        assert_eq!(error.to_string(), "request message too large: 1001 bytes, 1000 bytes allowed");
    }

    #[test]
    fn memory_returns_when_a_permit_is_dropped() {
        let budget = MemoryBudget::new(8 << 10, 8 << 10, IDLE_TIMEOUT);
        let permit = BudgetPermit::default();
        permit.add(budget.acquire(3 << 10).unwrap());
        permit.add(budget.acquire(5 << 10).unwrap());
        // The messages of a stream return their memory separately.
        let (first, second) = (permit.next_message(), permit.next_message());
        drop(first);
        let other = budget.acquire(3 << 10).unwrap();
        let error = budget.acquire(1).unwrap_err();
        assert_eq!(error.reason(), ErrorReason::ServerBusy);
        assert_eq!(error.to_string(), "server busy: 8192 bytes of requests in memory, 8192 bytes allowed");
        drop((other, second));
        assert!(budget.acquire(8 << 10).is_ok());
    }
}
