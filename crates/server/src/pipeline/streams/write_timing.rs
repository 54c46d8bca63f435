//! Measures the last stage of a result: from the engine to the HTTP layer.
//!
//! The HTTP layer takes one message ahead and asks for the next when flow control lets it send. The
//! stage therefore includes the wait for a client that reads slowly and for results that are sent
//! first. It excludes the time between the HTTP layer and the network.

use futures::{StreamExt as _, future, stream};
use opentelemetry::KeyValue;
use tokio::time::Instant;

use crate::{
    pipeline::item_result::{ItemResult, ItemResults},
    telemetry::{metrics, tracing::TraceScope},
};

/// A result that is ready and that the HTTP layer has not taken.
#[derive(Clone, Debug)]
pub struct PendingWrite {
    ready: Instant,
    position: [u32; 2],
    trace: TraceScope,
}

impl PendingWrite {
    /// Returns the pending write of `result`, or `None` for a chunk or an error. `trace` is the
    /// span of the request.
    #[must_use]
    pub fn of(result: &ItemResult, trace: &TraceScope) -> Option<Self> {
        let &ItemResult { image_index, text_index, ready, .. } = result;
        Some(Self { ready: ready?, position: [image_index, text_index], trace: trace.clone() })
    }

    /// Records that the HTTP layer takes the result now.
    pub fn written(self) {
        let (Self { ready, position: [image, question], trace }, now) = (self, Instant::now());
        metrics::record_write_time(now.saturating_duration_since(ready));
        // The time of a result that other requests share can be reported slightly late.
        trace.record("write", [ready.min(now), now], || {
            [("blip.image.index", image), ("blip.question.index", question)]
                .map(|(key, index)| KeyValue::new(key, i64::from(index)))
        });
    }
}

/// A response message whose write time is measured.
#[derive(Debug)]
pub struct TimedMessage<T> {
    message: T,
    pending: Option<PendingWrite>,
}

impl<T> TimedMessage<T> {
    /// Creates a message that contains the result of `pending`.
    pub fn new(message: T, pending: Option<PendingWrite>) -> Self {
        Self { message, pending }
    }

    /// Returns the message to the HTTP layer and records the write.
    pub fn take(self) -> T {
        if let Some(pending) = self.pending {
            pending.written();
        }
        self.message
    }
}

/// Records the writes of a response that is sent as a whole: all its results are written when the
/// last one is ready.
#[must_use]
pub fn record_writes_at_end(results: ItemResults, trace: TraceScope) -> ItemResults {
    let mut pending = Vec::new();
    let results = results.map(Some).chain(stream::iter([None]));
    let passed_on = results.filter_map(move |result| {
        match &result {
            Some(Ok(result)) => pending.extend(PendingWrite::of(result, &trace)),
            Some(Err(_)) => {}
            None => pending.drain(..).for_each(PendingWrite::written),
        }
        future::ready(result)
    });
    passed_on.boxed()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::*;
    use crate::{
        pipeline::reply::{Answer, Reply},
        telemetry::tracing::SpanRecorder,
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn result(text_index: u32, ready: Option<Instant>) -> ItemResult {
        ItemResult { image_index: 0, text_index, ready, reply: Ok(Reply::Answer(Answer::default())) }
    }

    /// The position of the text and the seconds of each `write` span.
    fn written(recorder: &SpanRecorder) -> Vec<(i64, u64)> {
        let spans = recorder.spans().into_iter().filter(|span| span.name == "write");
        let spans = spans.map(|span| {
            let question = |attribute: &&KeyValue| attribute.key.as_str() == "blip.question.index";
            let question = span.attributes.iter().find(question).unwrap().value.as_str().parse().unwrap();
            (question, span.end_time.duration_since(span.start_time).unwrap().as_secs())
        });
        spans.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn result_is_written_when_its_message_is_taken() {
        let recorder = SpanRecorder::new(1.0);
        let request = recorder.request(&HeaderMap::new());
        let result = result(3, Some(Instant::now()));
        let outgoing = TimedMessage::new("message", PendingWrite::of(&result, &request));
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(written(&recorder), []);
        assert_eq!(outgoing.take(), "message");
        assert_eq!(written(&recorder), [(3, 5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn results_of_one_body_are_written_at_its_end() {
        let recorder = SpanRecorder::new(1.0);
        let (begin, request) = (Instant::now(), recorder.request(&HeaderMap::new()));
        let both = [result(0, Some(begin)), result(1, Some(begin + 2 * SECOND)), result(2, None)];
        let mut results = record_writes_at_end(stream::iter(both.map(Ok)).boxed(), request);
        for _ in 0..3 {
            assert!(results.next().await.is_some());
        }
        tokio::time::advance(7 * SECOND).await;
        assert_eq!(written(&recorder), []);
        assert!(results.next().await.is_none());
        assert_eq!(written(&recorder), [(0, 7), (1, 5)]);
    }
}
