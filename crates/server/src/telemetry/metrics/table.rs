//! The table of the server's metrics, and functions that record them.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use metrics::{Gauge, counter, gauge, histogram};
use scheduler::metrics_table;

use crate::error::RequestError;

metrics_table! {
    CALLS = "blip_requests_total", Counter, Count,
        "protocol=grpc|http, method=the method or route, code=the gRPC code or HTTP status", "completed requests";
    CALL_TIME = "blip_request_seconds", Histogram, Seconds, "protocol, method",
        "time from the arrival of a request's headers to the end of its response";
    CALLS_IN_FLIGHT = "blip_requests_in_flight", Gauge, Count, "protocol", "requests in progress";
    ITEMS_REJECTED = "blip_pairs_refused_total", Counter, Count, "reason=see docs/reference/errors.md",
        "items (an image with a text) that ended with an error";
    STAGE = "blip_stage_seconds", Histogram, Seconds,
        "stage=fetch|preprocess|image_decode|image_scale|queue|vision|text|decode|total|write",
        "time of an answer by stage; work that several answers share counts in full for each";
    TOKENS = "blip_answer_tokens_total", Counter, Count, "", "tokens generated for answers";
    FEATURES = "blip_image_features_total", Counter, Count, "source=cache|encoder",
        "computed answers, by the source of their image features";
    FEATURES_BYTES = "blip_image_features_bytes", Gauge, Bytes, "", "cached image features of all engines";
    FEATURES_EVICTED = "blip_image_features_evicted_total", Counter, Count, "",
        "images whose features were evicted from the cache";
    KEY_VALUES = "blip_image_key_values_total", Counter, Count, "source=cache|features",
        "images of batches, by the source of their cross-attention keys and values";
    PIXELS = "blip_image_pixels_total", Counter, Count, "source=cache|decoder", "images, by the source of their pixels";
    PIXELS_BYTES = "blip_image_pixels_bytes", Gauge, Bytes, "", "cached pixels of images at the model's input size";
    ANSWER_LOOKUPS = "blip_answer_cache_lookups_total", Counter, Count, "model, result=hit|miss",
        "questions looked up in the answer cache";
    ANSWERS = "blip_answer_cache_answers", Gauge, Count, "", "cached answers of all models";
    ANSWERS_BYTES = "blip_answer_cache_bytes", Gauge, Bytes, "", "memory of the cached answers";
    INPUTS_CANCELLED = "blip_inputs_cancelled_total", Counter, Count, "stage=fetch|preprocess",
        "images abandoned because the client disconnected";
    WORKERS_STARTED = "blip_decode_workers_started_total", Counter, Count, "",
        "processes that decode images and were started";
    WORKERS_ENDED = "blip_decode_workers_ended_total", Counter, Count,
        "cause=cpu_limit|memory_limit|deadline|hang_up|crash|start_failed",
        "processes that decode images and ended, by cause; each is started again at once";
    CONNECTIONS = "blip_connections", Gauge, Count, "", "open connections";
    CONNECTIONS_REFUSED = "blip_connections_refused_total", Counter, Count, "reason=too_many|tls",
        "connections closed before their first request";
    WRITE_STALLS = "blip_write_stalls_total", Counter, Count, "ended=stream|connection",
        "streams and connections that ended because the client took no data";
    MODEL = "blip_model_info", Gauge, Count, "model, source, revision, device, dtype, version, commit",
        "the loaded models; the value is always 1";
    READY = "blip_ready", Gauge, Count, "", "1 while the server is ready, otherwise 0";
    WAITING = "blip_queue_waiting", Gauge, Count, "model, priority=high|normal|low|late|retried",
        "jobs that wait for a batch; a job of several clients counts once; late: cannot meet their deadline, \
         retried: run again after a failure";
    RUNNING = "blip_queue_running", Gauge, Count, "model", "unfinished jobs in running batches";
    QUEUE_LIMIT = "blip_queue_limit_jobs", Gauge, Count, "model", "the limit of waiting and running jobs (blip_queue_jobs)";
    SELF_TESTS = "blip_canary_total", Counter, Count, "model, result=passed|wrong|failed|unheard",
        "self-tests by result; unheard: did not reach the engine";
    DRAIN_DEADLINE = "blip_drain_deadline_timestamp_seconds", Gauge, Seconds, "",
        "Unix time at which a draining server abandons calls in flight; absent while it does not drain";
    DEVICE_MEMORY = "blip_device_memory_bytes", Gauge, Bytes, "device, held=allocated|reserved",
        "GPU memory of LibTorch; allocated: in tensors, reserved: taken from the device; absent without a GPU";
    DEVICE_MEMORY_PEAK = "blip_device_memory_peak_bytes", Gauge, Bytes, "device, held=allocated|reserved",
        "the maximum of blip_device_memory_bytes since the start";
    DEVICE_MEMORY_RETRIES = "blip_device_memory_retries_total", Counter, Count, "device",
        "GPU allocations that succeeded only after LibTorch released unused memory";
    ALLOCATOR_COMMITTED = "blip_allocator_committed_bytes", Gauge, Bytes, "",
        "memory that the allocator (mimalloc) holds, in use or free, LibTorch's CPU tensors included";
    ALLOCATOR_COMMITTED_PEAK = "blip_allocator_committed_peak_bytes", Gauge, Bytes, "",
        "the maximum of blip_allocator_committed_bytes since the start";
    RESIDENT_PEAK = "blip_resident_memory_peak_bytes", Gauge, Bytes, "",
        "the maximum of process_resident_memory_bytes since the start, short peaks included";
    PAGE_FAULTS = "blip_major_page_faults_total", Counter, Count, "",
        "page faults that read from disk: mapped weights, or too little memory";
}

