//! Settings of a scheduler. Units are in the names, defaults are in [`SchedulerConfig::default`].

use std::time::Duration;

use metrics::Label;

use crate::{
    cost::CostCoefficients,
    limits::{BatchLimits, QueueLimits},
};

/// Settings of a scheduler.
#[derive(Clone, Debug, PartialEq)]
pub struct SchedulerConfig {
    /// Limits of a batch.
    pub batch: BatchLimits,
    /// Limits of the queue.
    pub queue: QueueLimits,
    /// Maximum time that a batch waits to be filled. Zero disables the wait.
    pub max_batch_delay: Duration,
    /// Maximum expected time that a batch decodes, while several clients send jobs. It bounds what
    /// costly questions of one client delay the others.
    pub max_shared_decode: Duration,
    /// A batch takes no further image once its fixed time is at most this fraction of its predicted
    /// time. A larger batch would save little and delay all of its rows.
    pub overhead_fraction: f64,
    /// Time after submission at which a job without deadline counts as due, among its client's
    /// jobs.
    pub implicit_deadline: Duration,
    /// Expected time of a batch, if it is known before the first batch has run.
    pub cost_prior: Option<CostCoefficients>,
    /// Whether `submit` rejects jobs that cannot meet their deadline by the cost model.
    pub reject_late_jobs: bool,
    /// An engine whose batch runs for this time counts as stalled.
    pub stall_after: Duration,
    /// An engine is dead after this number of panics without a successful batch in between.
    pub max_panics: u32,
    /// Whether all engines share one feature cache. If so, an image that one engine caches is
    /// cached for all of them, and remains so after that engine panics or dies.
    pub engines_share_features: bool,
    /// Labels of every metric of this scheduler. They distinguish several schedulers of one
    /// process.
    pub labels: Vec<Label>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            batch: BatchLimits::default(),
            queue: QueueLimits::default(),
            max_batch_delay: Duration::ZERO,
            max_shared_decode: Duration::from_millis(500),
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
