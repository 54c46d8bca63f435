//! Wakes a thread that waits for a worker process or for memory, and states why.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::atomic::{AtomicU8, Ordering},
};

use rustix::event::{EventfdFlags, eventfd};

const NONE: u8 = 0;
const ABANDONED: u8 = 1;
const STOPPED: u8 = 2;

/// Cancels the calls of one thread. The thread owns a worker and reuses this for all its calls.
#[derive(Debug)]
pub struct Cancellation {
    event: OwnedFd,
    level: AtomicU8,
}

impl Cancellation {
    /// Creates a cancellation that is not cancelled.
    ///
    /// # Errors
    /// The process has no free file descriptor.
    pub fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { event, level: AtomicU8::new(NONE) })
    }

    /// Cancels the current call: its caller has left.
    pub fn abandon(&self) {
        self.level.fetch_max(ABANDONED, Ordering::Relaxed);
        self.wake();
    }

    /// Cancels the current call and all later ones: the server stops.
    pub fn stop(&self) {
        self.level.store(STOPPED, Ordering::Relaxed);
        self.wake();
    }

    /// Prepares for the next call. A stopped cancellation remains stopped.
    pub fn reset(&self) {
        // Fails if the thread is being stopped, which must not be undone.
        let _ = self.level.compare_exchange(ABANDONED, NONE, Ordering::Relaxed, Ordering::Relaxed);
        self.clear();
    }

    /// Returns whether the current call is cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.level.load(Ordering::Relaxed) != NONE
    }

    /// Returns whether all calls are cancelled.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.level.load(Ordering::Relaxed) == STOPPED
    }

    /// Wakes the thread without cancelling its call.
    pub(crate) fn wake(&self) {
        // Fails only if the counter is at its maximum. Then the thread wakes anyway.
        let _ = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
    }

    /// Forgets earlier wake-ups. What they announced must be checked afterwards.
    pub(crate) fn clear(&self) {
        // Fails if nothing is to be forgotten.
        let _ = rustix::io::read(&self.event, &mut [0_u8; 8]);
    }
}

impl AsFd for Cancellation {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopped_cancellation_survives_a_reset() {
        let cancellation = Cancellation::new().unwrap();
        cancellation.abandon();
        assert!(cancellation.is_cancelled() && !cancellation.is_stopped());
        cancellation.reset();
        assert!(!cancellation.is_cancelled());
        cancellation.stop();
        cancellation.reset();
        assert!(cancellation.is_stopped());
    }
}
