//! Answers as server-sent events: each as soon as it is ready, and an event for the end.

use std::time::Duration;

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::{StreamExt as _, stream};
use http::{HeaderMap, HeaderValue, header};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    http::{
        inference::{
            ask_response::{Details, Failure},
            score_responses::{MatchResult, Vector},
        },
        problem::Problem,
    },
    pipeline::{
        item_result::{ItemResult, ItemResults},
        reply::Reply,
        streams::write_timing::PendingWrite,
    },
    telemetry::tracing::TraceScope,
};

/// The media type of server-sent events.
pub(crate) const EVENT_STREAM: &str = "text/event-stream";

/// How long nothing may be sent, so that nothing between here and the caller takes the connection for dead.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// One server-sent event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "it is there to be described; events are written field by field")]
pub(crate) struct ServerSentEvent {
    /// `answer` for each item, `piece` for each piece of a caption before that, `end` at last; or `error`, if the server
    /// itself fails.
    #[schema(example = "answer")]
    event: String,
    /// JSON: an `AnswerEvent`, a `PieceEvent`, an `EndEvent`, or a `Problem`.
    #[schema(
        content_media_type = "application/json",
        example = r#"{"image":0,"question":0,"answer":"yes"}"#
    )]
    data: String,
}

/// The data of an event `answer`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct AnswerEvent {
    /// Position of the image in the request, from 0.
    image: u32,
    /// Position of the text among those about the image, from 0.
    question: u32,
    /// The model's words; `null` for an item that failed, or of which no words are wanted.
    answer: Option<String>,
    /// How well text and image fit, where that is asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scores: Option<MatchResult>,
    /// The vector, where that is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    embedding: Option<Vector>,
    /// Scores and timings, where `details` were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    details: Option<Details>,
    /// Why the item failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<Failure>,
}

/// The data of an event `piece`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PieceEvent {
    /// Position of the image in the request, from 0.
    image: u32,
    /// Position of the text among those about the image, from 0.
    question: u32,
    /// What has been written since the last piece.
    piece: String,
}

/// The data of the last event, `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct EndEvent {
    /// Items that were answered.
    answers: u64,
    /// Items that failed.
    errors: u64,
}

/// Whether a request's `Accept` header names server-sent events.
pub(crate) fn accepts_events(headers: &HeaderMap) -> bool {
    let named = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    named.flat_map(|value| value.split(',')).any(|range| {
        let media_type = range.split(';').next().unwrap_or_default();
        media_type.trim().eq_ignore_ascii_case(EVENT_STREAM)
    })
}

/// All `results` as events. The connection drives them: a caller who does not read holds back only his own.
/// `trace` is the span of the request.
pub(crate) fn events(results: ItemResults, details: bool, trace: TraceScope) -> Response {
    let mut end = EndEvent::default();
    let events = results.map(Some).chain(stream::iter([None])).map(move |result| match result {
        Some(Ok(ItemResult {
            image_index: image,
            text_index: question,
            reply: Ok(Reply::Chunk(chunk)),
            ..
        })) => {
            let piece = PieceEvent { image, question, piece: chunk.text };
            Event::default().event("piece").json_data(piece)
        }
        Some(Ok(result)) => {
            if let Some(write) = PendingWrite::of(&result, &trace) {
                write.written();
            }
            Event::default().event("answer").json_data(end.count(result, details))
        }
        Some(Err(refusal)) => Event::default().event("error").json_data(Problem::from(&refusal)),
        None => Event::default().event("end").json_data(end),
    });
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies that gather responses would undo it all.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl EndEvent {
    fn count(&mut self, result: ItemResult, details: bool) -> AnswerEvent {
        let ItemResult { image_index: image, text_index: question, reply, .. } = result;
        let event = AnswerEvent { image, question, ..AnswerEvent::default() };
        self.answers += u64::from(reply.is_ok());
        self.errors += u64::from(reply.is_err());
        match reply {
            Ok(Reply::Match(scores)) => {
                AnswerEvent { scores: Some(MatchResult::new(&scores, details)), ..event }
            }
            Ok(Reply::Embedding(embedding)) => {
                AnswerEvent { embedding: Some(Vector(embedding.values)), ..event }
            }
            Ok(reply) => {
                let details = if details { Details::of(&reply) } else { None };
                AnswerEvent { answer: Some(reply.text().to_owned()), details, ..event }
            }
            Err(refusal) => AnswerEvent { error: Some(Failure::from(&refusal)), ..event },
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;

    use super::*;
    use crate::{
        error::{ErrorReason, RequestError},
        pipeline::reply::Answer,
    };

    #[tokio::test]
    async fn each_outcome_is_an_event_and_the_last_event_counts_them() {
        let result = |text_index, answer| {
            let reply = Result::map(answer, Reply::Answer);
            Ok(ItemResult { image_index: 0, text_index, ready: None, reply })
        };
        let answer = Answer { text: "two\nlines".to_owned(), ..Default::default() };
        let results = [
            result(1, Ok(answer)),
            result(0, Err(RequestError::new(ErrorReason::QuestionEmpty).field("x"))),
        ];
        let response = events(stream::iter(results).boxed(), false, TraceScope::default());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let expected = concat!(
            "event: answer\ndata: {\"image\":0,\"question\":1,\"answer\":\"two\\nlines\"}\n\n",
            "event: answer\ndata: {\"image\":0,\"question\":0,\"answer\":null,\"error\":{\"reason\":",
            "\"QUESTION_EMPTY\",\"message\":\"x has no text\",\"field\":\"x\",\"status\":400}}\n\n",
            "event: end\ndata: {\"answers\":1,\"errors\":1}\n\n",
        );
        assert_eq!(String::from_utf8(body.to_vec()).unwrap(), expected);
    }

    #[test]
    fn events_are_accepted_only_by_name() {
        let accepts = |accept: &'static str| {
            accepts_events(&HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(accept))]))
        };
        assert!(accepts("text/event-stream") && accepts("application/json, Text/Event-Stream;q=0.5"));
        assert!(!accepts("*/*") && !accepts("text/*") && !accepts_events(&HeaderMap::new()));
    }
}
