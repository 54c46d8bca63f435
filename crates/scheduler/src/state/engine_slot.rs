//! What is known of an engine.

use std::time::Duration;

use tokio::time::Instant;

use super::memory_limit::MemoryLimit;
use crate::{
    ids::{FlightId, ImageSlot},
    limits::BatchLimits,
};

/// What an engine does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Waits to be called.
    Idle,
    /// Was called and will ask for a batch.
    Called,
    /// Runs a batch.
    Running,
    /// Panicked and is built anew.
    Restarting,
    /// Will not work again.
    Dead,
}

/// A batch that runs.
#[derive(Debug)]
pub(crate) struct RunningBatch {
    /// What is left to do: a row that is finished, or that nobody waits for, is none.
    pub(crate) rows: Vec<Option<FlightId>>,
    pub(crate) images: Vec<ImageSlot>,
    /// Images whose features the engine did not have.
    pub(crate) encoded: usize,
    pub(crate) padded_tokens: usize,
    /// Rows that were finished; the others were abandoned or are open.
    pub(crate) finished: usize,
    pub(crate) started: Instant,
    pub(crate) predicted_end: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct EngineSlot {
    pub(crate) phase: Phase,
    pub(crate) limit: MemoryLimit,
    pub(crate) running: Option<RunningBatch>,
    /// When an engine that holds its batch back wants to look again.
    pub(crate) hold_until: Option<Instant>,
    /// Batches in a row that had to leave out the job whose turn it was.
    pub(crate) head_left_out: u32,
    pub(crate) panics: u32,
    /// Whether the engine ever said that it caches images.
    pub(crate) caches: bool,
    /// Has been at one batch for too long.
    pub(crate) stalled: bool,
}

impl EngineSlot {
    pub(crate) const fn new(limits: BatchLimits) -> Self {
        Self {
            phase: Phase::Called,
            limit: MemoryLimit::new(limits),
            running: None,
            hold_until: None,
            head_left_out: 0,
            panics: 0,
            caches: false,
            stalled: false,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.phase != Phase::Dead
    }

    /// Time until the engine can take work: zero when it can now, none when that is not known.
    ///
    /// A batch that takes longer than predicted counts as about to end, up to half as long again.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Idle | Phase::Called => Some(Duration::ZERO),
            Phase::Running if now <= self.overdue_at()? => {
                Some(self.running.as_ref()?.predicted_end?.saturating_duration_since(now))
            }
            Phase::Running | Phase::Restarting | Phase::Dead => None,
        }
    }

    /// When the batch that runs will have taken half as long again as predicted.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        let batch = self.running.as_ref()?;
        let end = batch.predicted_end?;
        Some(end + end.saturating_duration_since(batch.started) / 2)
    }
}
