//! What can be set, with units in the names and defaults in one position.

use std::time::Duration;

use metrics::Label;

use crate::{
    cost::CostCoefficients,
    limits::{BatchLimits, QueueLimits},
};

/// Everything that can be set about a scheduler.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// Bounds of a batch.
    pub batch: BatchLimits,
    /// Bounds of the queue.
    pub queue: QueueLimits,
    /// How long a batch that is not full may be held back for company. Zero: never.
    pub max_batch_delay: Duration,
    /// A batch takes no further image once what it costs in any case is at most this part of its
    /// predicted time: growing it would make everyone in it wait and save next to nothing.
    pub overhead_fraction: f64,
    /// Among one client's jobs, one without deadline counts as due so long after its submission.
    pub implicit_deadline: Duration,
    /// What a batch takes, where it is known before the first one has run.
    pub cost_prior: Option<CostCoefficients>,
    /// Whether jobs that by the service model cannot meet their deadline are refused at the door.
    pub reject_late_jobs: bool,
    /// An engine that has been at one batch for so long counts as stalled.
    pub stall_after: Duration,
    /// An engine that panics so often without a good batch in between is dead.
    pub max_panics: u32,
    /// Whether the engines keep features in one position, so that what one of them caches all of them have, even when it has
    /// panicked or died.
    pub engines_share_features: bool,
    /// What every metric of this scheduler is labelled with, so that two of them in one process can be told apart.
    pub labels: Vec<Label>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            batch: BatchLimits::default(),
            queue: QueueLimits::default(),
            max_batch_delay: Duration::ZERO,
            overhead_fraction: 0.05,
            implicit_deadline: Duration::from_secs(30),
            cost_prior: None,
            reject_late_jobs: true,
            stall_after: Duration::from_secs(120),
            max_panics: 3,
            engines_share_features: false,
            labels: Vec::new(),
        }
    }
}
