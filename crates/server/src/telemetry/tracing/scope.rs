//! An open span in a trace, below which other spans begin.

use std::sync::Arc;

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue, TraceId,
    trace::{SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::trace::SdkTracer;
use tokio::time::Instant;

use crate::telemetry::tracing::{clock::Clock, propagation::inject};

/// A key and a value of a span.
pub type Attribute = KeyValue;

/// An open span. Clones share it. The span ends when the last clone is dropped.
///
/// The default scope is off: it ignores every call.
#[derive(Clone, Debug, Default)]
pub struct TraceScope(Option<Arc<Inner>>);

#[derive(Debug)]
struct Inner {
    /// The span. It is propagated even if it is not recorded.
    context: Context,
    clock: Clock,
    tracer: SdkTracer,
    propagate: bool,
}

impl TraceScope {
    /// Begins a span below the one in `parent`.
    ///
    /// With `propagate`, requests for images carry the trace context.
    pub(crate) fn begin(tracer: &SdkTracer, propagate: bool, span: SpanBuilder, parent: &Context) -> Self {
        let context = parent.with_span(tracer.build_with_context(span, parent));
        Self(Some(Arc::new(Inner { context, clock: Clock::now(), tracer: tracer.clone(), propagate })))
    }

    /// Begins the root span of a separate trace, for work that several requests share.
    pub(crate) fn begin_root(&self, span: SpanBuilder) -> Self {
        let Some(inner) = &self.0 else { return Self::default() };
        Self::begin(&inner.tracer, inner.propagate, span, &Context::new())
    }

    /// Returns whether the request is part of a trace.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn recorded(&self) -> Option<&Inner> {
        self.0.as_deref().filter(|inner| inner.context.span().span_context().is_sampled())
    }

    /// Returns the id of the trace.
    #[must_use]
    pub fn id(&self) -> Option<TraceId> {
        self.0.as_ref().map(|inner| inner.context.span().span_context().trace_id())
    }

    /// Returns the identity of the span for links, if the span is recorded.
    #[must_use]
    pub fn context(&self) -> Option<SpanContext> {
        self.recorded().map(|inner| inner.context.span().span_context().clone())
    }

    /// Begins a span below this one.
    ///
    /// Below a span that is not recorded, returns a clone of this scope.
    #[must_use]
    pub fn child<A: IntoIterator<Item = Attribute>>(
        &self,
        name: &'static str,
        kind: SpanKind,
        attributes: impl FnOnce() -> A,
    ) -> Self {
        let Some(inner) = self.recorded() else { return self.clone() };
        let span = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes());
        Self::begin(&inner.tracer, inner.propagate, span, &inner.context)
    }

    /// Adds a completed span below this one. Returns it as a parent for further completed spans.
    pub fn record<A: IntoIterator<Item = Attribute>>(
        &self,
        name: &'static str,
        [start, end]: [Instant; 2],
        attributes: impl FnOnce() -> A,
    ) -> Self {
        let Some(inner) = self.recorded() else { return self.clone() };
        let span =
            SpanBuilder::from_name(name).with_start_time(inner.clock.at(start)).with_attributes(attributes());
        let context = inner.context.with_span(inner.tracer.build_with_context(span, &inner.context));
        context.span().end_with_timestamp(inner.clock.at(end));
        let Inner { clock, tracer, propagate, .. } = inner;
        Self(Some(Arc::new(Inner { context, clock: *clock, tracer: tracer.clone(), propagate: *propagate })))
    }

    /// Adds attributes to the span.
    pub fn set_attributes<A: IntoIterator<Item = Attribute>>(&self, attributes: impl FnOnce() -> A) {
        if let Some(inner) = self.recorded() {
            inner.context.span().set_attributes(attributes());
        }
    }

    /// Marks the work of the span as failed. The set of reasons is bounded.
    pub fn fail(&self, reason: &'static str) {
        if let Some(inner) = self.recorded() {
            inner.context.span().set_attribute(KeyValue::new("error.type", reason));
            inner.context.span().set_status(Status::error(reason));
        }
    }

    /// Links to a related span.
    pub fn link(&self, other: &SpanContext) {
        if let Some(inner) = self.recorded() {
            inner.context.span().add_link(other.clone(), Vec::new());
        }
    }

    /// Ends the span now. Spans below it may continue.
    pub fn end(&self) {
        if let Some(inner) = self.recorded() {
            inner.context.span().end();
        }
    }

    /// Returns the headers that carry the trace context to another server.
    ///
    /// Empty without propagation.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        match &self.0 {
            Some(inner) if inner.propagate => inject(&inner.context),
            _ => HeaderMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::tracing::in_memory::SpanRecorder;

    fn no_attributes() -> [Attribute; 0] {
        []
    }

    #[tokio::test(start_paused = true)]
    async fn completed_span_has_its_parent_and_its_times() {
        let recorder = SpanRecorder::new(1.0);
        let request = recorder.request(&HeaderMap::new());
        let start = Instant::now() + Duration::from_millis(10);
        request.record("queue", [start, start + Duration::from_millis(30)], no_attributes);
        drop(request);
        let [queue, server] = recorder.spans().try_into().unwrap();
        assert_eq!((&*queue.name, queue.parent_span_id), ("queue", server.span_context.span_id()));
        assert_eq!(queue.end_time.duration_since(queue.start_time).unwrap(), Duration::from_millis(30));
        assert_eq!(queue.span_context.trace_id(), server.span_context.trace_id());
    }

    #[test]
    fn unrecorded_request_still_propagates_its_trace() {
        let recorder = SpanRecorder::new(0.0);
        let request = recorder.request(&HeaderMap::new());
        let fetch = request.child("fetch", SpanKind::Client, no_attributes);
        fetch.fail("URL_TIMEOUT");
        assert_eq!(fetch.context(), None);
        let parent = fetch.headers()["traceparent"].to_str().unwrap().to_owned();
        assert!(parent.contains(&request.id().unwrap().to_string()) && parent.ends_with("-00"), "{parent}");
        drop((request, fetch));
        assert_eq!(recorder.spans().len(), 0);
    }

    #[test]
    fn request_recorded_by_the_client_is_always_recorded() {
        let recorder = SpanRecorder::new(0.0);
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), parent.parse().unwrap())]);
        drop(recorder.request(&headers));
        let [server] = recorder.spans().try_into().unwrap();
        assert_eq!(server.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(server.parent_span_id.to_string(), "00f067aa0ba902b7");
        assert!(server.parent_span_is_remote);
    }

    #[test]
    fn scope_without_a_collector_does_nothing() {
        let off = TraceScope::default();
        let unused = || -> [Attribute; 0] { panic!("attributes of a scope that is off") };
        off.set_attributes(unused);
        off.record("queue", [Instant::now(); 2], unused);
        let child = off.child("fetch", SpanKind::Client, unused);
        assert!(!child.is_on() && child.headers().is_empty() && child.id().is_none());
    }
}
