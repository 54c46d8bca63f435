//! Which requests are recorded: those whose callers record theirs, and of the others a part.

use opentelemetry::{
    Context, KeyValue, TraceId,
    trace::{Link, SpanKind},
};
use opentelemetry_sdk::trace::{Sampler, SamplingResult, ShouldSample};

use super::batch::BATCH;

/// The choice of requests. A batch is recorded if any request in it is; whoever begins its span has seen to that.
#[derive(Clone, Debug)]
pub(super) struct Sampling(Sampler);

impl Sampling {
    /// Records this part, 0 to 1, of the requests whose callers say nothing about it.
    pub(super) fn new(ratio: f64) -> Self {
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
        let sampler = if name == BATCH { &Sampler::AlwaysOn } else { &self.0 };
        sampler.should_sample(parent, trace_id, name, kind, attributes, links)
    }
}
