//! The operations endpoint (`--metrics-listen`): metrics, probes and the log filter.

pub mod endpoint;
pub mod connections;
pub mod log_filter;
pub mod model_gauges;
pub mod device_memory;
pub mod process_memory;