/// A stage in which a client can disconnect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RequestStage {
    /// The image is being fetched.
    Fetch,
    /// The image waits for a preprocessing thread, or is on one.
    Preprocess,
}

/// Counts an abandoned image when it is dropped before the stage has finished.
#[derive(Debug)]
pub struct CancellationGuard(Option<RequestStage>);

impl CancellationGuard {
    /// Begins `stage`.
    #[must_use]
    pub fn new(stage: RequestStage) -> Self {
        Self(Some(stage))
    }

    /// Finishes the stage, so that nothing is counted.
    pub fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for CancellationGuard {
    fn drop(&mut self) {
        let stage = match self.0 {
            None => return,
            Some(RequestStage::Fetch) => "fetch",
            Some(RequestStage::Preprocess) => "preprocess",
        };
        counter!(INPUTS_CANCELLED, "stage" => stage).increment(1);
    }
}

/// Counts a process that decodes images and was started.
pub(crate) fn count_worker_start() {
    counter!(WORKERS_STARTED).increment(1);
}

/// Counts a process that decodes images and ended. `cause` is one of the label's values in the
/// table.
pub(crate) fn count_worker_end(cause: &'static str) {
    counter!(WORKERS_ENDED, "cause" => cause).increment(1);
}

/// Counts an item that ended with `error`.
pub fn count_item_error(error: &RequestError) {
    counter!(ITEMS_REJECTED, "reason" => error.reason().spec().name).increment(1);
}

/// Records the time of an answer in the stage `write`.
pub fn record_write_time(elapsed: Duration) {
    histogram!(STAGE, "stage" => "write").record(elapsed.as_secs_f64());
}

/// Records a completed request.
pub(crate) fn count_call(protocol: &'static str, method: &str, code: &str, elapsed: Duration) {
    let (method, code) = (method.to_owned(), code.to_owned());
    counter!(CALLS, "protocol" => protocol, "method" => method.clone(), "code" => code).increment(1);
    histogram!(CALL_TIME, "protocol" => protocol, "method" => method).record(elapsed.as_secs_f64());
}

/// Returns the gauge of requests in progress.
pub(crate) fn calls_in_flight(protocol: &'static str) -> Gauge {
    gauge!(CALLS_IN_FLIGHT, "protocol" => protocol)
}

/// Counts a connection as open until the guard is dropped.
#[must_use]
pub fn count_connection() -> ConnectionGuard {
    let connections = gauge!(CONNECTIONS);
    connections.increment(1.0);
    ConnectionGuard(connections)
}

/// A connection that counts as open.
#[derive(Debug)]
pub struct ConnectionGuard(Gauge);

impl Drop for ConnectionGuard {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Counts a connection that was closed for `reason`, a value of the label in the table.
pub fn count_refused_connection(reason: &'static str) {
    counter!(CONNECTIONS_REFUSED, "reason" => reason).increment(1);
}

/// Counts a response whose client took no data. `ended` is one of the label's values in the table.
pub fn count_write_stall(ended: &'static str) {
    counter!(WRITE_STALLS, "ended" => ended).increment(1);
}

/// Counts a self-test. `result` is one of the label's values in the table.
pub fn count_self_test(model: &Arc<str>, result: &'static str) {
    counter!(SELF_TESTS, "model" => Arc::clone(model), "result" => result).increment(1);
}

/// Exports the counters of these results as 0.
///
/// Prometheus sees no increase of a counter that first appears as 1.
pub fn init_self_test_counters(model: &Arc<str>, results: &[&'static str]) {
    for result in results {
        counter!(SELF_TESTS, "model" => Arc::clone(model), "result" => *result).increment(0);
    }
}

/// Exports the time at which the server abandons calls in flight, `limit` from now.
#[expect(clippy::disallowed_types, reason = "the metric is a Unix time")]
pub fn set_drain_deadline(limit: Duration) {
    let since_1970 = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!(DRAIN_DEADLINE).set(since_1970.as_secs_f64() + limit.as_secs_f64());
}

/// Sets the gauge of readiness.
pub(crate) fn set_ready(is_ready: bool) {
    gauge!(READY).set(if is_ready { 1.0 } else { 0.0 });
}
