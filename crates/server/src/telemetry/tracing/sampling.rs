//! Samples requests: those that their clients record, and a fraction of the others.

use opentelemetry::{
    Context, KeyValue, TraceId,
    trace::{Link, SpanKind},
};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

/// The name of the span of a batch.
pub(crate) const BATCH_SPAN: &str = "batch";

/// The sampler of requests.
///
/// It records every batch span, because a batch begins one only if any of its items is recorded.
#[derive(Clone, Debug)]
pub(crate) struct Sampling(Sampler);

impl Sampling {
    /// Creates a sampler that records the requests that their clients record.
    ///
    /// It also records the fraction `ratio`, from 0 to 1, of the requests without a decision of the
    /// client.
    pub(crate) fn new(ratio: f64) -> Self {
        Self(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(ratio))))
    }
}

impl ShouldSample for Sampling {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        let sampler = if name == BATCH_SPAN { &Sampler::AlwaysOn } else { &self.0 };
        sampler.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}
