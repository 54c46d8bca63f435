//! A client's handle of a job.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::oneshot;

use crate::{error::JobError, ids::JobId, job::Completion};

/// Sends a job's result from the scheduler to its ticket.
pub(crate) type CompletionSender<A> = oneshot::Sender<Result<Completion<A>, JobError>>;

/// Cancels jobs.
pub(crate) trait Cancel: Send + Sync {
    /// Removes the job at any stage. Does nothing if the job is settled.
    fn cancel(&self, job: JobId);
}

/// An accepted job. Await it for the result, or drop it to cancel the job.
#[must_use = "dropping a ticket cancels its job"]
pub struct Ticket<A> {
    completion: oneshot::Receiver<Result<Completion<A>, JobError>>,
    job: JobId,
    /// Cancels the job if the ticket is dropped before the result is available.
    canceller: Option<Arc<dyn Cancel>>,
}

impl<A> Ticket<A> {
    pub(crate) fn new(
        completion: oneshot::Receiver<Result<Completion<A>, JobError>>,
        job: JobId,
        canceller: Arc<dyn Cancel>,
    ) -> Self {
        Self { completion, job, canceller: Some(canceller) }
    }
}

impl<A> Future for Ticket<A> {
    type Output = Result<Completion<A>, JobError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.completion).poll(cx).map(|outcome| {
            self.canceller = None;
            // The sender is dropped without a result only if the scheduler itself was dropped.
            outcome.unwrap_or(Err(JobError::ShuttingDown))
        })
    }
}

impl<A> Drop for Ticket<A> {
    fn drop(&mut self) {
        if let Some(canceller) = self.canceller.take() {
            canceller.cancel(self.job);
        }
    }
}

impl<A> fmt::Debug for Ticket<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("job", &self.job).field("settled", &self.canceller.is_none()).finish()
    }
}
