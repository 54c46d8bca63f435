//! The memory budget of request messages and unread responses, which all calls of all protocols
//! share.
//!
//! The protocol adapters reserve memory while a message arrives, and for responses until the
//! connection takes them. Each caller has a share. Where keys are needed, callers that have not
//! shown one share a small separate budget.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use crate::{
    config::Settings,
    error::{ErrorReason, RequestError},
    fair_share::{Caller, FairShare, Refusal, Share},
};

/// The unit in which a message reserves memory. The announced length reserves no more, so that a
/// caller cannot occupy memory without sending data.
const STEP_BYTES: usize = 64 << 10;

/// When a client may retry after the budget was exhausted. Some calls end in this time.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The limits of request messages and unread responses.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// Memory for the messages of all callers together, in bytes.
    pub memory_bytes: usize,
    /// Memory for the messages of callers that have not shown a key, in bytes.
    pub keyless_memory_bytes: usize,
    /// Length of a message, in bytes.
    pub max_message_bytes: usize,
    /// How long an upload may make no progress.
    pub idle_timeout: Duration,
    /// How long the upload of a message may take.
    pub upload_timeout: Duration,
    /// Memory for responses that clients have not read, in bytes.
    pub unread_response_bytes: usize,
}

impl From<&Settings> for MessageLimits {
    fn from(settings: &Settings) -> Self {
        let Settings { grpc, limits, .. } = settings;
        Self {
            memory_bytes: grpc.max_request_memory_bytes,
            keyless_memory_bytes: grpc.max_keyless_memory_bytes,
            max_message_bytes: grpc.max_message_bytes,
            idle_timeout: Duration::from_secs(grpc.upload_idle_timeout_s),
            upload_timeout: Duration::from_secs(grpc.upload_timeout_s),
            unread_response_bytes: limits.max_unread_response_bytes,
        }
    }
}

/// The memory budget. Clones share it.
#[derive(Clone, Debug)]
pub struct MemoryBudget {
    limits: MessageLimits,
    callers: FairShare,
    keyless: FairShare,
    responses: FairShare,
}

impl MemoryBudget {
    /// Creates a budget of which nothing is reserved.
    #[must_use]
    pub fn new(limits: MessageLimits) -> Self {
        let callers = FairShare::new(limits.memory_bytes);
        let keyless = FairShare::new(limits.keyless_memory_bytes);
        let responses = FairShare::new(limits.unread_response_bytes);
        Self { limits, callers, keyless, responses }
    }

    /// Returns the maximum length of a message, in bytes.
    #[must_use]
    pub fn max_message_bytes(&self) -> usize {
        self.limits.max_message_bytes
    }

    /// Returns the budget for messages of `caller`.
    #[must_use]
    pub fn of(&self, caller: Caller) -> CallerBudget {
        CallerBudget { limits: self.limits, pool: self.callers.clone(), caller, is_keyless: false }
    }

    /// Reserves `bytes` for a response that `caller` has not read.
    ///
    /// # Errors
    /// A [`RequestError`] of the call if the caller may not hold that much memory at this time.
    pub fn reserve_response(&self, caller: Caller, bytes: usize) -> Result<Share, RequestError> {
        self.responses.reserve(caller, bytes).map_err(|refusal| busy("unread responses", refusal))
    }

    /// Returns the budget for messages of `caller`, which needs a key and has not shown it.
    #[must_use]
    pub fn of_keyless(&self, caller: Caller) -> CallerBudget {
        // A longer message would be rejected on its way.
        let longest = self.keyless.largest(caller);
        let max_message_bytes = self.limits.max_message_bytes.min(longest);
        let limits = MessageLimits { max_message_bytes, ..self.limits };
        CallerBudget { limits, pool: self.keyless.clone(), caller, is_keyless: true }
    }
}

/// The memory budget for the messages of one caller.
#[derive(Clone, Debug)]
pub struct CallerBudget {
    limits: MessageLimits,
    pool: FairShare,
    caller: Caller,
    is_keyless: bool,
}

impl CallerBudget {
    /// Returns how long an upload may make no progress.
    pub(crate) fn idle_timeout(&self) -> Duration {
        self.limits.idle_timeout
    }

    /// Returns how long the upload of a message may take.
    pub(crate) fn upload_timeout(&self) -> Duration {
        self.limits.upload_timeout
    }

    /// Returns the error of an upload that made no progress within the timeout.
    pub(crate) fn upload_idle(&self) -> RequestError {
        RequestError::new(ErrorReason::UploadStalled).limit(seconds(self.limits.idle_timeout))
    }

