//! Every metric of the front end, declared once, and the few calls that record them.

use std::{
    sync::Arc,
    time::{Duration, UNIX_EPOCH},
};

use metrics::{Gauge, counter, gauge, histogram};
use scheduler::metrics_table;

use crate::errors::Refusal;

metrics_table! {
    CALLS = "blip_requests_total", Counter, Count,
        "protocol=grpc|http, method=the method or route, code=the gRPC code or HTTP status", "requests that ended";
    CALL_TIME = "blip_request_seconds", Histogram, Seconds, "protocol, method",
        "from the arrival of a request's headers to the end of its response";
    CALLS_RUNNING = "blip_requests_in_flight", Gauge, Count, "protocol", "requests that have not ended";
    REFUSED = "blip_pairs_refused_total", Counter, Count, "reason=see docs/errors.md",
        "pairs of an image and a question that were refused";
    STAGE = "blip_stage_seconds", Histogram, Seconds,
        "stage=fetch|preprocess|image_decode|image_scale|queue|vision|text|decode|total|write",
        "what an answer took, by stage; work that several share is in full in each";
    TOKENS = "blip_answer_tokens_total", Counter, Count, "", "tokens generated for answers";
    FEATURES = "blip_image_features_total", Counter, Count, "source=cache|encoder",
        "answers that were computed, by where their image's features came from";
    FEATURES_HELD = "blip_image_features_bytes", Gauge, Bytes, "", "features of images that are kept, of all engines together";
    FEATURES_EVICTED = "blip_image_features_evicted_total", Counter, Count, "", "images whose features gave way to others'";
    KEY_VALUES = "blip_image_key_values_total", Counter, Count, "source=cache|features",
        "images of batches by what their questions read: keys and values that were kept, or the features that those are made of";
    PIXELS = "blip_image_pixels_total", Counter, Count, "source=cache|decoder", "images by where their pixels came from";
    PIXELS_HELD = "blip_image_pixels_bytes", Gauge, Bytes, "", "pixels of images at the model's size that are kept";
    ANSWERS_LOOKED_UP = "blip_answer_cache_lookups_total", Counter, Count, "model, result=hit|miss",
        "questions that were looked for among the answers that are kept";
    ANSWERS = "blip_answer_cache_answers", Gauge, Count, "", "answers that are kept, of all models together";
    ANSWERS_BYTES = "blip_answer_cache_bytes", Gauge, Bytes, "", "what those take in memory";
    LEFT = "blip_inputs_cancelled_total", Counter, Count, "stage=fetch|preprocess",
        "images given up because their caller left";
    CONNECTIONS = "blip_connections", Gauge, Count, "", "connections that are open";
    CONNECTIONS_REFUSED = "blip_connections_refused_total", Counter, Count, "reason=too_many|tls",
        "connections that were closed before anything was asked";
    MODEL = "blip_model_info", Gauge, Count, "model, source, revision, device, dtype, version, commit",
        "what is served: always 1";
    READY = "blip_ready", Gauge, Count, "", "1 while the server is ready to answer";
    WAITING = "blip_queue_waiting", Gauge, Count, "model, priority=high|normal|low|late|retried",
        "questions that wait for a batch, the same one of several callers once; late is what can no longer meet its deadline, \
         retried what is run again after a failure";
    RUNNING = "blip_queue_running", Gauge, Count, "model", "questions of the batches that run, without those answered already";
    QUEUE_LIMIT = "blip_queue_limit_jobs", Gauge, Count, "model", "how many jobs may wait or run: blip_queue_jobs never exceeds it";
    CANARY = "blip_canary_total", Counter, Count, "model, result=passed|wrong|failed|unheard",
        "questions that the server has asked its models; unheard are those that did not reach the engine";
    DRAIN_DEADLINE = "blip_drain_deadline_timestamp_seconds", Gauge, Seconds, "",
        "when the calls that are then still in flight will be given up, in seconds since 1970; only while the server drains";
    DEVICE_MEMORY = "blip_device_memory_bytes", Gauge, Bytes, "device, held=allocated|reserved",
        "a GPU's memory in LibTorch's hands: allocated is in tensors, reserved is all that was taken from the device; none without a GPU";
    DEVICE_MEMORY_PEAK = "blip_device_memory_peak_bytes", Gauge, Bytes, "device, held=allocated|reserved",
        "the most of that since the start";
    DEVICE_MEMORY_RETRIES = "blip_device_memory_retries_total", Counter, Count, "device",
        "allocations on a GPU that found no room before LibTorch gave back what it kept unused";
    ALLOCATOR = "blip_allocator_committed_bytes", Gauge, Bytes, "",
        "what the allocator, mimalloc, has of the operating system's memory, LibTorch's tensors on the CPU among it, in use or kept for the next";
    ALLOCATOR_PEAK = "blip_allocator_committed_peak_bytes", Gauge, Bytes, "", "the most of that since the start";
    RESIDENT_PEAK = "blip_resident_memory_peak_bytes", Gauge, Bytes, "",
        "the most of process_resident_memory_bytes since the start, however short it was";
    PAGE_FAULTS = "blip_major_page_faults_total", Counter, Count, "",
        "page faults of the process that waited for a disk: weights that are mapped from files, or memory that is short";
}

