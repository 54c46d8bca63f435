//! Limits of a batch and of the queue.

/// How large a batch may be, on each of its axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Distinct images that have to be encoded; those in the engine's feature cache are free.
    pub max_images: usize,
    /// Questions, that is rows.
    pub max_questions: usize,
    /// RowSink times the longest question of the batch: what a padded batch computes.
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
