//! A chat completion as server-sent events: the parts of each choice as they become ready.

use axum::response::{Response, sse::Event};
use futures::{StreamExt as _, future, stream};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::{
        adapters::openai::{
            chat_request::{Chat, ChatOutput},
            chat_response::{Line, LogProbabilities, SEPARATOR, Usage},
            error::OpenAiError,
            message::Question,
        },
        inference::response::sse::event_response,
    },
    pipeline::{
        item_result::{ItemResult, ItemResults},
        reply::Reply,
        streams::write_timing::PendingWrite,
    },
    telemetry::tracing::TraceScope,
};

/// The data of the last event.
const DONE: &str = "[DONE]";

/// An event of a stream.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes events in the OpenAPI document; axum writes them field by field")]
pub(crate) struct ChatEvent {
    /// A `ChatChunk` in JSON, or `[DONE]` at the end. If the server fails, an `OpenAiError`.
    data: String,
}

/// A part of a chat completion.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatChunk {
    /// The id of the completion.
    id: String,
    /// `chat.completion.chunk`.
    #[schema(example = "chat.completion.chunk")]
    object: &'static str,
    /// The time of the first event, in seconds since 1970.
    created: u64,
    /// The name of the model.
    model: String,
    /// The parts of the choices.
    choices: Vec<ChunkChoice>,
    /// The number of tokens, in the last part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    usage: Option<Usage>,
}

/// A part of a choice.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChunkChoice {
    /// The position of the choice, from 0.
    index: usize,
    /// What is added to the message.
    delta: Delta,
    /// The log-probabilities, if the request has `logprobs`.
    logprobs: Option<LogProbabilities>,
    /// Why the choice ended, in its last part.
    finish_reason: Option<&'static str>,
}

/// What is added to a message.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Delta {
    /// `assistant`, in the first part.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    role: Option<&'static str>,
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    content: Option<String>,
}

/// What all parts of a completion share.
#[derive(Clone, Debug)]
pub(crate) struct Completion {
    /// The id of the completion.
    pub(crate) id: String,
    /// The time of the response, in seconds since 1970.
    pub(crate) created: u64,
    /// The name of the model.
    pub(crate) model: String,
    /// The token that ends an answer.
    pub(crate) stop_token: u32,
}

/// The state of a stream.
struct ChatStream {
    completion: Completion,
    question: Question,
    output: ChatOutput,
    /// Of each choice, whether the maximum of tokens ended one of its answers.
    cut: Vec<bool>,
    /// The text of the current item that was sent as it was generated.
    sent: String,
    /// Whether an item was answered.
    has_lines: bool,
    usage: Usage,
    is_ended: bool,
}

/// Returns all `results` as events. The connection drives them. `first` is the first result.
pub(crate) fn chat_events(
    (first, results): (ItemResult, ItemResults),
    completion: Completion,
    question: Question,
    output: ChatOutput,
    trace: TraceScope,
) -> Response {
    let cut = vec![false; output.choices];
    let (sent, usage) = (String::new(), Usage::default());
    let state =
        ChatStream { completion, question, output, cut, sent, has_lines: false, usage, is_ended: false };
    let begin = stream::iter(state.begin());
    let results = stream::iter([Ok(first)]).chain(results).map(Some).chain(stream::iter([None]));
    let events = results.scan(state, move |state, result| {
        if state.is_ended {
            return future::ready(None);
        }
        if let Some(Ok(result)) = &result
            && let Some(write) = PendingWrite::of(result, &trace)
        {
            write.written();
        }
        let events = match result {
            Some(Ok(result)) => state.add(result),
            Some(Err(error)) => state.fail(&error),
            None => state.end(),
        };
        future::ready(Some(stream::iter(events)))
    });
    event_response(begin.chain(events.flatten()))
}

type Events = Vec<Result<Event, axum::Error>>;

impl ChatStream {
    /// Returns the events before the first result.
    fn begin(&self) -> Events {
        let delta = || Delta { role: Some("assistant"), content: Some(String::new()) };
        let choices = (0..self.output.choices).map(|index| ChunkChoice {
            index,
            delta: delta(),
            logprobs: None,
            finish_reason: None,
        });
        vec![self.event(choices.collect(), None)]
    }

    /// Returns the events of a result.
    fn add(&mut self, result: ItemResult) -> Events {
        let item = (result.image_index, result.text_index);
        let reply = match result.reply {
            Ok(Reply::Chunk(chunk)) if chunk.text.is_empty() => return Vec::new(),
            Ok(Reply::Chunk(chunk)) => {
                self.sent.push_str(&chunk.text);
                return vec![self.event(vec![ChunkChoice::text(0, chunk.text)], None)];
            }
            Ok(reply) => reply,
            Err(error) => return self.fail(&Chat::named(&self.question, error, Some(item))),
        };
        let lines = match Line::all(&reply, self.completion.stop_token) {
            Ok(lines) => lines,
            Err(error) => return self.fail(&error),
        };
        let separator = if std::mem::replace(&mut self.has_lines, true) { SEPARATOR } else { "" };
        let sent = std::mem::take(&mut self.sent);
        let mut choices = Vec::new();
        for ((index, cut), line) in self.cut.iter_mut().enumerate().zip(&lines) {
            *cut |= line.is_cut;
            self.usage.add(line);
            // A token may change how earlier tokens are joined. They were sent then.
            let rest = line.text.strip_prefix(sent.as_str()).unwrap_or_default();
            let logprobs = self
                .output
                .top_logprobs
                .map(|top| LogProbabilities { content: vec![line.log_probability(&lines, top, separator)] });
            choices.push(ChunkChoice { logprobs, ..ChunkChoice::text(index, format!("{separator}{rest}")) });
        }
        vec![self.event(choices, None)]
    }

