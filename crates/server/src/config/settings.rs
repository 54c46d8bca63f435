//! All settings of the server, one field for each section.

use clap::Args;

use crate::config::{
    defaults::defaults,
    sections::{
        AdminSettings, AuthSettings, DecodeSettings, DrainSettings, FetchSettings, GrpcSettings,
        HttpSettings, LogSettings, MetricsSettings, ModelSettings, PreprocessSettings, RequestLimits,
        SchedulerSettings, SelfTestSettings, TlsSettings, TraceSettings,
    },
};

/// All settings of `blip-serve serve`.
#[derive(Args, Clone, Debug)]
pub struct Settings {
    /// Models, their devices and caches.
    #[command(flatten)]
    pub model: ModelSettings,
    /// The gRPC listener.
    #[command(flatten)]
    pub grpc: GrpcSettings,
    /// The HTTP listener.
    #[command(flatten)]
    pub http: HttpSettings,
    /// TLS of the gRPC and HTTP listeners.
    #[command(flatten)]
    pub tls: TlsSettings,
    /// Authentication of clients.
    #[command(flatten)]
    pub auth: AuthSettings,
    /// Changes of models while the server runs.
    #[command(flatten)]
    pub admin: AdminSettings,
    /// Limits of a request.
    #[command(flatten)]
    pub limits: RequestLimits,
    /// Images by URL.
    #[command(flatten)]
    pub fetch: FetchSettings,
    /// Decoding and scaling of images.
    #[command(flatten)]
    pub preprocess: PreprocessSettings,
    /// Limits on decoding and scaling an image.
    #[command(flatten)]
    pub decode: DecodeSettings,
    /// The queue and its batches.
    #[command(flatten)]
    pub scheduler: SchedulerSettings,
    /// The self-test of engines.
    #[command(flatten)]
    pub self_test: SelfTestSettings,
    /// The listener of metrics and health.
    #[command(flatten)]
    pub metrics: MetricsSettings,
    /// Contents of the log.
    #[command(flatten)]
    pub log: LogSettings,
    /// Export of spans.
    #[command(flatten)]
    pub trace: TraceSettings,
    /// Shutdown.
    #[command(flatten)]
    pub drain: DrainSettings,
}

impl Default for Settings {
    /// Returns the defaults. The environment has no effect.
    fn default() -> Self {
        defaults()
    }
}
