//! Asking by JSON over HTTP: this server's `POST /v1/ask`, and what other servers are usually given.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use load_generator::{LoadRequest, LoadResult, Target};
use reqwest::Client;
use serde_json::{Value, json};

use crate::{commands::bench::protocol::Protocol, connection::ConnectionOptions};

/// A server that is asked by JSON, over some connections.
#[derive(Debug)]
pub(crate) struct JsonTarget {
    protocol: Protocol,
    url: String,
    key: Option<String>,
    clients: Vec<Client>,
    next: AtomicUsize,
}

impl JsonTarget {
    pub(crate) fn new(
        protocol: Protocol,
        server: &str,
        connection: &ConnectionOptions,
        connections: usize,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        // reqwest takes the process's provider; somebody else may have set it already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A client keeps as many connections as requests are under way, which HTTP/1.1 needs; several clients spread the
        // work of sending over threads.
        let client = || Client::builder().timeout(limit).no_proxy().build().context("cannot set up HTTP");
        let clients = (0..connections).map(|_| client()).collect::<anyhow::Result<_>>()?;
        let url = match protocol {
            Protocol::Card => format!("{}/v1/ask", server.trim_end_matches('/')),
            Protocol::Grpc | Protocol::Json | Protocol::Kserve => server.to_owned(),
        };
        Ok(Self { protocol, url, key: connection.key(), clients, next: AtomicUsize::new(0) })
    }

    async fn response(&self, request: &LoadRequest) -> Result<Value, String> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len().max(1);
        let client = self.clients.get(turn).ok_or("NO_CONNECTION")?;
        let mut request = client.post(&self.url).json(&body(self.protocol, request));
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        let response = request.send().await.map_err(|error| unsent(&error))?;
        if !response.status().is_success() {
            return Err(format!("HTTP_{}", response.status().as_u16()));
        }
        response.json().await.map_err(|error| unsent(&error))
    }
}

fn unsent(error: &reqwest::Error) -> String {
    let reason = if error.is_timeout() {
        "TIMEOUT"
    } else if error.is_connect() {
        "NO_CONNECTION"
    } else if error.is_decode() {
        "NO_JSON"
    } else {
        "CONNECTION_LOST"
    };
    reason.to_owned()
}

/// A request, as `protocol` wants it.
fn body(protocol: Protocol, request: &LoadRequest) -> Value {
    let picture = BASE64_STANDARD.encode(&request.image);
    let (questions, rows) = (&request.questions, request.questions.len());
    match protocol {
        Protocol::Kserve => {
            let tensor = |name: &str, data: Value| json!({ "name": name, "shape": [rows, 1], "datatype": "BYTES", "data": data });
            json!({ "inputs": [tensor("image", json!(vec![picture; rows])), tensor("question", json!(questions))] })
        }
        Protocol::Json => json!({ "image": picture, "questions": questions }),
        Protocol::Card | Protocol::Grpc => {
            json!({ "inputs": { "texts": [questions], "images": [{ "base64": picture }] } })
        }
    }
}

/// What a response says, question by question.
fn reply(protocol: Protocol, response: &Value, questions: usize) -> LoadResult {
    let path = match protocol {
        Protocol::Card | Protocol::Grpc => "/captions/0/image_results",
        Protocol::Json => "/answers",
        Protocol::Kserve => "/outputs/0/data",
    };
    let Some(answers) = response.pointer(path).and_then(Value::as_array) else {
        return LoadResult { answered: 0, errors: vec!["NO_ANSWERS".to_owned(); questions] };
    };
    let answered = answers.iter().take(questions).filter(|answer| !answer.is_null()).count();
    let reasons = response.pointer("/errors").and_then(Value::as_array).into_iter().flatten();
    let mut errors: Vec<String> =
        reasons.filter_map(|error| Some(error.get("reason")?.as_str()?.to_owned())).collect();
    errors.resize(questions - answered, "NULL".to_owned());
    LoadResult { answered: u32::try_from(answered).unwrap_or(u32::MAX), errors }
}

impl Target for JsonTarget {
    async fn send(&self, request: LoadRequest) -> LoadResult {
        let questions = request.questions.len();
        match self.response(&request).await {
            Ok(response) => reply(self.protocol, &response, questions),
            Err(reason) => LoadResult { answered: 0, errors: vec![reason; questions] },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> LoadRequest {
        LoadRequest { image: b"abc".as_slice().into(), questions: vec!["one?".to_owned(), "two?".to_owned()] }
    }

    #[test]
    fn each_protocol_gets_what_it_wants() {
        assert_eq!(body(Protocol::Json, &request()), json!({ "image": "YWJj", "questions": ["one?", "two?"] }));
        let kserve = body(Protocol::Kserve, &request());
        assert_eq!(kserve.pointer("/inputs/0/shape"), Some(&json!([2, 1])));
        assert_eq!(kserve.pointer("/inputs/0/data"), Some(&json!(["YWJj", "YWJj"])));
        assert_eq!(kserve.pointer("/inputs/1/data"), Some(&json!(["one?", "two?"])));
        assert_eq!(body(Protocol::Card, &request()).pointer("/inputs/texts/0/1"), Some(&json!("two?")));
    }

    #[test]
    fn answers_and_errors_are_told_apart() {
        let card = json!({
            "captions": [{ "image_results": ["red", null] }],
            "errors": [{ "reason": "QUESTION_EMPTY" }],
        });
        let partial = LoadResult { answered: 1, errors: vec!["QUESTION_EMPTY".to_owned()] };
        assert_eq!(reply(Protocol::Card, &card, 2), partial);
        assert_eq!(
            reply(Protocol::Json, &json!({ "answers": ["a", "b"] }), 2),
            LoadResult { answered: 2, errors: vec![] }
        );
        assert_eq!(reply(Protocol::Kserve, &json!({ "outputs": [{ "data": ["a"] }] }), 2).errors, ["NULL"]);
        assert_eq!(reply(Protocol::Kserve, &json!({}), 2).errors, ["NO_ANSWERS"; 2]);
    }
}
