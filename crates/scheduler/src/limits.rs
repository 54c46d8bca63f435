//! Limits of a batch and of the queue.

/// Maximum size of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchLimits {
    /// Distinct images to encode. Images in the engine's feature cache do not count.
    pub max_images: usize,
    /// Questions, which are the rows of the batch.
    pub max_questions: usize,
    /// Rows times the longest question in tokens: the size of the padded batch.
    pub max_padded_tokens: usize,
}

impl Default for BatchLimits {
    fn default() -> Self {
        Self { max_images: 16, max_questions: 64, max_padded_tokens: 2048 }
    }
}

/// Maximum size of the queue. Each client has a share of the jobs and of the bytes
/// ([`Room`](crate::Room)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueLimits {
    /// Waiting and running jobs of all clients.
    pub max_jobs: usize,
    /// Image bytes of waiting and running jobs. Each image counts once.
    pub max_bytes: usize,
    /// Waiting and running jobs of one client.
    pub max_jobs_per_client: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self { max_jobs: 16_384, max_bytes: 2 << 30, max_jobs_per_client: 8_192 }
    }
}
