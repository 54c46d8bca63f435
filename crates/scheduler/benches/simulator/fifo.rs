//! First-in-first-out policies of other servers, as their sources define them.
//!
//! All of them have the limits of this crate's policy.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::{
    device::BatchRun,
    simulation::{Next, Policy},
    traffic::Arrival,
};

/// Maximum number of questions in a batch.
pub(crate) const MAX_QUESTIONS: usize = 64;

/// Maximum number of distinct images in a batch.
pub(crate) const MAX_IMAGES: usize = 16;

/// Maximum number of waiting jobs.
pub(crate) const MAX_WAITING: usize = 4096;

/// When a batch starts.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BatchRule {
    /// One question at a time.
    NoBatching,
    /// With the waiting jobs, when the device is free (text-embeddings-inference).
    WhenFree,
    /// When the batch is full, or this time after a free worker has seen its first item (mosec
    /// `get_batch`, LitServe `collate`).
    TimerFromFirstItem(Duration),
    /// At the largest of these sizes that is reached, or with fewer jobs when the oldest has waited
    /// for this time (Triton's dynamic batcher).
    PreferredSizes(&'static [usize], Duration),
}

/// A queue in order of arrival.
pub(crate) struct Fifo<'a> {
    rule: BatchRule,
    trace: &'a [Arrival],
    waiting: VecDeque<usize>,
    timer_start: Option<Duration>,
}

impl<'a> Fifo<'a> {
    pub(crate) fn new(rule: BatchRule, trace: &'a [Arrival]) -> Self {
        Self { rule, trace, waiting: VecDeque::new(), timer_start: None }
    }

    /// Returns the number of jobs at the front that fit into one batch.
    fn fitting(&self) -> usize {
        let mut images = HashSet::new();
        self.waiting
            .iter()
            .take(MAX_QUESTIONS)
            .take_while(|job| {
                self.trace.get(**job).is_some_and(|arrival| {
                    images.insert(arrival.image);
                    images.len() <= MAX_IMAGES
                })
            })
            .count()
    }
}

impl Policy for Fifo<'_> {
    fn arrive(&mut self, _now: Duration, job: usize) -> bool {
        let has_space = self.waiting.len() < MAX_WAITING;
        if has_space {
            self.waiting.push_back(job);
        }
        has_space
    }

    fn next(&mut self, now: Duration) -> Next {
        // These servers drop expired and cancelled jobs when they build a batch.
        let trace = self.trace;
        self.waiting.retain(|job| {
            trace.get(*job).is_some_and(|arrival| arrival.deadline.is_none_or(|deadline| deadline > now))
        });
        let fitting = self.fitting();
        let Some(oldest) = self.waiting.front().and_then(|job| trace.get(*job)) else {
            self.timer_start = None;
            return Next::Nothing;
        };
        let is_full = fitting < self.waiting.len() || fitting == MAX_QUESTIONS;
        let count = match self.rule {
            BatchRule::NoBatching => 1,
            BatchRule::WhenFree => fitting,
            BatchRule::TimerFromFirstItem(wait) => {
                let start = *self.timer_start.get_or_insert(now);
                if !is_full && now < start + wait {
                    return Next::WaitUntil(start + wait);
                }
                fitting
            }
            BatchRule::PreferredSizes(sizes, delay) => {
                let preferred = sizes.iter().copied().filter(|size| *size <= fitting).max();
                match preferred {
                    Some(size) => size,
                    None if !is_full && now < oldest.at + delay => {
                        return Next::WaitUntil(oldest.at + delay);
                    }
                    None => fitting,
                }
            }
        };
        self.timer_start = None;
        Next::Batch(self.waiting.drain(..count).collect())
    }

    fn row_finished(&mut self, _now: Duration, _row: usize, job: usize) -> Vec<usize> {
        vec![job]
    }

    fn batch_finished(&mut self, _now: Duration, _run: &BatchRun) {}

    fn timer(&self) -> Option<Duration> {
        None
    }

    fn tick(&mut self, _now: Duration) {}
}
