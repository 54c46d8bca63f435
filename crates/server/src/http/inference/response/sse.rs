//! Responses as server-sent events: each result as soon as it is ready, and an event at the end.

use std::time::Duration;

use axum::response::{
    IntoResponse, Response,
    sse::{Event, KeepAlive, Sse},
};
use futures::{Stream, StreamExt as _, stream};
use http::HeaderValue;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    http::{
        inference::response::{
            ask_response::AnswerDetails,
            item_error::ItemError,
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

/// The longest time without an event or a comment. Proxies close connections that stay idle longer.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A server-sent event.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes events in the OpenAPI document; axum writes them field by field")]
pub(crate) struct ServerSentEvent {
    /// `answer` for each item, `piece` for each chunk of a caption before that, and `end` at the
    /// end. If the server fails, `error` in place of `end`.
    #[schema(example = "answer")]
    event: String,
    /// JSON: an `AnswerEvent`, a `PieceEvent`, an `EndEvent` or a `Problem`.
    #[schema(
        content_media_type = "application/json",
        example = r#"{"image":0,"question":0,"answer":"yes"}"#
    )]
    data: String,
}

/// The data of an event `answer`.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct AnswerEvent {
    /// The position of the image in the request, from 0.
    image: u32,
    /// The position of the text among the texts about the image, from 0.
    question: u32,
    /// The generated text. It is `null` for a failed item and for a task that generates no text.
    answer: Option<String>,
    /// The match scores, in a stream of `/v1/match`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scores: Option<MatchResult>,
    /// The embedding, in a stream of `/v1/embed`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    embedding: Option<Vector>,
    /// The scores and timings, if the request has `details` or `explain`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    details: Option<AnswerDetails>,
    /// The error of a failed item.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<ItemError>,
}

/// The data of an event `piece`.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PieceEvent {
    /// The position of the image in the request, from 0.
    image: u32,
    /// The position of the text among the texts about the image, from 0.
    question: u32,
    /// The text that was generated since the last event `piece` of the item.
    piece: String,
}

/// The data of the last event, `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct EndEvent {
    /// The number of answered items.
    answers: u64,
    /// The number of failed items.
    errors: u64,
}

/// Returns all `results` as events. The connection drives them, so that a client that reads slowly
/// delays only its response. `trace` is the span of the request.
pub(crate) fn event_stream(results: ItemResults, details: bool, trace: TraceScope) -> Response {
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
            end.count(&result);
            Event::default().event("answer").json_data(AnswerEvent::new(result, details))
        }
        Some(Err(error)) => Event::default().event("error").json_data(Problem::from(&error)),
        None => Event::default().event("end").json_data(end),
    });
    event_response(events)
}

/// Returns the response whose body is `events`. Comments between them hold the connection open.
pub(crate) fn event_response(
    events: impl Stream<Item = Result<Event, axum::Error>> + Send + 'static,
) -> Response {
    let mut response = Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response();
    // Proxies that buffer responses would delay the events.
    response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

impl EndEvent {
    fn count(&mut self, result: &ItemResult) {
        self.answers += u64::from(result.reply.is_ok());
        self.errors += u64::from(result.reply.is_err());
    }
}

impl AnswerEvent {
    fn new(result: ItemResult, details: bool) -> Self {
        let ItemResult { image_index: image, text_index: question, reply, .. } = result;
        let event = Self { image, question, ..Self::default() };
        match reply {
            Ok(Reply::Match(scores)) => Self { scores: Some(MatchResult::new(&scores, details)), ..event },
            Ok(Reply::Embedding(embedding)) => Self { embedding: Some(Vector(embedding.values)), ..event },
            Ok(reply) => {
                let details = if details { AnswerDetails::of(&reply) } else { None };
                Self { answer: Some(reply.text().to_owned()), details, ..event }
            }
            Err(error) => Self { error: Some(ItemError::from(&error)), ..event },
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
    async fn each_result_is_an_event_and_the_last_event_counts_them() {
        let result = |text_index, answer| {
            let reply = Result::map(answer, Reply::Answer);
            Ok(ItemResult { image_index: 0, text_index, ready: None, reply })
        };
        let answer = Answer { text: "two\nlines".to_owned(), ..Default::default() };
        let results =
            [result(1, Ok(answer)), result(0, Err(RequestError::new(ErrorReason::QuestionEmpty).field("x")))];
        let response = event_stream(stream::iter(results).boxed(), false, TraceScope::default());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let expected = concat!(
            "event: answer\ndata: {\"image\":0,\"question\":1,\"answer\":\"two\\nlines\"}\n\n",
            "event: answer\ndata: {\"image\":0,\"question\":0,\"answer\":null,\"error\":{\"reason\":",
            "\"QUESTION_EMPTY\",\"message\":\"x has no text\",\"field\":\"x\",\"status\":400}}\n\n",
            "event: end\ndata: {\"answers\":1,\"errors\":1}\n\n",
        );
        assert_eq!(String::from_utf8(body.to_vec()).unwrap(), expected);
    }
}