    /// Returns the events after the last result.
    fn end(&mut self) -> Events {
        self.is_ended = true;
        let choices = self.cut.iter().enumerate().map(|(index, is_cut)| ChunkChoice {
            index,
            delta: Delta::default(),
            logprobs: None,
            finish_reason: Some(Line::finish_reason(*is_cut)),
        });
        let mut events = vec![self.event(choices.collect(), None)];
        if self.output.include_usage {
            events.push(self.event(Vec::new(), Some(self.usage)));
        }
        events.push(Ok(Event::default().data(DONE)));
        events
    }

    /// Returns the event of an error, which is the last one.
    fn fail(&mut self, error: &RequestError) -> Events {
        self.is_ended = true;
        vec![Event::default().json_data(OpenAiError::from(error))]
    }

    fn event(&self, choices: Vec<ChunkChoice>, usage: Option<Usage>) -> Result<Event, axum::Error> {
        let Completion { id, created, model, .. } = self.completion.clone();
        let object = "chat.completion.chunk";
        Event::default().json_data(ChatChunk { id, object, created, model, choices, usage })
    }
}

impl ChunkChoice {
    fn text(index: usize, text: String) -> Self {
        let delta = Delta { role: None, content: Some(text) };
        Self { index, delta, logprobs: None, finish_reason: None }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::{
        error::ErrorReason,
        pipeline::reply::{Alternative, Answer, Caption, CaptionChunk},
    };

    fn result(text_index: u32, reply: Result<Reply, RequestError>) -> ItemResult {
        ItemResult { image_index: 0, text_index, ready: None, reply }
    }

    fn answer(text: &str, other: &str) -> Reply {
        let token_ids = vec![5, 102];
        let other = Alternative { text: other.to_owned(), token_ids: vec![7], ..Alternative::default() };
        Reply::Answer(Answer {
            text: text.to_owned(),
            token_ids,
            alternatives: vec![other],
            ..Answer::default()
        })
    }

    /// Returns the data of all events.
    async fn events(choices: usize, results: Vec<Result<ItemResult, RequestError>>) -> Vec<String> {
        let completion =
            Completion { id: "x".to_owned(), created: 1, model: "m".to_owned(), stop_token: 102 };
        let output = ChatOutput { choices, top_logprobs: None, stream: true, include_usage: true };
        let mut results = results.into_iter();
        let first = (results.next().unwrap().unwrap(), stream::iter(results).boxed());
        let response = chat_events(first, completion, Question::default(), output, TraceScope::default());
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        text.split_terminator("\n\n").map(|event| event.strip_prefix("data: ").unwrap().to_owned()).collect()
    }

    /// Returns the message and the finish reason of a choice.
    fn joined(events: &[String], choice: usize) -> (String, Value) {
        let (mut text, mut reason) = (String::new(), Value::Null);
        for event in events.iter().filter(|event| event.as_str() != DONE) {
            let event: Value = serde_json::from_str(event).unwrap();
            for part in event["choices"].as_array().unwrap().iter().filter(|part| part["index"] == choice) {
                text.push_str(part["delta"]["content"].as_str().unwrap_or_default());
                if !part["finish_reason"].is_null() {
                    reason = part["finish_reason"].clone();
                }
            }
        }
        (text, reason)
    }

    #[tokio::test]
    async fn parts_of_each_choice_join_to_its_message() {
        let results = vec![Ok(result(0, Ok(answer("a", "b")))), Ok(result(1, Ok(answer("c", "d"))))];
        let events = events(2, results).await;
        assert_eq!(joined(&events, 0), ("a\nc".to_owned(), "stop".into()));
        assert_eq!(joined(&events, 1), ("b\nd".to_owned(), "length".into()));
        let [.., usage, done] = events.as_slice() else { panic!("{events:?}") };
        let usage: Value = serde_json::from_str(usage).unwrap();
        assert_eq!((usage["usage"]["completion_tokens"].as_u64(), done.as_str()), (Some(6), DONE));
    }

    #[tokio::test]
    async fn generated_text_is_sent_once() {
        let chunk =
            |text: &str| Ok(result(0, Ok(Reply::Chunk(CaptionChunk { text: text.to_owned(), token_id: 5 }))));
        let caption = Caption { text: "a red circle".to_owned(), ..Caption::default() };
        let results = vec![chunk("a"), chunk(""), chunk(" red"), Ok(result(0, Ok(Reply::Caption(caption))))];
        assert_eq!(joined(&events(1, results).await, 0), ("a red circle".to_owned(), "stop".into()));
    }

    #[tokio::test]
    async fn error_is_the_last_event() {
        let error = RequestError::new(ErrorReason::DeadlineExceeded);
        let results = vec![Ok(result(0, Ok(answer("a", "b")))), Ok(result(1, Err(error)))];
        let events = events(1, results).await;
        let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
        assert_eq!((events.len(), &last["error"]["code"]), (3, &"DEADLINE_EXCEEDED".into()));
    }
}
