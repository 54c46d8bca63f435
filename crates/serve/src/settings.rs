//! Everything that can be set about a server. A setting is defined once, here: its name with its unit, its default, its
//! environment variable, its help. A file, the environment and the command line say what it is: see [`Layers`].

mod admin;
mod auth;
mod canary;
mod definition;
mod documentation;
mod error;
mod fetch;
mod file;
mod flags;
mod http;
mod layer;
mod layers;
mod models;
mod monitor;
mod nearest;
#[cfg(test)]
mod precedence;
mod tables;
mod telemetry;
mod tls;
mod written;
mod yaml;

use std::{
    collections::HashSet,
    net::SocketAddr,
    num::{NonZeroU64, NonZeroUsize},
    time::Duration,
};

use clap::{Args, ValueHint};

pub use admin::AdminSettings;
pub use auth::AuthSettings;
pub use canary::CanarySettings;
pub use definition::{Definition, Kind, definition, definitions};
pub use documentation::documentation;
pub use error::SettingsError;
pub(crate) use error::one_line;
pub use fetch::FetchSettings;
pub use file::{parse_file, read_file};
pub use flags::Flags;
pub use http::{CorsOrigin, HttpSettings, Listen};
pub use layer::{Layer, environment};
pub use layers::{Effective, Layers, Origin, Resolved};
pub use models::{CandidateFile, ModelChoice, ModelName};
pub use monitor::MetricsSettings;
pub(crate) use telemetry::endpoint;
pub use telemetry::{LogSettings, OtlpProtocol, Ratio, TraceSettings};
pub use tls::TlsSettings;
pub use written::{effective_json, effective_toml, example};

/// All settings of `blip-serve serve`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Which model on which device.
    #[command(flatten)]
    pub model: ModelSettings,
    /// The gRPC listener.
    #[command(flatten)]
    pub grpc: GrpcSettings,
    /// The HTTP listener.
    #[command(flatten)]
    pub http: HttpSettings,
    /// TLS on both.
    #[command(flatten)]
    pub tls: TlsSettings,
    /// Who may call.
    #[command(flatten)]
    pub auth: AuthSettings,
    /// Who may change the server while it runs.
    #[command(flatten)]
    pub admin: AdminSettings,
    /// What one request may hold.
    #[command(flatten)]
    pub limits: RequestLimits,
    /// Images by URL.
    #[command(flatten)]
    pub fetch: FetchSettings,
    /// Work done on the CPU ahead of the engine.
    #[command(flatten)]
    pub preprocess: PreprocessSettings,
    /// What may wait for the engine and what a batch may hold.
    #[command(flatten)]
    pub scheduler: SchedulerSettings,
    /// The question that the server asks itself.
    #[command(flatten)]
    pub canary: CanarySettings,
    /// The listener of metrics.
    #[command(flatten)]
    pub metrics: MetricsSettings,
    /// What log lines hold.
    #[command(flatten)]
    pub log: LogSettings,
    /// Spans of requests.
    #[command(flatten)]
    pub trace: TraceSettings,
    /// How the server stops.
    #[command(flatten)]
    pub drain: DrainSettings,
}

impl Default for Settings {
    /// The defaults of the command line, without the environment's say.
    fn default() -> Self {
        layers::settings(&[]).unwrap_or_else(|error| error.exit())
    }
}

