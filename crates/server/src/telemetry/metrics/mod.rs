//! The server's metrics for Prometheus: their table, functions that record them, and middleware
//! that counts requests.
//!
//! A new metric is a row of [`table`]. Gauges of a model are set at each scrape, in
//! `serve::ops::model_gauges`. See "Add a metric" in `docs/design/architecture.md`.

pub mod grpc;
pub mod http;
pub mod call_record;
pub mod docs;
pub mod recorder;
pub mod table;

pub use grpc::MetricsLayer;
pub(crate) use grpc::method_of;
pub use http::count_requests;
pub use recorder::install;
pub use table::{
    CancellationGuard, ConnectionGuard, METRICS, RequestStage, count_connection, count_item_error,
    count_refused_connection, count_self_test, count_write_stall, init_self_test_counters, record_write_time,
    set_drain_deadline,
};
pub(crate) use table::{count_worker_end, count_worker_start};
