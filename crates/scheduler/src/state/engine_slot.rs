//! The state of one engine.

use std::time::Duration;

use tokio::time::Instant;

use super::memory_limit::MemoryLimit;
use crate::{
    ids::{ImageSlot, JobIndex},
    limits::BatchLimits,
};

/// What an engine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EnginePhase {
    /// Waits to be notified.
    Idle,
    /// Was notified and will ask for a batch.
    Notified,
    /// Runs a batch.
    Running,
    /// Panicked and is rebuilt.
    Restarting,
    /// Does not work again.
    Dead,
}

/// A running batch.
#[derive(Debug)]
pub(crate) struct RunningBatch {
    /// The open rows. None for a row that is finished or that no client waits for.
    pub(crate) rows: Vec<Option<JobIndex>>,
    pub(crate) images: Vec<ImageSlot>,
    /// Images that the engine has to encode.
    pub(crate) encoded: usize,
    pub(crate) padded_tokens: usize,
    /// Decoder steps of all hypotheses, at most.
    pub(crate) decode_steps: u64,
    /// Number of finished rows. The others are abandoned or open.
    pub(crate) finished: usize,
    pub(crate) started: Instant,
    pub(crate) predicted_end: Option<Instant>,
}

/// The state of one engine.
#[derive(Debug)]
pub(crate) struct EngineSlot {
    pub(crate) phase: EnginePhase,
    pub(crate) limit: MemoryLimit,
    pub(crate) running: Option<RunningBatch>,
    /// When the engine plans again, while its batch waits to be filled.
    pub(crate) hold_until: Option<Instant>,
    /// Consecutive batches that left out the job whose turn it was.
    pub(crate) head_skips: u32,
    pub(crate) panics: u32,
    /// Whether the engine has ever reported a cached image.
    pub(crate) reports_cached_images: bool,
    /// Whether its batch has run for longer than `stall_after`.
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

    /// Returns the time until the engine can take work: zero if it can now, none if unknown.
    ///
    /// A batch that is later than predicted counts as about to end, up to 1.5 times its prediction.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            EnginePhase::Idle | EnginePhase::Notified => Some(Duration::ZERO),
            EnginePhase::Running if now <= self.overdue_at()? => {
                Some(self.running.as_ref()?.predicted_end?.saturating_duration_since(now))
            }
            EnginePhase::Running | EnginePhase::Restarting | EnginePhase::Dead => None,
        }
    }

    /// Returns when the running batch reaches 1.5 times its predicted time.
    pub(crate) fn overdue_at(&self) -> Option<Instant> {
        let batch = self.running.as_ref()?;
        let end = batch.predicted_end?;
        Some(end + end.saturating_duration_since(batch.started) / 2)
    }
}