/// Which models on which device, in which number format.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Model")]
pub struct ModelSettings {
    /// `demo`, the small model inside this program; a folder in Hugging Face's layout (config.json,
    /// preprocessor_config.json, tokenizer.json or vocab.txt, model.safetensors or pytorch_model.bin); a .pth of the original
    /// repository with those beside it; or a name on the Hugging Face hub, with a branch, tag or commit behind an @ if not
    /// main, which is downloaded unless it is in the cache (see docs/models.md). Several, comma-separated or each with a flag
    /// of its own, are served side by side: requests name them by the last part of their source, or by NAME
    #[arg(long = "model", value_name = "[NAME=]demo|DIR|FILE|ORG/NAME[@REVISION]", value_delimiter = ',',
          env = "BLIP_SERVE__MODEL__SOURCE", default_value = "demo", value_hint = ValueHint::AnyPath)]
    pub models: Vec<ModelChoice>,

    /// Files of answers, one a line or a JSON list, that questions may name as their candidates, each with its name;
    /// comma-separated
    #[arg(long, value_name = "NAME=FILE", value_delimiter = ',', env = "BLIP_SERVE__MODEL__CANDIDATE_LISTS")]
    pub candidate_lists: Vec<CandidateFile>,

    /// Where models run; `auto` takes the first CUDA device, or the CPU when there is none
    #[arg(
        long,
        value_name = "auto|cpu|cuda|cuda:N",
        env = "BLIP_SERVE__MODEL__DEVICE",
        default_value = "auto"
    )]
    pub device: blip::DeviceRequest,

    /// Number format of weights and activations; `auto` is f16 on CUDA and f32 on the CPU
    #[arg(long, value_name = "auto|f32|f16|bf16", env = "BLIP_SERVE__MODEL__DTYPE", default_value = "auto")]
    pub dtype: DtypeRequest,

    /// Number format of the image encoder's products; `auto` is that of --dtype. `int8` is for a model in f32 on the CPU:
    /// new images of a large model take little more than half the time, and a few answers change
    #[arg(long, value_name = "auto|int8", env = "BLIP_SERVE__MODEL__VISION_DTYPE", default_value = "auto")]
    pub vision_dtype: blip::VisionDtype,

    /// Whose kernels compute a model in f32 on the CPU: `own`, this program's, for images and, on one thread, for questions and
    /// plain answers; `libtorch`, LibTorch's; `auto` takes its own for images, and for the rest if the model is as small as
    /// the demo
    #[arg(
        long,
        value_name = "auto|own|libtorch",
        env = "BLIP_SERVE__MODEL__CPU_KERNELS",
        default_value = "auto"
    )]
    pub cpu_kernels: blip::CpuKernels,

    /// Whose kernels add a residual and normalise the sum on CUDA: `own`, this program's, in one step, compiled when a model is
    /// loaded; `libtorch`, LibTorch's, in two. Where `own` cannot be had a warning says why, and LibTorch's are taken.
    /// Experimental: `libtorch` until the others have been measured on a GPU
    #[arg(
        long,
        value_name = "own|libtorch",
        env = "BLIP_SERVE__MODEL__CUDA_KERNELS",
        default_value = "libtorch"
    )]
    pub cuda_kernels: blip::CudaKernels,

    /// Whose conventions models follow: `hf`, those of the transformers library, or `salesforce`, those of the original
    /// repository (see docs/models.md)
    #[arg(long, value_name = "hf|salesforce", env = "BLIP_SERVE__MODEL__FLAVOUR", default_value = "hf")]
    pub flavour: blip::Flavour,

    /// Height and width that images are scaled to, in pixels, if not those that models were trained with: a multiple of
    /// their patches. The position embeddings are interpolated
    #[arg(long, value_name = "PIXELS", env = "BLIP_SERVE__MODEL__IMAGE_SIZE")]
    pub image_size: Option<u32>,

    /// Device memory for the features of images that were seen, in bytes: a question about such an image needs no
    /// vision pass. Engines on the CPU have it together [default: 4 GiB on CUDA, 512 MiB on the CPU]
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__MODEL__FEATURE_CACHE_BYTES")]
    pub feature_cache_bytes: Option<usize>,

    /// Device memory for the keys and values that questions read of images, in bytes: images that are asked about again and
    /// again keep theirs, which saves most of what is left of the work on an image that was seen; 0 keeps none. Engines on
    /// the CPU have it together [default: 1 GiB on CUDA, 512 MiB on the CPU]
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__MODEL__KEY_VALUE_CACHE_BYTES")]
    pub key_value_cache_bytes: Option<usize>,

    /// Memory for answers, in bytes: what is asked of an image again word for word is not computed again. Each model has its
    /// own; 0 keeps none
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__MODEL__ANSWER_CACHE_BYTES", default_value_t = 32 << 20)]
    pub answer_cache_bytes: usize,

    /// Threads that the model computes with on the CPU; fewer than the CPUs where other work shares them
    /// [default: one for each CPU, one in all for a model as small as the demo]
    #[arg(long, value_name = "N", env = "BLIP_SERVE__MODEL__ENGINE_THREADS")]
    pub engine_threads: Option<NonZeroUsize>,

    /// Engines, each with the whole model, between which batches are shared: as many CUDA devices, from the one of --device on;
    /// on the CPU, as many sets of --engine-threads, which share the memory for features, keys and values
    /// [default: 1; on the CPU one for each CPU, at most 4, for a model as small as the demo without --engine-threads]
    #[arg(long, value_name = "N", env = "BLIP_SERVE__MODEL__ENGINES")]
    pub engines: Option<NonZeroUsize>,

    /// Launch small batches as CUDA graphs, which saves most of the time that launching their kernels takes.
    /// Experimental: off until it has been measured on a GPU
    #[arg(long, env = "BLIP_SERVE__MODEL__CUDA_GRAPHS")]
    pub cuda_graphs: bool,
}

