//! The last stage of an answer: from the engine, which has it ready, to the HTTP layer, which takes it.
//!
//! HTTP takes one piece of a response ahead, and asks for the next when the caller lets it send that (HTTP/2's flow control, a
//! socket's buffer). So the wait of later answers for a caller who reads slowly is in this stage, and so is that for other
//! answers that have to go out first; what HTTP has taken and the network has not is not in it.

use futures::{StreamExt as _, future, stream};
use opentelemetry::KeyValue;
use tokio::time::Instant;

use crate::{
    frontend::{Outcome, Outcomes},
    monitor,
    telemetry::trace::TraceScope,
};

/// An answer that is ready and has not been taken.
#[derive(Clone, Debug)]
pub struct Unwritten {
    ready: Instant,
    place: [u32; 2],
    trace: TraceScope,
}

impl Unwritten {
    /// The answer in `outcome`, if that is one, of the request whose span is `trace`.
    #[must_use]
    pub fn of(outcome: &Outcome, trace: &TraceScope) -> Option<Self> {
        let &Outcome { image_index, question_index, ready, .. } = outcome;
        Some(Self { ready: ready?, place: [image_index, question_index], trace: trace.clone() })
    }

    /// It is taken now.
    pub fn written(self) {
        let (Self { ready, place: [image, question], trace }, now) = (self, Instant::now());
        monitor::observe_write(now.saturating_duration_since(ready));
        // Of an answer that others had asked for first, the time may be told as a little later than it was.
        trace.record("write", [ready.min(now), now], || {
            [("blip.image.index", image), ("blip.question.index", question)]
                .map(|(key, index)| KeyValue::new(key, i64::from(index)))
        });
    }
}

/// A message on its way out.
#[derive(Debug)]
pub struct Outgoing<T> {
    message: T,
    answer: Option<Unwritten>,
}

impl<T> Outgoing<T> {
    /// A message, which tells of this answer.
    pub fn new(message: T, answer: Option<Unwritten>) -> Self {
        Self { message, answer }
    }

    /// The message, for the HTTP layer that has asked for it.
    pub fn take(self) -> T {
        if let Some(answer) = self.answer {
            answer.written();
        }
        self.message
    }
}

/// The same outcomes, of a request whose response goes out as a whole when all of them are there: only then are its answers
/// written.
#[must_use]
pub fn written_together(outcomes: Outcomes, trace: TraceScope) -> Outcomes {
    let mut answers = Vec::new();
    let outcomes = outcomes.map(Some).chain(stream::iter([None]));
    let passed_on = outcomes.filter_map(move |outcome| {
        match &outcome {
            Some(Ok(outcome)) => answers.extend(Unwritten::of(outcome, &trace)),
            Some(Err(_)) => {}
            None => answers.drain(..).for_each(Unwritten::written),
        }
        future::ready(outcome)
    });
    passed_on.boxed()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::HeaderMap;

    use super::*;
    use crate::{proto::Answer, reply::Reply, telemetry::trace::Recorder};

    const SECOND: Duration = Duration::from_secs(1);

    fn outcome(question_index: u32, ready: Option<Instant>) -> Outcome {
        Outcome { image_index: 0, question_index, ready, reply: Ok(Reply::Answer(Answer::default())) }
    }

    /// Seconds of each `write` span, by question.
    fn written(recorder: &Recorder) -> Vec<(i64, u64)> {
        let spans = recorder.spans().into_iter().filter(|span| span.name == "write");
        let spans = spans.map(|span| {
            let question = |attribute: &&KeyValue| attribute.key.as_str() == "blip.question.index";
            let question = span.attributes.iter().find(question).unwrap().value.as_str().parse().unwrap();
            (question, span.end_time.duration_since(span.start_time).unwrap().as_secs())
        });
        spans.collect()
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_is_written_when_its_message_is_taken() {
        let recorder = Recorder::new(1.0);
        let request = recorder.request(&HeaderMap::new());
        let outcome = outcome(3, Some(Instant::now()));
        let outgoing = Outgoing::new("message", Unwritten::of(&outcome, &request));
        tokio::time::advance(5 * SECOND).await;
        assert_eq!(written(&recorder), []);
        assert_eq!(outgoing.take(), "message");
        assert_eq!(written(&recorder), [(3, 5)]);
    }

    #[tokio::test(start_paused = true)]
    async fn answers_of_one_body_are_written_when_the_last_of_them_is_there() {
        let recorder = Recorder::new(1.0);
        let (begin, request) = (Instant::now(), recorder.request(&HeaderMap::new()));
        let both = [outcome(0, Some(begin)), outcome(1, Some(begin + 2 * SECOND)), outcome(2, None)];
        let mut outcomes = written_together(stream::iter(both.map(Ok)).boxed(), request);
        for _ in 0..3 {
            assert!(outcomes.next().await.is_some());
        }
        tokio::time::advance(7 * SECOND).await;
        assert_eq!(written(&recorder), []);
        assert!(outcomes.next().await.is_none());
        assert_eq!(written(&recorder), [(0, 7), (1, 5)]);
    }
}
