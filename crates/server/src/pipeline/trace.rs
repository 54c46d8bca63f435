//! The spans of one item, from its submission to its result.

use std::time::Duration;

use blip::RowOutput;
use opentelemetry::{KeyValue, trace::SpanKind};
use scheduler::Completion;
use tokio::time::Instant;

use crate::{
    engine::payload::EngineOutput,
    error::RequestError,
    telemetry::tracing::{Attribute, TraceScope},
};

/// The trace of an item in progress. Dropping it records that the item was cancelled.
#[derive(Debug)]
pub struct ItemTrace(Option<OpenSpan>);

#[derive(Debug)]
struct OpenSpan {
    scope: TraceScope,
    submitted: Instant,
    is_recorded: bool,
}

impl ItemTrace {
    /// Begins the span of an item that is submitted now.
    #[must_use]
    pub fn begin(request: &TraceScope, image: u32, text: u32) -> Self {
        if request.context().is_none() {
            return Self(None);
        }
        let scope = request.child("pair", SpanKind::Internal, || {
            [
                KeyValue::new("blip.image.index", i64::from(image)),
                KeyValue::new("blip.question.index", i64::from(text)),
            ]
        });
        Self(Some(OpenSpan { scope, submitted: Instant::now(), is_recorded: false }))
    }

    /// Returns the scope of the item, which its batch links to.
    #[must_use]
    pub fn scope(&self) -> TraceScope {
        self.0.as_ref().map(|open| open.scope.clone()).unwrap_or_default()
    }

    /// Records a computed result. The stages follow each other and end with the row.
    pub fn computed(mut self, done: &Completion<EngineOutput>) {
        let Some(OpenSpan { scope, submitted, is_recorded }) = &mut self.0 else { return };
        *is_recorded = true;
        let EngineOutput { answer, batch } = &done.answer;
        let no_attributes: fn() -> [Attribute; 0] = || [];
        scope.record("queue", [*submitted, *submitted + done.queue], no_attributes);
        let mut end = *submitted + done.queue + done.engine;
        for (stage, took) in [("decode", answer.decode), ("text", answer.text), ("vision", answer.vision)] {
            let Some(start) = end.checked_sub(took) else { break };
            if took > Duration::ZERO {
                scope.record(stage, [start, end], no_attributes);
            }
            end = start;
        }
        scope.set_attributes(|| {
            [
                KeyValue::new("blip.batch.images", i64::from(done.batch_images)),
                KeyValue::new("blip.batch.questions", i64::from(done.batch_questions)),
                KeyValue::new("blip.image.reused", answer.image_reused),
                KeyValue::new("blip.answer.shared", done.is_shared),
                tokens_of(&answer.output),
            ]
        });
        if let Some(batch) = batch {
            scope.link(batch);
        }
        scope.end();
    }

    /// Records a result from the answer cache, which has no stages.
    pub fn cached(mut self, output: &RowOutput) {
        if let Some(OpenSpan { scope, is_recorded, .. }) = &mut self.0 {
            *is_recorded = true;
            scope.set_attributes(|| [KeyValue::new("blip.answer.reused", true), tokens_of(output)]);
            scope.end();
        }
    }

    /// Records an error.
    pub fn failed(mut self, error: &RequestError) {
        if let Some(OpenSpan { scope, is_recorded, .. }) = &mut self.0 {
            *is_recorded = true;
            scope.fail(error.reason().spec().name);
            scope.end();
        }
    }
}

/// The number of generated tokens as an attribute.
fn tokens_of(output: &RowOutput) -> Attribute {
    KeyValue::new("blip.answer.tokens", i64::try_from(output.tokens()).unwrap_or(i64::MAX))
}

impl Drop for ItemTrace {
    fn drop(&mut self) {
        if let Some(OpenSpan { scope, is_recorded: false, .. }) = &self.0 {
            // The engine may hold the scope longer.
            scope.fail("cancelled");
            scope.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use blip::{RowAnswer, Sequence};
    use http::HeaderMap;
    use opentelemetry::trace::Status;

    use super::*;
    use crate::{engine::trace::BatchTrace, error::ErrorReason, telemetry::tracing::in_memory::SpanRecorder};

    const MS: Duration = Duration::from_millis(1);

    fn done(vision: Duration, batch: &BatchTrace) -> Completion<EngineOutput> {
        let answer = RowAnswer {
            output: Sequence { token_ids: vec![7], score: -0.5, margin: 1.0 }.into(),
            vision,
            text: 20 * MS,
            decode: 5 * MS,
            image_reused: vision.is_zero(),
        };
        let answer = EngineOutput { answer, batch: batch.context() };
        Completion {
            answer,
            queue: 40 * MS,
            engine: 60 * MS,
            batch_images: 1,
            batch_questions: 2,
            is_shared: false,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn stages_lie_between_submission_and_end_of_row() {
        let recorder = SpanRecorder::new(1.0);
        let request = recorder.request(&HeaderMap::new());
        let pair = ItemTrace::begin(&request, 0, 1);
        let batch = BatchTrace::begin([&pair.scope()].into_iter(), 1, 2);
        pair.computed(&done(30 * MS, &batch));
        let [queue, decode, text, vision, pair] = recorder.spans().try_into().unwrap();
        for (span, name, start, end) in [
            (&queue, "queue", 0, 40),
            (&vision, "vision", 45, 75),
            (&text, "text", 75, 95),
            (&decode, "decode", 95, 100),
        ] {
            assert_eq!(span.name, name);
            assert_eq!(span.start_time.duration_since(queue.start_time).unwrap(), start * MS, "{name}");
            assert_eq!(span.end_time.duration_since(queue.start_time).unwrap(), end * MS, "{name}");
            assert_eq!(span.parent_span_id, pair.span_context.span_id());
        }
        let linked: Vec<_> = pair.links.iter().map(|link| Some(link.span_context.clone())).collect();
        assert_eq!(linked, [batch.context()]);
        assert!(pair.attributes.contains(&KeyValue::new("blip.batch.questions", 2)));
    }

    #[test]
    fn cached_result_has_no_stages() {
        let recorder = SpanRecorder::new(1.0);
        let output = Sequence { token_ids: vec![7], score: -0.5, margin: 1.0 }.into();
        let request = recorder.request(&HeaderMap::new());
        ItemTrace::begin(&request, 0, 0).cached(&output);
        let [pair] = recorder.spans().try_into().unwrap();
        assert_eq!((pair.name.as_ref(), pair.status), ("pair", Status::Unset));
        assert!(pair.attributes.contains(&KeyValue::new("blip.answer.reused", true)));
    }

    #[test]
    fn cached_image_has_no_vision_stage() {
        let recorder = SpanRecorder::new(1.0);
        ItemTrace::begin(&recorder.request(&HeaderMap::new()), 0, 0)
            .computed(&done(Duration::ZERO, &BatchTrace::default()));
        assert!(recorder.spans().iter().all(|span| span.name != "vision"));
    }

    #[test]
    fn failed_or_cancelled_item_records_why() {
        let recorder = SpanRecorder::new(1.0);
        let request = recorder.request(&HeaderMap::new());
        ItemTrace::begin(&request, 0, 0).failed(&RequestError::new(ErrorReason::QueueFull));
        let left = ItemTrace::begin(&request, 0, 1);
        // The queue holds the scope.
        let _queued = left.scope();
        drop(left);
        let statuses: Vec<_> = recorder.spans().into_iter().map(|span| span.status).collect();
        assert_eq!(statuses, [Status::error("QUEUE_FULL"), Status::error("cancelled")]);
    }
}
