//! A pending job, and the submissions that wait for it.
//!
//! Submissions with equal image, question and options share one pending job. It has the best queue
//! position of its waiters, and is removed with the last of them.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    ids::{ImageSlot, QueuePosition},
    job::{ClientId, JobStage, Priority},
};

/// A submission that waits for a pending job.
#[derive(Debug)]
pub(crate) struct Waiter<W> {
    pub(crate) sequence: u64,
    pub(crate) client: ClientId,
    pub(crate) class: Priority,
    pub(crate) weight: u32,
    pub(crate) deadline: Option<Instant>,
    pub(crate) submitted: Instant,
    /// Bytes of the image, if this submission brought it.
    pub(crate) image_bytes: usize,
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

/// A job with all submissions that wait for it.
#[derive(Debug)]
pub(crate) struct PendingJob<Q, W> {
    pub(crate) image: ImageSlot,
    pub(crate) question: Q,
    pub(crate) question_key: [u8; 32],
    pub(crate) tokens: u32,
    pub(crate) decode_steps: u32,
    pub(crate) stage: JobStage,
    pub(crate) position: QueuePosition,
    pub(crate) waiters: Vec<Waiter<W>>,
    /// Whether two submissions have ever waited for it at the same time.
    pub(crate) is_shared: bool,
}

impl<Q, W> PendingJob<Q, W> {
    /// Returns the best position of the waiters: highest class, then earliest due.
    pub(crate) fn best_position(&self, implicit_deadline: Duration) -> Option<QueuePosition> {
        self.waiters
            .iter()
            .map(|waiter| waiter.position(implicit_deadline))
            .min_by_key(|position| (position.class, position.due, position.sequence))
    }

    /// Returns the earliest deadline of the waiters.
    pub(crate) fn first_deadline(&self) -> Option<Instant> {
        self.waiters.iter().filter_map(|waiter| waiter.deadline).min()
    }

    /// Returns the latest deadline of the waiters, or none if a waiter has no deadline.
    pub(crate) fn last_deadline(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.deadline).reduce(|a, b| Some(a?.max(b?))).flatten()
    }

    /// Returns the time of the first submission.
    pub(crate) fn submitted(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.submitted).min()
    }
}
