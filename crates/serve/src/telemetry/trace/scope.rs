//! A place in a trace that spans are hung below.

use std::sync::Arc;

use http::HeaderMap;
use opentelemetry::{
    Context, KeyValue, TraceId,
    trace::{SpanBuilder, SpanContext, SpanKind, Status, TraceContextExt as _, Tracer as _},
};
use opentelemetry_sdk::trace::SdkTracer;
use tokio::time::Instant;

use super::{clock::Clock, propagation::inject};

/// What a span says of itself.
pub type Attribute = KeyValue;

/// A span that is open, and whatever is to come below it. Clones share it; the last one to go ends it.
#[derive(Clone, Debug, Default)]
pub struct TraceScope(Option<Arc<Open>>);

#[derive(Debug)]
struct Open {
    /// The span; one that is not recorded is passed on all the same.
    context: Context,
    clock: Clock,
    tracer: SdkTracer,
    propagate: bool,
}

impl TraceScope {
    /// Opens the span of a request, below the span of its caller in `parent`. With `propagate`, those whom images are
    /// fetched from are told of the trace.
    pub(super) fn begin(tracer: &SdkTracer, propagate: bool, span: SpanBuilder, parent: &Context) -> Self {
        let context = parent.with_span(tracer.build_with_context(span, parent));
        Self(Some(Arc::new(Open { context, clock: Clock::now(), tracer: tracer.clone(), propagate })))
    }

    /// Opens a span that is below none, for work that this and others share.
    pub(super) fn begin_beside(&self, span: SpanBuilder) -> Self {
        let Some(open) = &self.0 else { return Self::default() };
        Self::begin(&open.tracer, open.propagate, span, &Context::new())
    }

    /// Whether the request belongs to a trace.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    fn recorded(&self) -> Option<&Open> {
        self.0.as_deref().filter(|open| open.context.span().span_context().is_sampled())
    }

    /// The trace.
    #[must_use]
    pub fn id(&self) -> Option<TraceId> {
        self.0.as_ref().map(|open| open.context.span().span_context().trace_id())
    }

    /// What names the span to others, if it is recorded.
    #[must_use]
    pub fn context(&self) -> Option<SpanContext> {
        self.recorded().map(|open| open.context.span().span_context().clone())
    }

    /// Opens a span below this one. Below one that is not recorded, none is.
    #[must_use]
    pub fn child<A: IntoIterator<Item = Attribute>>(
        &self,
        name: &'static str,
        kind: SpanKind,
        attributes: impl FnOnce() -> A,
    ) -> Self {
        let Some(open) = self.recorded() else { return self.clone() };
        let span = SpanBuilder::from_name(name).with_kind(kind).with_attributes(attributes());
        Self::begin(&open.tracer, open.propagate, span, &open.context)
    }

    /// Puts a span below this one that is over already; gives it for what is below it in turn.
    pub fn record<A: IntoIterator<Item = Attribute>>(
        &self,
        name: &'static str,
        [start, end]: [Instant; 2],
        attributes: impl FnOnce() -> A,
    ) -> Self {
        let Some(open) = self.recorded() else { return self.clone() };
        let span =
            SpanBuilder::from_name(name).with_start_time(open.clock.at(start)).with_attributes(attributes());
        let context = open.context.with_span(open.tracer.build_with_context(span, &open.context));
        context.span().end_with_timestamp(open.clock.at(end));
        let Open { clock, tracer, propagate, .. } = open;
        Self(Some(Arc::new(Open { context, clock: *clock, tracer: tracer.clone(), propagate: *propagate })))
    }

    /// Has the span say more of itself.
    pub fn say<A: IntoIterator<Item = Attribute>>(&self, attributes: impl FnOnce() -> A) {
        if let Some(open) = self.recorded() {
            open.context.span().set_attributes(attributes());
        }
    }

    /// Says that what the span stands for has failed, for a reason out of a bounded set.
    pub fn fail(&self, reason: &'static str) {
        if let Some(open) = self.recorded() {
            open.context.span().set_attribute(KeyValue::new("error.type", reason));
            open.context.span().set_status(Status::error(reason));
        }
    }

    /// Names a span that has to do with this one.
    pub fn link(&self, other: &SpanContext) {
        if let Some(open) = self.recorded() {
            open.context.span().add_link(other.clone(), Vec::new());
        }
    }

    /// Ends the span now; what is below it may still go on.
    pub fn end(&self) {
        if let Some(open) = self.recorded() {
            open.context.span().end();
        }
    }

    /// Headers that tell somebody else's server of the trace; none where that is not wanted.
    #[must_use]
    pub fn headers(&self) -> HeaderMap {
        match &self.0 {
            Some(open) if open.propagate => inject(&open.context),
            _ => HeaderMap::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{super::recorded::Recorder, *};

    fn no_attributes() -> [Attribute; 0] {
        []
    }

    #[tokio::test(start_paused = true)]
    async fn a_span_that_is_over_already_lies_below_its_parent_at_its_own_time() {
        let recorder = Recorder::new(1.0);
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
    fn of_a_request_that_is_not_recorded_nothing_is_but_the_trace_goes_on() {
        let recorder = Recorder::new(0.0);
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
    fn a_caller_who_records_is_recorded_whatever_the_ratio() {
        let recorder = Recorder::new(0.0);
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), parent.parse().unwrap())]);
        drop(recorder.request(&headers));
        let [server] = recorder.spans().try_into().unwrap();
        assert_eq!(server.span_context.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(server.parent_span_id.to_string(), "00f067aa0ba902b7");
        assert!(server.parent_span_is_remote);
    }

    #[test]
    fn without_a_collector_there_is_nothing() {
        let off = TraceScope::default();
        let unwanted = || -> [Attribute; 0] { panic!("nobody wants to know") };
        off.say(unwanted);
        off.record("queue", [Instant::now(); 2], unwanted);
        let child = off.child("fetch", SpanKind::Client, unwanted);
        assert!(!child.is_on() && child.headers().is_empty() && child.id().is_none());
    }
}