/// A stage that a caller can leave in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Its image is being fetched.
    Fetch,
    /// Its image waits for a thread, or is on one.
    Preprocess,
}

/// Counts a caller's leaving, unless it is told that the stage has come to its end.
#[derive(Debug)]
pub struct Unfinished(Option<Stage>);

impl Unfinished {
    /// Now in `stage`.
    #[must_use]
    pub fn new(stage: Stage) -> Self {
        Self(Some(stage))
    }

    /// The stage is over.
    pub fn finish(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let stage = match self.0 {
            None => return,
            Some(Stage::Fetch) => "fetch",
            Some(Stage::Preprocess) => "preprocess",
        };
        counter!(LEFT, "stage" => stage).increment(1);
    }
}

/// Records that a pair was refused.
pub fn observe_refusal(refusal: &Refusal) {
    counter!(REFUSED, "reason" => refusal.reason().row().name).increment(1);
}

/// Records what the last stage of an answer took.
pub fn observe_write(took: Duration) {
    histogram!(STAGE, "stage" => "write").record(took.as_secs_f64());
}

/// Records a request that has ended with `code` after `took`.
pub(super) fn count_call(protocol: &'static str, method: &str, code: &str, took: Duration) {
    let (method, code) = (method.to_owned(), code.to_owned());
    counter!(CALLS, "protocol" => protocol, "method" => method.clone(), "code" => code).increment(1);
    histogram!(CALL_TIME, "protocol" => protocol, "method" => method).record(took.as_secs_f64());
}

/// The gauge of requests that have not ended.
pub(super) fn calls_running(protocol: &'static str) -> Gauge {
    gauge!(CALLS_RUNNING, "protocol" => protocol)
}

/// Counts a connection until the result is dropped.
#[must_use]
pub fn connection_opened() -> Open {
    let connections = gauge!(CONNECTIONS);
    connections.increment(1.0);
    Open(connections)
}

/// A connection that counts as open.
#[derive(Debug)]
pub struct Open(Gauge);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}

/// Records a connection that was closed for `reason`, one of those in the table.
pub fn connection_refused(reason: &'static str) {
    counter!(CONNECTIONS_REFUSED, "reason" => reason).increment(1);
}

/// Records what came of a question that the server has asked a model, as a label of the table.
pub fn observe_canary(model: &Arc<str>, result: &'static str) {
    counter!(CANARY, "model" => Arc::clone(model), "result" => result).increment(1);
}

/// Counts none of these results yet: of a counter that comes to be as 1, Prometheus sees no increase.
pub fn expect_canary(model: &Arc<str>, results: &[&'static str]) {
    for result in results {
        counter!(CANARY, "model" => Arc::clone(model), "result" => *result).increment(0);
    }
}

/// Says that calls still in flight after this time will be given up.
#[expect(clippy::disallowed_types, reason = "it is told in the time of the world, to those outside")]
pub fn drain_ends_within(limit: Duration) {
    let since_1970 = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    gauge!(DRAIN_DEADLINE).set(since_1970.as_secs_f64() + limit.as_secs_f64());
}

/// The gauge of readiness.
pub(super) fn ready(ready: bool) {
    gauge!(READY).set(if ready { 1.0 } else { 0.0 });
}