impl ModelSettings {
    /// Whether names say which is meant.
    ///
    /// # Errors
    /// [`SettingsError::Together`] if two models or two lists have one name, or no model is named.
    fn check(&self) -> Result<(), SettingsError> {
        let together = |message: String| Err(SettingsError::Together(message));
        let (mut names, mut lists) = (HashSet::new(), HashSet::new());
        for model in &self.models {
            let (name, source) = (model.name(), &model.source);
            if !names.insert(name.clone()) {
                return together(format!(
                    "two models are called {name}: name one of them, as in other={source}"
                ));
            }
        }
        if names.is_empty() {
            return together("no model is named".to_owned());
        }
        for CandidateFile { name, .. } in &self.candidate_lists {
            if !lists.insert(name) {
                return together(format!("two lists of candidates are called {name}"));
            }
        }
        Ok(())
    }
}

/// A number format, or the one that suits the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtypeRequest {
    /// Whatever suits the device.
    Auto,
    /// This one.
    Exactly(blip::Dtype),
}

impl std::str::FromStr for DtypeRequest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            _ => text
                .parse()
                .map(Self::Exactly)
                .map_err(|error: String| error.replace("expected", "expected auto,")),
        }
    }
}

/// The gRPC listener and its HTTP/2 connections.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "gRPC")]
pub struct GrpcSettings {
    /// Address and port to listen on; port 0 takes a free one and says which
    #[arg(
        long = "grpc-listen",
        value_name = "ADDRESS",
        env = "BLIP_SERVE__GRPC__LISTEN",
        default_value = "127.0.0.1:50051"
    )]
    pub listen: SocketAddr,

    /// Longest request message, in bytes
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__GRPC__MAX_MESSAGE_BYTES", default_value_t = 64 << 20)]
    pub max_message_bytes: usize,

    /// Request messages held in memory at a time, of all callers together, in bytes; a call that finds no room is
    /// refused before its message is read
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__GRPC__MAX_HELD_BYTES", default_value_t = 512 << 20)]
    pub max_held_bytes: usize,

    /// Calls at a time on one connection
    #[arg(long, value_name = "N", env = "BLIP_SERVE__GRPC__MAX_CONCURRENT_STREAMS", default_value_t = 256)]
    pub max_concurrent_streams: u32,

    /// How long a connection may be silent before it is pinged, in seconds; dead ones are found and closed this way
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__GRPC__KEEPALIVE_INTERVAL_S",
        default_value_t = 60
    )]
    pub keepalive_interval_s: u64,

    /// How long a ping may stay unanswered before the connection is closed, in seconds
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__GRPC__KEEPALIVE_TIMEOUT_S", default_value_t = 20)]
    pub keepalive_timeout_s: u64,

    /// Largest block of request headers, in bytes
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__GRPC__MAX_HEADER_BYTES", default_value_t = 16 << 10)]
    pub max_header_bytes: u32,

    /// Requests of one AskStream call that are worked on at a time; no further one is read meanwhile
    #[arg(long, value_name = "N", env = "BLIP_SERVE__GRPC__STREAM_WINDOW", default_value_t = 32)]
    pub stream_window: usize,

    /// Serve no reflection: clients have to know the service
    #[arg(long, env = "BLIP_SERVE__GRPC__REFLECTION_OFF")]
    pub reflection_off: bool,

    /// Connections at a time, HTTP included; further ones are closed at once
    #[arg(long, value_name = "N", env = "BLIP_SERVE__GRPC__MAX_CONNECTIONS", default_value_t = 4096)]
    pub max_connections: usize,

    /// How long a new connection may take over TLS and its first bytes, in seconds
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__GRPC__HANDSHAKE_TIMEOUT_S", default_value_t = 10)]
    pub handshake_timeout_s: u64,

    /// How long the upload of a message may stand still, in seconds
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__GRPC__UPLOAD_STALL_S", default_value_t = 20)]
    pub upload_stall_s: u64,

    /// Age at which a connection is told to go away, in seconds, so that clients spread over servers that were added
    /// since; 0 for never
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__GRPC__MAX_CONNECTION_AGE_S",
        default_value_t = 1800
    )]
    pub max_connection_age_s: u64,

    /// How long calls on such a connection may then take to end, in seconds
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__GRPC__MAX_CONNECTION_AGE_GRACE_S",
        default_value_t = 300
    )]
    pub max_connection_age_grace_s: u64,
}

