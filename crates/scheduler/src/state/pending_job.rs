//! A piece of work and those who wait for it.
//!
//! The same (image, question, options) asked by many is one job with many waiters. It stands in
//! the order at the best position that any of its waiters has, and lives until the last of them has left.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    ids::{ImageSlot, QueuePosition},
    job::{ClientId, JobStage, Priority},
};

/// One who waits.
#[derive(Debug)]
pub(crate) struct Waiter<W> {
    pub(crate) sequence: u64,
    pub(crate) client: ClientId,
    pub(crate) class: Priority,
    pub(crate) weight: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) submitted: Instant,
    pub(crate) token: W,
}

impl<W> Waiter<W> {
    pub(crate) fn position(&self, implicit_deadline: Duration) -> QueuePosition {
        let patient = self.submitted + implicit_deadline;
        QueuePosition {
            class: self.class,
            client: self.client,
            weight: self.weight,
            due: self.deadline.map_or(patient, |deadline| deadline.min(patient)),
            sequence: self.sequence,
        }
    }
}

#[derive(Debug)]
pub(crate) struct PendingJob<Q, W> {
    pub(crate) image: ImageSlot,
    pub(crate) question: Q,
    pub(crate) question_key: [u8; 32],
    pub(crate) tokens: u32,
    pub(crate) stage: JobStage,
    pub(crate) position: QueuePosition,
    pub(crate) waiters: Vec<Waiter<W>>,
    /// True once two have waited for it at the same time.
    pub(crate) is_shared: bool,
}

impl<Q, W> PendingJob<Q, W> {
    /// The best position among the waiters': highest class, then earliest_deadline due.
    pub(crate) fn best_position(&self, implicit_deadline: Duration) -> Option<QueuePosition> {
        self.waiters
            .iter()
            .map(|waiter| waiter.position(implicit_deadline))
            .min_by_key(|position| (position.class, position.due, position.sequence))
    }

    /// When the first waiter's answer is worthless.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        self.waiters.iter().filter_map(|waiter| waiter.deadline).min()
    }

    /// When the last waiter's answer is worthless; none while one waits without deadline.
    pub(crate) fn last_deadline(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.deadline).reduce(|a, b| Some(a?.max(b?))).flatten()
    }

    /// When the first of the waiters asked.
    pub(crate) fn submitted(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.submitted).min()
    }
}
