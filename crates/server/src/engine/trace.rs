//! The span of a batch, created on the engine's thread.
//!
//! It is the root of a separate trace, and links to the items in the batch.

use opentelemetry::{
    KeyValue,
    trace::{Link, SpanBuilder, SpanContext},
};

use crate::telemetry::tracing::{TraceScope, sampling::BATCH_SPAN};

/// The span of a running batch.
#[derive(Debug, Default)]
pub struct BatchTrace(TraceScope);

impl BatchTrace {
    /// Begins the span of a batch of `images` and `rows`.
    ///
    /// It is recorded if any of `items` is recorded.
    pub fn begin<'a>(items: impl Iterator<Item = &'a TraceScope>, images: usize, rows: usize) -> Self {
        let mut recorded = items.filter_map(|scope| Some((scope, scope.context()?)));
        let Some((first, context)) = recorded.next() else { return Self::default() };
        let links = [context].into_iter().chain(recorded.map(|(_, context)| context));
        let mut span = SpanBuilder::from_name(BATCH_SPAN).with_attributes([
            KeyValue::new("blip.batch.images", count(images)),
            KeyValue::new("blip.batch.questions", count(rows)),
        ]);
        span.links = Some(links.map(Link::with_context).collect());
        Self(first.begin_root(span))
    }

    /// Returns the identity of the span for links from the items in the batch.
    #[must_use]
    pub fn context(&self) -> Option<SpanContext> {
        self.0.context()
    }

    /// Records the number of decode steps of the whole batch.
    pub fn decode_steps(&self, steps: u32) {
        self.0.set_attributes(|| [KeyValue::new("blip.batch.decode_steps", i64::from(steps))]);
    }

    /// Marks the whole batch as failed.
    pub fn fail(&self, kind: &'static str) {
        self.0.fail(kind);
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use opentelemetry::trace::{SpanKind, Status};

    use super::*;
    use crate::telemetry::tracing::in_memory::SpanRecorder;

    #[test]
    fn batch_is_a_root_span_with_links_to_recorded_items() {
        let recorder = SpanRecorder::new(1.0);
        let (one, other) = (recorder.request(&HeaderMap::new()), recorder.request(&HeaderMap::new()));
        let item = |request: &TraceScope| request.child("pair", SpanKind::Internal, || []);
        let items = [item(&one), TraceScope::default(), item(&other)];
        let batch = BatchTrace::begin(items.iter(), 2, 3);
        batch.decode_steps(4);
        batch.fail("out_of_memory");
        drop(batch);
        let [batch] = recorder.spans().try_into().unwrap();
        assert_eq!(batch.name, BATCH_SPAN);
        assert_ne!(Some(batch.span_context.trace_id()), one.id());
        assert_eq!(batch.status, Status::error("out_of_memory"));
        let linked: Vec<_> = batch.links.iter().map(|link| Some(link.span_context.clone())).collect();
        assert_eq!(linked, [items[0].context(), items[2].context()]);
        assert!(batch.attributes.contains(&KeyValue::new("blip.batch.decode_steps", 4)));
    }

    #[test]
    fn batch_is_recorded_if_any_of_its_items_is() {
        let recorder = SpanRecorder::new(0.0);
        let unrecorded = recorder.request(&HeaderMap::new());
        drop(BatchTrace::begin([&unrecorded].into_iter(), 1, 1));
        assert_eq!(recorder.spans().len(), 0);
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let recorded = recorder.request(&HeaderMap::from_iter([("traceparent".parse().unwrap(), parent)]));
        drop(BatchTrace::begin([&unrecorded, &recorded].into_iter(), 1, 2));
        assert_eq!(recorder.spans().len(), 1);
    }
}
