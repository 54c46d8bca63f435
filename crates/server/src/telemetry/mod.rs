//! Logging, metrics and tracing.

pub mod request_layer;
pub mod tracing;
pub mod request_target;
pub mod metrics;
pub mod logging;

pub use logging::{LogFormat, install};
pub use request_layer::TelemetryLayer;
pub use request_target::Protocol;