/// What one request may hold.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Request limits")]
pub struct RequestLimits {
    /// Images in one request
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_IMAGES_PER_REQUEST", default_value_t = 64)]
    pub max_images_per_request: usize,

    /// Candidate answers of one question
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_CANDIDATES", default_value_t = 4096)]
    pub max_candidates: usize,

    /// Candidate answers of a question that are compared in full, chosen by their first token
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__CANDIDATE_SHORTLIST", default_value_t = 128,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub candidate_shortlist: u32,

    /// Beams that a request may have followed, and answers that it may want of a question
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_BEAMS", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_beams: u32,

    /// Tokens that a request may have written for an answer or a caption
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_NEW_TOKENS", default_value_t = 128,
          value_parser = clap::value_parser!(u32).range(1..))]
    pub max_new_tokens: u32,

    /// Questions in one request, those of all its images together
    #[arg(
        long,
        value_name = "N",
        env = "BLIP_SERVE__LIMITS__MAX_QUESTIONS_PER_REQUEST",
        default_value_t = 1024
    )]
    pub max_questions_per_request: usize,

    /// Size of one image file, in bytes
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__LIMITS__MAX_IMAGE_BYTES", default_value_t = 20 << 20)]
    pub max_image_bytes: usize,

    /// Size of one image, in pixels, read from the file's header before it is decoded
    #[arg(long, value_name = "N", env = "BLIP_SERVE__LIMITS__MAX_IMAGE_PIXELS",
          default_value_t = images::Limits::default().max_pixels)]
    pub max_image_pixels: u64,

    /// Length of one question's text, in bytes; the model has a limit of its own in tokens
    #[arg(
        long,
        value_name = "BYTES",
        env = "BLIP_SERVE__LIMITS__MAX_QUESTION_BYTES",
        default_value_t = 4096
    )]
    pub max_question_bytes: usize,

    /// How long a request may take whose caller sets no deadline, in seconds; 0 for ever
    #[arg(
        long,
        value_name = "SECONDS",
        env = "BLIP_SERVE__LIMITS__DEFAULT_DEADLINE_S",
        default_value_t = 600
    )]
    pub default_deadline_s: u64,
}

impl Default for RequestLimits {
    fn default() -> Self {
        Settings::default().limits
    }
}

impl RequestLimits {
    /// How long a request may take whose caller sets no deadline.
    #[must_use]
    pub fn default_deadline(&self) -> Option<Duration> {
        (self.default_deadline_s > 0).then_some(Duration::from_secs(self.default_deadline_s))
    }
}

/// Decoding, scaling and tokenizing, on threads of their own.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Preprocessing")]
pub struct PreprocessSettings {
    /// Threads that decode and scale images [default: one for each CPU]
    #[arg(long, value_name = "N", env = "BLIP_SERVE__PREPROCESS__THREADS")]
    pub preprocess_threads: Option<NonZeroUsize>,

    /// Images of all callers that may wait for such a thread
    #[arg(long, value_name = "N", env = "BLIP_SERVE__PREPROCESS__QUEUE", default_value_t = 1024)]
    pub preprocess_queue: usize,

    /// Memory for images at the model's size, in bytes, so that a file that comes again is not decoded again; 0 keeps
    /// none
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__PREPROCESS__CACHE_BYTES", default_value_t = 128 << 20)]
    pub preprocess_cache_bytes: usize,
}

impl PreprocessSettings {
    /// The threads asked for, or one for each CPU.
    #[must_use]
    pub fn threads(&self) -> NonZeroUsize {
        let cpus = || std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        self.preprocess_threads.unwrap_or_else(cpus)
    }
}

