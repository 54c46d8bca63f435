//! What can be set, with units in the names and defaults in one place.

use std::time::Duration;

use metrics::Label;

use crate::{
    cost::Coefficients,
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
    pub queue_delay: Duration,
    /// A batch takes no further image once what it costs in any case is at most this part of its
    /// predicted time: growing it would make everyone in it wait and save next to nothing.
    pub fixed_share: f64,
    /// Among one client's jobs, one without deadline counts as due so long after its submission.
    pub patience: Duration,
    /// What a batch takes, where it is known before the first one has run.
    pub service_prior: Option<Coefficients>,
    /// Whether jobs that by the service model cannot meet their deadline are refused at the door.
    pub refuse_too_late: bool,
    /// An engine that has been at one batch for so long counts as stalled.
    pub stall_after: Duration,
    /// An engine that panics so often without a good batch in between is dead.
    pub max_panics: u32,
    /// Whether the engines keep features in one place, so that what one of them caches all of them have, even when it has
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
            queue_delay: Duration::ZERO,
            fixed_share: 0.05,
            patience: Duration::from_secs(30),
            service_prior: None,
            refuse_too_late: true,
            stall_after: Duration::from_secs(120),
            max_panics: 3,
            engines_share_features: false,
            labels: Vec::new(),
        }
    }
}
