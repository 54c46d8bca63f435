//! Settings of preprocessing.

use std::num::{NonZeroU64, NonZeroUsize};

use clap::{Args, ValueEnum};

/// The default of [`PreprocessSettings::decode_max_cpu_ms`].
const DEFAULT_MAX_CPU_MS: NonZeroU64 = NonZeroU64::MIN.saturating_add(4_999);

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

/// Limits on decoding and scaling an image.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Decoding")]
pub struct DecodeSettings {
    /// Where images are decoded: in processes with limits, or on threads without
    ///
    /// Each preprocessing thread has one process. The process cannot open files, use the network or
    /// start programs. The limits of a decode apply only to processes. Processes need Linux.
    #[arg(long, value_name = "process|thread", env = "BLIP_SERVE__DECODE__ISOLATION",
          default_value_t = DecodeIsolation::default(), value_enum)]
    pub decode_isolation: DecodeIsolation,

    /// Maximum CPU time for decoding and scaling an image, in milliseconds
    ///
    /// The largest honest images within the other limits take about a third of the default.
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__DECODE__MAX_CPU_MS",
          default_value_t = DEFAULT_MAX_CPU_MS)]
    pub decode_max_cpu_ms: NonZeroU64,

    /// Maximum memory for decoding an image, in bytes
    ///
    /// It counts what the process allocates, including what the decoder keeps between images.
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__DECODE__MAX_MEMORY_BYTES", default_value_t = 512 << 20)]
    pub decode_max_memory_bytes: u64,
}

/// Where images are decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DecodeIsolation {
    /// In a confined process of each preprocessing thread.
    Process,
    /// On the preprocessing threads.
    Thread,
}

impl Default for DecodeIsolation {
    fn default() -> Self {
        if cfg!(target_os = "linux") { Self::Process } else { Self::Thread }
    }
}

impl PreprocessSettings {
    /// Returns the number of threads: the configured one, or one for each CPU.
    #[must_use]
    pub fn threads(&self) -> NonZeroUsize {
        let cpus = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.preprocess_threads.unwrap_or_else(cpus)
    }
}
