//! What is known of an engine.

use std::time::Duration;

use tokio::time::Instant;

use super::memory_limit::MemoryLimit;
use crate::{
    ids::{ImageSlot, JobIndex},
    limits::BatchLimits,
};

/// What an engine does at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnginePhase {
    /// Waits to be called.
    Idle,
    /// Was called and will ask for a batch.
    Notified,
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
    pub(crate) rows: Vec<Option<JobIndex>>,
    pub(crate) images: Vec<ImageSlot>,
    /// Images whose features the engine did not have.
    pub(crate) encoded: usize,
    pub(crate) padded_tokens: usize,
    /// RowSink that were finished; the others were abandoned or are open.
    pub(crate) finished: usize,
    pub(crate) started: Instant,
    pub(crate) predicted_end: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct EngineSlot {
    pub(crate) phase: EnginePhase,
    pub(crate) limit: MemoryLimit,
    pub(crate) running: Option<RunningBatch>,
    /// When an engine that holds its batch back wants to look again.
    pub(crate) hold_until: Option<Instant>,
    /// Batches in a row that had to leave out the job whose turn it was.
    pub(crate) head_skips: u32,
    pub(crate) panics: u32,
    /// Whether the engine ever said that it caches images.
    pub(crate) reports_cached_images: bool,
    /// Has been at one batch for too long.
    pub(crate) is_stalled: bool,
}

impl EngineSlot {
    pub(crate) const fn new(limits: BatchLimits) -> Self {
        Self {
            phase: EnginePhase::Notified,
            limit: MemoryLimit::new(limits),
            running: None,
            hold_until: None,
            head_skips: 0,
            panics: 0,
            reports_cached_images: false,
            is_stalled: false,
        }
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.phase != EnginePhase::Dead
    }

    /// Time until the engine can take work: zero when it can now, none when that is not known.
    ///
    /// A batch that takes longer than predicted counts as about to end, up to half as long again.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            EnginePhase::Idle | EnginePhase::Notified => Some(Duration::ZERO),
            EnginePhase::Running if now <= self.overdue_at()? => {
                Some(self.running.as_ref()?.predicted_end?.saturating_duration_since(now))
            }
            EnginePhase::Running | EnginePhase::Restarting | EnginePhase::Dead => None,
        }
    }

    /// When the batch that runs will have taken half as long again as predicted.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        let batch = self.running.as_ref()?;
        let end = batch.predicted_end?;
        Some(end + end.saturating_duration_since(batch.started) / 2)
    }
}
