//! What can be set, with units in the names and defaults in one place.

use std::time::Duration;

/// How large a batch may be, on each of its axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Distinct images that have to be encoded; those in the engine's feature cache are free.
    pub max_images: usize,
    /// Questions, that is rows.
    pub max_questions: usize,
    /// Rows times the longest question of the batch: what a padded batch computes.
    pub max_padded_tokens: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { max_images: 16, max_questions: 64, max_padded_tokens: 2048 }
    }
}

/// How much may wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Jobs that wait or run, of all clients.
    pub max_jobs: usize,
    /// Bytes of images that waiting jobs hold; an image is counted once.
    pub max_bytes: usize,
    /// Jobs that wait or run, of one client.
    pub max_jobs_per_client: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { max_jobs: 16_384, max_bytes: 2 << 30, max_jobs_per_client: 8_192 }
    }
}

/// Everything that can be set about a scheduler.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SchedulerConfig {
    /// Bounds of a batch.
    pub batch: BatchLimits,
    /// Bounds of the queue.
    pub queue: QueueLimits,
    /// How long a batch that is not full may be held back for company. Zero: never.
    pub queue_delay: Duration,
}
