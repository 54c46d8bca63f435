//! The spans of one (image, question) pair, from its place in the queue to its answer.

use std::time::Duration;

use blip::RowOutput;
use opentelemetry::{KeyValue, trace::SpanKind};
use scheduler::Done;
use tokio::time::Instant;

use super::{Attribute, TraceScope};
use crate::{errors::Refusal, row::AnswerRow};

/// A pair on its way. One that is dropped on it has been cancelled.
#[derive(Debug)]
pub struct PairTrace(Option<Waiting>);

#[derive(Debug)]
struct Waiting {
    scope: TraceScope,
    submitted: Instant,
    told: bool,
}

impl PairTrace {
    /// A pair of a request, by its positions in it, that is submitted now.
    #[must_use]
    pub fn begin(request: &TraceScope, image: u32, question: u32) -> Self {
        if request.context().is_none() {
            return Self(None);
        }
        let scope = request.child("pair", SpanKind::Internal, || {
            [
                KeyValue::new("blip.image.index", i64::from(image)),
                KeyValue::new("blip.question.index", i64::from(question)),
            ]
        });
        Self(Some(Waiting { scope, submitted: Instant::now(), told: false }))
    }

    /// For the batch that it will be in.
    #[must_use]
    pub fn scope(&self) -> TraceScope {
        self.0.as_ref().map(|waiting| waiting.scope.clone()).unwrap_or_default()
    }

    /// It has been answered: its stages lie one after another, and end with its row.
    pub fn answered(mut self, done: &Done<AnswerRow>) {
        let Some(Waiting { scope, submitted, told }) = &mut self.0 else { return };
        *told = true;
        let AnswerRow { answer, batch } = &done.answer;
        let no_more: fn() -> [Attribute; 0] = || [];
        scope.record("queue", [*submitted, *submitted + done.queue], no_more);
        let mut end = *submitted + done.queue + done.engine;
        for (stage, took) in [("decode", answer.decode), ("text", answer.text), ("vision", answer.vision)] {
            let Some(start) = end.checked_sub(took) else { break };
            if took > Duration::ZERO {
                scope.record(stage, [start, end], no_more);
            }
            end = start;
        }
        scope.say(|| {
            [
                KeyValue::new("blip.batch.images", i64::from(done.batch_images)),
                KeyValue::new("blip.batch.questions", i64::from(done.batch_questions)),
                KeyValue::new("blip.image.reused", answer.image_reused),
                KeyValue::new("blip.answer.shared", done.shared),
                tokens_of(&answer.output),
            ]
        });
        if let Some(batch) = batch {
            scope.link(batch);
        }
        scope.end();
    }

    /// It has been answered with what an earlier request was answered with: it has had no stages.
    pub fn answered_before(mut self, output: &RowOutput) {
        if let Some(Waiting { scope, told, .. }) = &mut self.0 {
            *told = true;
            scope.say(|| [KeyValue::new("blip.answer.reused", true), tokens_of(output)]);
            scope.end();
        }
    }

    /// It has not been answered.
    pub fn refused(mut self, refusal: &Refusal) {
        if let Some(Waiting { scope, told, .. }) = &mut self.0 {
            *told = true;
            scope.fail(refusal.reason().row().name);
            scope.end();
        }
    }
}

/// How many tokens were written, as an attribute.
fn tokens_of(output: &RowOutput) -> Attribute {
    KeyValue::new("blip.answer.tokens", i64::try_from(output.tokens()).unwrap_or(i64::MAX))
}

impl Drop for PairTrace {
    fn drop(&mut self) {
        if let Some(Waiting { scope, told: false, .. }) = &self.0 {
            // The engine may hold the scope for a while yet.
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

    use super::{super::recorded::Recorder, *};
    use crate::{errors::Reason, telemetry::trace::BatchTrace};

    const MS: Duration = Duration::from_millis(1);

    fn done(vision: Duration, batch: &BatchTrace) -> Done<AnswerRow> {
        let answer = RowAnswer {
            output: Sequence { token_ids: vec![7], score: -0.5, margin: 1.0 }.into(),
            vision,
            text: 20 * MS,
            decode: 5 * MS,
            image_reused: vision.is_zero(),
        };
        let answer = AnswerRow { answer, batch: batch.context() };
        Done { answer, queue: 40 * MS, engine: 60 * MS, batch_images: 1, batch_questions: 2, shared: false }
    }

    #[tokio::test(start_paused = true)]
    async fn the_stages_of_an_answer_lie_between_its_submission_and_its_rows_end() {
        let recorder = Recorder::new(1.0);
        let request = recorder.request(&HeaderMap::new());
        let pair = PairTrace::begin(&request, 0, 1);
        let batch = BatchTrace::begin([&pair.scope()].into_iter(), 1, 2);
        pair.answered(&done(30 * MS, &batch));
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
    fn an_answer_that_was_kept_has_no_stages_and_says_so() {
        let recorder = Recorder::new(1.0);
        let output = Sequence { token_ids: vec![7], score: -0.5, margin: 1.0 }.into();
        let request = recorder.request(&HeaderMap::new());
        PairTrace::begin(&request, 0, 0).answered_before(&output);
        let [pair] = recorder.spans().try_into().unwrap();
        assert_eq!((pair.name.as_ref(), pair.status), ("pair", Status::Unset));
        assert!(pair.attributes.contains(&KeyValue::new("blip.answer.reused", true)));
    }

    #[test]
    fn an_image_that_was_seen_has_no_vision_stage() {
        let recorder = Recorder::new(1.0);
        PairTrace::begin(&recorder.request(&HeaderMap::new()), 0, 0)
            .answered(&done(Duration::ZERO, &BatchTrace::default()));
        assert!(recorder.spans().iter().all(|span| span.name != "vision"));
    }

    #[test]
    fn a_pair_that_was_refused_or_left_says_why() {
        let recorder = Recorder::new(1.0);
        let request = recorder.request(&HeaderMap::new());
        PairTrace::begin(&request, 0, 0).refused(&Refusal::new(Reason::QueueFull));
        let left = PairTrace::begin(&request, 0, 1);
        // As the queue has it.
        let _held = left.scope();
        drop(left);
        let told: Vec<_> = recorder.spans().into_iter().map(|span| span.status).collect();
        assert_eq!(told, [Status::error("QUEUE_FULL"), Status::error("cancelled")]);
    }
}
