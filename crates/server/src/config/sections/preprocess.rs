//! Settings of preprocessing.

use std::num::NonZeroUsize;

use clap::Args;

/// Decoding, scaling and tokenization, on separate threads.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Preprocessing")]
pub struct PreprocessSettings {
    /// Number of threads that decode and scale images
    ///
    /// [default: one for each CPU]
    #[arg(long, value_name = "N", env = "BLIP_SERVE__PREPROCESS__THREADS")]
    pub preprocess_threads: Option<NonZeroUsize>,

    /// Maximum number of images that wait for a preprocessing thread
    #[arg(long, value_name = "N", env = "BLIP_SERVE__PREPROCESS__QUEUE", default_value_t = 1024)]
    pub preprocess_queue: usize,

    /// Memory for cached images at the model's size, in bytes; 0 disables the cache
    ///
    /// A file whose image is cached is not decoded again.
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__PREPROCESS__CACHE_BYTES", default_value_t = 128 << 20)]
    pub preprocess_cache_bytes: usize,
}

impl PreprocessSettings {
    /// Returns the number of threads: the configured one, or one for each CPU.
    #[must_use]
    pub fn threads(&self) -> NonZeroUsize {
        let cpus = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.preprocess_threads.unwrap_or_else(cpus)
    }
}
