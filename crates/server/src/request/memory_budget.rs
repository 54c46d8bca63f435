use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};
use tonic::{Status, body::Body, server::NamedService};
use tower_service::Service;

use crate::error::{ErrorReason, RequestError};

/// A semaphore counts in `u32`; in KiB that is room enough.
const PERMIT_BYTES: usize = 1 << 10;

/// When a caller who found no room might find some: a guess, as rooms differ in size and calls in length.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The room that all calls share.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    permits: Arc<Semaphore>,
    capacity_bytes: usize,
    max_message_bytes: usize,
    pub(crate) stall_limit: Duration,
}

impl MemoryBudget {
    /// Room for `capacity_bytes` of messages of at most `max_message_bytes` each, whose uploads may stand still for
    /// `stall_limit`.
    #[must_use]
    pub fn new(capacity_bytes: usize, max_message_bytes: usize, stall_limit: Duration) -> Self {
        let permits = Arc::new(Semaphore::new(capacity_bytes.div_ceil(PERMIT_BYTES)));
        Self { permits, capacity_bytes, max_message_bytes, stall_limit }
    }

    /// Longest message, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.max_message_bytes
    }

    /// How long an upload may stand still.
    #[must_use]
    pub fn stall_limit(&self) -> Duration {
        self.stall_limit
    }

    /// Takes room for a message of this length.
    ///
    /// # Errors
    /// A [`RequestError`] of the call, if the message is too long or there is no room.
    pub fn hold(&self, message_bytes: usize) -> Result<BudgetPermit, RequestError> {
        let held = BudgetPermit::default();
        held.add(self.take(message_bytes)?);
        Ok(held)
    }

    /// Adds room for the next `more_bytes` of a message whose first `so_far` bytes `held` has room for.
    ///
    /// # Errors
    /// As those of [`MemoryBudget::hold`].
    pub fn extend(&self, held: &BudgetPermit, so_far: usize, more_bytes: usize) -> Result<(), RequestError> {
        let message_bytes = so_far.saturating_add(more_bytes);
        if message_bytes > self.max_message_bytes {
            return Err(self.too_large(format!("at least {message_bytes} bytes")));
        }
        held.add(self.take(more_bytes)?);
        Ok(())
    }

    fn too_large(&self, value: String) -> RequestError {
        let limit = format!("{} bytes", self.max_message_bytes);
        RequestError::new(ErrorReason::MessageTooLarge).value(value).limit(limit)
    }

    pub(crate) fn take(&self, message_bytes: usize) -> Result<OwnedSemaphorePermit, RequestError> {
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

/// The room that one call's messages take, one permit for each message: an extension of its request. It is given back
/// when the last clone is gone.
#[derive(Clone, Debug, Default)]
pub struct BudgetPermit(Arc<Mutex<VecDeque<OwnedSemaphorePermit>>>);

impl BudgetPermit {
    pub(crate) fn add(&self, permit: OwnedSemaphorePermit) {
        self.permits().push_back(permit);
    }

    /// Lets go of the room of the first message that has not been let go of, which is then all that the result holds.
    #[must_use]
    pub fn next_message(&self) -> Self {
        let first = self.permits().pop_front();
        Self(Arc::new(Mutex::new(first.into_iter().collect())))
    }

    fn permits(&self) -> MutexGuard<'_, VecDeque<OwnedSemaphorePermit>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
