//! The time limits of an upload: without progress, and in all.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio::time::{Instant, Sleep};

use crate::{error::RequestError, request::memory_budget::CallerBudget};

/// The timer of the message that arrives. A deadline of the client does not extend it.
#[derive(Debug)]
pub(crate) struct UploadTimer {
    budget: CallerBudget,
    /// When the upload must have ended, or `None` if that is too far for the clock.
    end: Option<Instant>,
    sleep: Pin<Box<Sleep>>,
}

impl UploadTimer {
    /// Starts the timer of a message.
    pub(crate) fn start(budget: CallerBudget) -> Self {
        let sleep = Box::pin(tokio::time::sleep(budget.idle_timeout()));
        let mut timer = Self { budget, end: None, sleep };
        timer.restart();
        timer
    }

    /// Starts again, because the next message begins.
    pub(crate) fn restart(&mut self) {
        self.end = Instant::now().checked_add(self.budget.upload_timeout());
        self.progress();
    }

    /// Restarts the time without progress, because data has arrived.
    pub(crate) fn progress(&mut self) {
        let idle = Instant::now().checked_add(self.budget.idle_timeout());
        if let Some(next) = [idle, self.end].into_iter().flatten().min() {
            self.sleep.as_mut().reset(next);
        }
    }

    /// Is ready with an error when a limit has passed.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<RequestError> {
        self.sleep.as_mut().poll(cx).map(|()| match self.end {
            Some(end) if end <= Instant::now() => self.budget.upload_slow(),
            _ => self.budget.upload_idle(),
        })
    }
}
