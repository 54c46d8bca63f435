//! Traces of requests and batches, exported to a collector over OTLP.
//!
//! Spans are created with the OpenTelemetry API, not derived from log spans, for three reasons:
//!
//! - The duration of a stage is known only when its answer is ready.
//! - A batch runs on a thread that knows no request.
//! - The export must not depend on the log filter.
//!
//! If nothing is exported, or a request is not recorded, each call only checks an `Option`.

pub mod server_span;
pub mod export;
pub mod exporter;
pub mod http_client;
pub mod collector;
#[cfg(test)]
pub mod in_memory;
pub mod scope;
pub mod sampling;
pub mod propagation;
pub mod clock;

pub use export::Tracing;
#[cfg(test)]
pub(crate) use in_memory::SpanRecorder;
pub use propagation::remote_trace_id;
pub use scope::{Attribute, TraceScope};
