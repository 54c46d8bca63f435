//! The policies of others, as read in their sources, over the same queue bound and batch bounds.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::simulation::{Next, Policy};
use crate::trace::Arrival;

/// Questions, and images that a batch may hold: the same for every policy.
pub(crate) const MAX_QUESTIONS: usize = 64;
pub(crate) const MAX_IMAGES: usize = 16;
/// Jobs that may wait, the same for every policy.
pub(crate) const MAX_WAITING: usize = 4096;

/// When a batch leaves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Rule {
    /// One at a time.
    NoBatching,
    /// Whatever is there when the device is free (text-embeddings-inference).
    PullWhenFree,
    /// The first item that a free worker sees starts a clock; the batch leaves when it is full or the
    /// clock has run out (mosec `get_batch`, LitServe `collate`).
    FirstItemClock(Duration),
    /// At the largest preferred size that is there; smaller only after the oldest has waited for the
    /// delay (Triton's dynamic batcher).
    PreferredSize(&'static [usize], Duration),
}

/// First come, first served.
pub(crate) struct Fifo<'a> {
    rule: Rule,
    trace: &'a [Arrival],
    waiting: VecDeque<usize>,
    clock: Option<Duration>,
}

impl<'a> Fifo<'a> {
    pub(crate) fn new(rule: Rule, trace: &'a [Arrival]) -> Self {
        Self { rule, trace, waiting: VecDeque::new(), clock: None }
    }

    /// How many from the front fit into one batch.
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
        let room = self.waiting.len() < MAX_WAITING;
        if room {
            self.waiting.push_back(job);
        }
        room
    }

    fn next(&mut self, now: Duration) -> Next {
        // All of them drop what has expired or whose client has left when they put a batch together.
        let trace = self.trace;
        self.waiting.retain(|job| {
            trace.get(*job).is_some_and(|arrival| arrival.deadline.is_none_or(|deadline| deadline > now))
        });
        let fitting = self.fitting();
        let Some(oldest) = self.waiting.front().and_then(|job| trace.get(*job)) else {
            self.clock = None;
            return Next::Nothing;
        };
        let full = fitting < self.waiting.len() || fitting == MAX_QUESTIONS;
        let count = match self.rule {
            Rule::NoBatching => 1,
            Rule::PullWhenFree => fitting,
            Rule::FirstItemClock(wait) => {
                let started = *self.clock.get_or_insert(now);
                if !full && now < started + wait {
                    return Next::WaitUntil(started + wait);
                }
                fitting
            }
            Rule::PreferredSize(sizes, delay) => {
                let preferred = sizes.iter().copied().filter(|size| *size <= fitting).max();
                match preferred {
                    Some(size) => size,
                    None if !full && now < oldest.at + delay => return Next::WaitUntil(oldest.at + delay),
                    None => fitting,
                }
            }
        };
        self.clock = None;
        Next::Batch(self.waiting.drain(..count).collect())
    }

    fn row_finished(&mut self, _now: Duration, _row: usize, job: usize) -> Vec<usize> {
        vec![job]
    }

    fn batch_finished(&mut self, _now: Duration, _run: &crate::device::Run) {}

    fn timer(&self) -> Option<Duration> {
        None
    }

    fn tick(&mut self, _now: Duration) {}
}