    /// Returns the error of an upload that has not ended within the timeout.
    pub(crate) fn upload_slow(&self) -> RequestError {
        RequestError::new(ErrorReason::UploadSlow).limit(seconds(self.limits.upload_timeout))
    }

    /// Begins a message of `announced_bytes`, or of unknown length, whose memory is added to
    /// `permit`.
    ///
    /// # Errors
    /// A [`RequestError`] of the call if the message is too long, or if the caller may not hold
    /// that much memory at this time.
    pub(crate) fn begin(
        &self,
        permit: &BudgetPermit,
        announced_bytes: Option<usize>,
    ) -> Result<ArrivingMessage, RequestError> {
        if let Some(announced) = announced_bytes {
            if announced > self.limits.max_message_bytes {
                return Err(self.too_large(format!("{announced} bytes")));
            }
            self.pool.check(self.caller, announced).map_err(|refusal| busy("requests", refusal))?;
        }
        permit.messages().push_back(self.pool.share(self.caller));
        let permit = permit.clone();
        Ok(ArrivingMessage {
            budget: self.clone(),
            permit,
            announced_bytes,
            received_bytes: 0,
            reserved_bytes: 0,
        })
    }

    fn too_large(&self, value: String) -> RequestError {
        let without = if self.is_keyless { " without a key in a header" } else { "" };
        let limit = format!("{} bytes{without}", self.limits.max_message_bytes);
        RequestError::new(ErrorReason::MessageTooLarge).value(value).limit(limit)
    }
}

/// Returns the error of a client that may not hold more memory for `what`.
fn busy(what: &str, refusal: Refusal) -> RequestError {
    let bytes = refusal.held.saturating_add(refusal.requested);
    RequestError::new(ErrorReason::ServerBusy)
        .value(format!("{bytes} bytes of the client's {what}"))
        .limit(format!("{} bytes", refusal.allowed))
        .retry_after(RETRY_AFTER)
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs())
}

/// A message that reserves memory while it arrives.
#[derive(Debug)]
pub(crate) struct ArrivingMessage {
    budget: CallerBudget,
    permit: BudgetPermit,
    announced_bytes: Option<usize>,
    received_bytes: usize,
    reserved_bytes: usize,
}

impl ArrivingMessage {
    /// Reserves memory for the next `bytes`, which have arrived.
    ///
    /// # Errors
    /// Those of [`CallerBudget::begin`].
    pub(crate) fn receive(&mut self, bytes: usize) -> Result<(), RequestError> {
        let max_bytes = self.budget.limits.max_message_bytes;
        self.received_bytes = self.received_bytes.saturating_add(bytes);
        if self.received_bytes > max_bytes {
            return Err(self.budget.too_large(format!("at least {} bytes", self.received_bytes)));
        }
        if self.received_bytes > self.reserved_bytes {
            let step_end = self.reserved_bytes + STEP_BYTES;
            let end = step_end.min(self.announced_bytes.unwrap_or(max_bytes)).max(self.received_bytes);
            // The last free memory may be less than a step.
            self.reserve_to(end)
                .or_else(|_| self.reserve_to(self.received_bytes))
                .map_err(|refusal| busy("requests", refusal))?;
        }
        Ok(())
    }

    fn reserve_to(&mut self, end: usize) -> Result<(), Refusal> {
        // A message that was taken before it has arrived has no share, and nobody holds it.
        if let Some(share) = self.permit.messages().back_mut() {
            share.grow(end - self.reserved_bytes)?;
        }
        self.reserved_bytes = end;
        Ok(())
    }
}

/// The memory that the messages of one call have reserved. An extension of its HTTP request.
///
/// The memory returns to the budget when the last clone is dropped.
#[derive(Clone, Debug, Default)]
pub struct BudgetPermit(Arc<Mutex<VecDeque<Share>>>);

impl BudgetPermit {
    /// Moves the memory of the first remaining message into a separate permit.
    #[must_use]
    pub fn next_message(&self) -> Self {
        let first = self.messages().pop_front();
        Self(Arc::new(Mutex::new(first.into_iter().collect())))
    }

    /// Charges the memory to the caller of `budget`, when a caller has shown its key.
    ///
    /// # Errors
    /// A [`RequestError`] of the call if that caller may not hold as much more memory.
    pub(crate) fn charge_to(&self, budget: &CallerBudget) -> Result<(), RequestError> {
        for share in self.messages().iter_mut() {
            share.transfer(&budget.pool, budget.caller).map_err(|refusal| busy("requests", refusal))?;
        }
        Ok(())
    }

    fn messages(&self) -> MutexGuard<'_, VecDeque<Share>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
pub(crate) mod tests;
