//! A piece of work and those who wait for it.
//!
//! The same (image, question, options) asked by many is one flight with many waiters. It stands in
//! the order at the best place that any of its waiters has, and lives until the last of them has left.

use std::time::Duration;

use tokio::time::Instant;

use crate::{
    ids::{ImageSlot, Place},
    job::{ClientId, Priority, Stage},
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
    pub(crate) fn place(&self, patience: Duration) -> Place {
        let patient = self.submitted + patience;
        Place {
            class: self.class,
            client: self.client,
            weight: self.weight,
            due: self.deadline.map_or(patient, |deadline| deadline.min(patient)),
            sequence: self.sequence,
        }
    }
}

#[derive(Debug)]
pub(crate) struct Flight<Q, W> {
    pub(crate) image: ImageSlot,
    pub(crate) question: Q,
    pub(crate) question_key: [u8; 32],
    pub(crate) tokens: u32,
    pub(crate) stage: Stage,
    pub(crate) place: Place,
    pub(crate) waiters: Vec<Waiter<W>>,
    /// True once two have waited for it at the same time.
    pub(crate) shared: bool,
}

impl<Q, W> Flight<Q, W> {
    /// The best place among the waiters': highest class, then soonest due.
    pub(crate) fn best_place(&self, patience: Duration) -> Option<Place> {
        self.waiters
            .iter()
            .map(|waiter| waiter.place(patience))
            .min_by_key(|place| (place.class, place.due, place.sequence))
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
