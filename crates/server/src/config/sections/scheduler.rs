//! Settings of the scheduler.

use std::{num::NonZeroU64, time::Duration};

use clap::Args;
use scheduler::BatchLimits;

/// The default batch limits on CUDA. A GPU is busy only with larger batches than a CPU.
pub const CUDA_BATCH: BatchLimits =
    BatchLimits { max_images: 128, max_questions: 768, max_padded_tokens: 768 * 40 };

/// The queue and its batches.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Scheduling")]
pub struct SchedulerSettings {
    /// Maximum number of questions that wait or run
    ///
    /// A client that is alone may use 8/9 of it. Several clients share it by their weights.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__SCHEDULER__MAX_QUEUED_QUESTIONS",
          default_value_t = scheduler::SchedulerConfig::default().queue.max_jobs)]
    pub max_queued_questions: usize,

    /// Maximum number of questions of one client that wait or run
    ///
    /// A client is an API key. If there are no keys, it is an IPv4 address or an IPv6 network of 64
    /// bits.
    #[arg(long, value_name = "N", env = "BLIP_SERVE__SCHEDULER__MAX_QUEUED_QUESTIONS_PER_CLIENT",
          default_value_t = scheduler::SchedulerConfig::default().queue.max_jobs_per_client)]
    pub max_queued_questions_per_client: usize,

    /// Maximum memory for the scaled images of waiting questions, in bytes
    ///
    /// Clients share it like the number of questions.
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__SCHEDULER__MAX_QUEUED_BYTES",
          default_value_t = scheduler::SchedulerConfig::default().queue.max_bytes)]
    pub max_queued_bytes: usize,

    /// Maximum number of distinct images in a batch
    ///
    /// [default: 16 on a CPU, 128 on CUDA]
    #[arg(long, value_name = "N", env = "BLIP_SERVE__SCHEDULER__MAX_BATCH_IMAGES")]
    pub max_batch_images: Option<usize>,

    /// Maximum number of questions in a batch
    ///
    /// [default: 64 on a CPU, 768 on CUDA]
    #[arg(long, value_name = "N", env = "BLIP_SERVE__SCHEDULER__MAX_BATCH_QUESTIONS")]
    pub max_batch_questions: Option<usize>,

    /// Maximum wait for a batch to fill, in milliseconds; 0 sends batches immediately
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__SCHEDULER__MAX_BATCH_DELAY_MS", default_value_t = 0)]
    pub max_batch_delay_ms: u64,

    /// Maximum decoding time of a batch while several clients wait, in milliseconds
    ///
    /// A batch of many beams and long answers takes seconds, and the other clients wait. After such
    /// a batch, the server forms smaller ones. They never have fewer steps than a question with ten
    /// beams and a hundred tokens.
    ///
    /// [default: 100 on a CPU, 500 on CUDA]
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__SCHEDULER__MAX_SHARED_DECODE_MS")]
    pub max_shared_decode_ms: Option<NonZeroU64>,

    /// Target for the 95th percentile of latency, in milliseconds
    ///
    /// Before the server is ready, it times batches of growing size. It then lowers the two batch
    /// limits to the largest sizes that take at most half of the target, because a question waits
    /// for one batch and is answered in the next. The target holds while the queue of an engine
    /// contains no more than its next batch.
    ///
    /// [default: none, the batch limits apply unchanged]
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__SCHEDULER__TARGET_P95_MS")]
    pub target_p95_ms: Option<NonZeroU64>,

    /// Maximum duration of a batch before health reports NOT_SERVING, in seconds
    ///
    /// Health recovers when the batch ends. After twice this time, the server ends with exit code
    /// 4.
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__SCHEDULER__ENGINE_STALL_S",
          default_value_t = scheduler::SchedulerConfig::default().stall_after.as_secs())]
    pub engine_stall_s: u64,
}

impl SchedulerSettings {
    /// Returns the target for the 95th percentile of latency.
    #[must_use]
    pub fn target_p95(&self) -> Option<Duration> {
        self.target_p95_ms.map(|milliseconds| Duration::from_millis(milliseconds.get()))
    }

    /// Returns the limits of a batch, with those of `defaults` where the settings have none.
    #[must_use]
    pub fn batch_limits(&self, defaults: BatchLimits) -> BatchLimits {
        BatchLimits {
            max_images: self.max_batch_images.unwrap_or(defaults.max_images),
            max_questions: self.max_batch_questions.unwrap_or(defaults.max_questions),
            ..defaults
        }
    }

    /// Returns the configuration of the scheduler, with the defaults for a CPU.
    #[must_use]
    pub fn config(&self) -> scheduler::SchedulerConfig {
        let mut config = scheduler::SchedulerConfig::default();
        config.queue.max_jobs = self.max_queued_questions;
        config.queue.max_jobs_per_client = self.max_queued_questions_per_client;
        config.queue.max_bytes = self.max_queued_bytes;
        config.batch = self.batch_limits(config.batch);
        if let Some(milliseconds) = self.max_shared_decode_ms {
            config.max_shared_decode = Duration::from_millis(milliseconds.get());
        }
        config.max_batch_delay = Duration::from_millis(self.max_batch_delay_ms);
        config.stall_after = Duration::from_secs(self.engine_stall_s);
        config
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Settings;

    #[test]
    fn defaults_equal_those_of_the_scheduler() {
        assert_eq!(Settings::default().scheduler.config(), scheduler::SchedulerConfig::default());
    }
}
