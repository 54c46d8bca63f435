//! Traces: spans of requests and batches, on their way to a collector by OTLP.
//!
//! Spans are made by OpenTelemetry's own API rather than out of the log's: what a stage took is known only when its
//! answer is there, a batch runs on a thread that knows no request, and what is exported must not hang on the log filter.
//! Where nothing is exported, or a request is not recorded, every call here is a look at an `Option`.

mod batch;
mod clock;
mod collector;
mod export;
mod exporter;
mod http_client;
mod pair;
mod propagation;
#[cfg(test)]
mod recorded;
mod sampling;
mod scope;
mod server_span;

pub use batch::BatchTrace;
pub use export::Tracing;
pub use pair::PairTrace;
pub use propagation::remote_trace_id;
#[cfg(test)]
pub(crate) use recorded::Recorder;
pub use scope::{Attribute, TraceScope};
