//! The span of a batch, on the engine's thread: a trace of its own that links every recorded question in it.

use opentelemetry::{
    KeyValue,
    trace::{Link, SpanBuilder, SpanContext},
};

use super::TraceScope;

/// What the span of a batch is called.
pub(super) const BATCH: &str = "batch";

/// A batch that runs.
#[derive(Debug, Default)]
pub struct BatchTrace(TraceScope);

impl BatchTrace {
    /// The batch of `questions`, by the spans of their pairs. It is recorded if any of them is.
    pub fn begin<'a>(questions: impl Iterator<Item = &'a TraceScope>, images: usize, rows: usize) -> Self {
        let mut recorded = questions.filter_map(|scope| Some((scope, scope.context()?)));
        let Some((first, context)) = recorded.next() else { return Self::default() };
        let links = [context].into_iter().chain(recorded.map(|(_, context)| context));
        let mut span = SpanBuilder::from_name(BATCH).with_attributes([
            KeyValue::new("blip.batch.images", count(images)),
            KeyValue::new("blip.batch.questions", count(rows)),
        ]);
        span.links = Some(links.map(Link::with_context).collect());
        Self(first.begin_beside(span))
    }

    /// What names the batch to the pairs in it.
    #[must_use]
    pub fn context(&self) -> Option<SpanContext> {
        self.0.context()
    }

    /// How many steps all of its answers took together.
    pub fn decode_steps(&self, steps: u32) {
        self.0.say(|| [KeyValue::new("blip.batch.decode_steps", i64::from(steps))]);
    }

    /// It has failed as a whole.
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

    use super::{super::recorded::Recorder, *};

    #[test]
    fn a_batch_is_a_trace_of_its_own_that_links_each_recorded_question() {
        let recorder = Recorder::new(1.0);
        let (one, other) = (recorder.request(&HeaderMap::new()), recorder.request(&HeaderMap::new()));
        let pair = |request: &TraceScope| request.child("pair", SpanKind::Internal, || []);
        let pairs = [pair(&one), TraceScope::default(), pair(&other)];
        let batch = BatchTrace::begin(pairs.iter(), 2, 3);
        batch.decode_steps(4);
        batch.fail("out_of_memory");
        drop(batch);
        let [batch] = recorder.spans().try_into().unwrap();
        assert_eq!(batch.name, BATCH);
        assert_ne!(Some(batch.span_context.trace_id()), one.id());
        assert_eq!(batch.status, Status::error("out_of_memory"));
        let linked: Vec<_> = batch.links.iter().map(|link| Some(link.span_context.clone())).collect();
        assert_eq!(linked, [pairs[0].context(), pairs[2].context()]);
        assert!(batch.attributes.contains(&KeyValue::new("blip.batch.decode_steps", 4)));
    }

    #[test]
    fn a_batch_is_recorded_if_any_question_in_it_is_and_not_otherwise() {
        let recorder = Recorder::new(0.0);
        let silent = recorder.request(&HeaderMap::new());
        drop(BatchTrace::begin([&silent].into_iter(), 1, 1));
        assert_eq!(recorder.spans().len(), 0);
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap();
        let loud = recorder.request(&HeaderMap::from_iter([("traceparent".parse().unwrap(), parent)]));
        drop(BatchTrace::begin([&silent, &loud].into_iter(), 1, 2));
        assert_eq!(recorder.spans().len(), 1);
    }
}
