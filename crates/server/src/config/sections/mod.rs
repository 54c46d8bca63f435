//! The sections of the settings.
//!
//! The help of a setting is a summary of at most 80 characters without a full stop, and optional
//! paragraphs of details. A last paragraph `[default: ...]` describes a default that is not a
//! value.

pub mod model;
pub mod model_choice;
pub mod grpc;
pub mod tls;
pub mod auth;
pub mod fetch;
pub mod limits;
pub mod preprocess;
pub mod scheduler;
pub mod lifecycle;
pub mod telemetry;
pub mod http;

pub use auth::{AdminSettings, AuthSettings};
pub use fetch::FetchSettings;
pub use grpc::GrpcSettings;
pub use http::{CorsOrigin, HttpSettings, Listen};
pub use lifecycle::{DrainSettings, SelfTestSettings};
pub use limits::RequestLimits;
pub use model::ModelSettings;
pub use model_choice::{CandidateFile, DtypeRequest, ModelChoice, ModelName};
pub use preprocess::{DecodeSettings, PreprocessSettings};
pub use scheduler::SchedulerSettings;
pub use telemetry::{LogSettings, MetricsSettings, OtlpProtocol, Ratio, TraceSettings};
pub use tls::TlsSettings;