/// The queue before the engine, and the batches that leave it.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Scheduling")]
pub struct SchedulerSettings {
    /// Questions that may wait or run, of all callers
    #[arg(long, value_name = "N", env = "BLIP_SERVE__SCHEDULER__MAX_QUEUED_QUESTIONS",
          default_value_t = scheduler::SchedulerConfig::default().queue.max_jobs)]
    pub max_queued_questions: usize,

    /// Questions that may wait or run, of one API key, or of one connection where there are no keys
    #[arg(long, value_name = "N", env = "BLIP_SERVE__SCHEDULER__MAX_QUEUED_QUESTIONS_PER_CLIENT",
          default_value_t = scheduler::SchedulerConfig::default().queue.max_jobs_per_client)]
    pub max_queued_questions_per_client: usize,

    /// Scaled images that waiting questions hold in memory, in bytes
    #[arg(long, value_name = "BYTES", env = "BLIP_SERVE__SCHEDULER__MAX_QUEUED_BYTES",
          default_value_t = scheduler::SchedulerConfig::default().queue.max_bytes)]
    pub max_queued_bytes: usize,

    /// Distinct images in one batch
    #[arg(long, value_name = "N", env = "BLIP_SERVE__SCHEDULER__MAX_BATCH_IMAGES",
          default_value_t = scheduler::SchedulerConfig::default().batch.max_images)]
    pub max_batch_images: usize,

    /// Questions in one batch
    #[arg(long, value_name = "N", env = "BLIP_SERVE__SCHEDULER__MAX_BATCH_QUESTIONS",
          default_value_t = scheduler::SchedulerConfig::default().batch.max_questions)]
    pub max_batch_questions: usize,

    /// How long a batch that is not full waits for company, in milliseconds; a free engine need not wait
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__SCHEDULER__QUEUE_DELAY_MS", default_value_t = 0)]
    pub queue_delay_ms: u64,

    /// The time within which 95 of 100 answers should be there, in milliseconds, while an engine's queue holds no more than
    /// its next batch. Batches of growing size are timed before the server is ready, and the two limits above are lowered
    /// to the largest that take no more than half of this: a question waits for one batch and is answered in the next
    /// [default: the limits above as they are]
    #[arg(long, value_name = "MS", env = "BLIP_SERVE__SCHEDULER__SLO_P95_MS")]
    pub slo_p95_ms: Option<NonZeroU64>,

    /// How long an engine may be at one batch, in seconds: then health says NOT_SERVING until the batch ends, and after
    /// as long again the server ends with exit code 4
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__SCHEDULER__ENGINE_STALL_S",
          default_value_t = scheduler::SchedulerConfig::default().stall_after.as_secs())]
    pub engine_stall_s: u64,
}

impl SchedulerSettings {
    /// The time within which 95 of 100 answers should be there, if that was said.
    #[must_use]
    pub fn slo_p95(&self) -> Option<Duration> {
        self.slo_p95_ms.map(|milliseconds| Duration::from_millis(milliseconds.get()))
    }

    /// The same as the scheduler's own configuration.
    #[must_use]
    pub fn config(&self) -> scheduler::SchedulerConfig {
        let mut config = scheduler::SchedulerConfig::default();
        config.queue.max_jobs = self.max_queued_questions;
        config.queue.max_jobs_per_client = self.max_queued_questions_per_client;
        config.queue.max_bytes = self.max_queued_bytes;
        config.batch.max_images = self.max_batch_images;
        config.batch.max_questions = self.max_batch_questions;
        config.queue_delay = Duration::from_millis(self.queue_delay_ms);
        config.stall_after = Duration::from_secs(self.engine_stall_s);
        config
    }
}

/// How the server stops.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Stopping")]
pub struct DrainSettings {
    /// After the first SIGTERM or SIGINT: how long calls are still taken while health says NOT_SERVING, in seconds,
    /// so that load balancers look elsewhere first
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__DRAIN__GRACE_S", default_value_t = 0)]
    pub drain_grace_s: u64,

    /// How long the calls in flight may then take to end, in seconds
    #[arg(long, value_name = "SECONDS", env = "BLIP_SERVE__DRAIN__LIMIT_S", default_value_t = 30)]
    pub drain_limit_s: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_is_the_demo_model_on_loopback() {
        let settings = Settings::default();
        assert_eq!(settings.model.models, [ModelChoice::of_source("demo")]);
        assert!(settings.grpc.listen.ip().is_loopback());
        assert!(settings.limits.max_image_bytes <= settings.grpc.max_message_bytes);
        assert!(settings.grpc.max_message_bytes <= settings.grpc.max_held_bytes);
    }

    #[test]
    fn scheduler_settings_left_alone_are_the_schedulers_own_defaults() {
        assert_eq!(Settings::default().scheduler.config(), scheduler::SchedulerConfig::default());
    }

    #[test]
    fn an_unknown_dtype_is_refused_with_all_that_are_known() {
        let message = "int8".parse::<DtypeRequest>().unwrap_err();
        assert!(
            message.contains("int8") && message.contains("auto") && message.contains("bf16"),
            "{message}"
        );
    }
}
