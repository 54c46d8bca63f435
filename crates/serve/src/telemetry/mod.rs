//! What the server tells of its work while it is at it: log lines, names of requests, and traces.

mod layer;
mod log;
mod log_filter;
mod occasionally;
mod request_id;
mod target;
pub mod trace;

pub use layer::{Telemetry, TelemetryLayer};
pub use log::{LogFormat, install};
pub use log_filter::{BadFilter, LogFilter};
pub use occasionally::Occasionally;
pub use request_id::{REQUEST_ID, RequestId};
pub use target::Protocol;
