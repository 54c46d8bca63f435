//! Load by JSON over HTTP: `POST /v1/ask` of blip-serve, and common protocols of other servers.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::Context as _;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use load_generator::{LoadRequest, LoadResult, Target};
use reqwest::Client;
use serde_json::{Value, json};

use crate::{commands::bench::protocol::Protocol, connection::ConnectionArgs};

/// A server with a JSON protocol. Requests use its clients in turn.
#[derive(Debug)]
pub(crate) struct JsonTarget {
    protocol: Protocol,
    url: String,
    api_key: Option<String>,
    clients: Vec<Client>,
    next: AtomicUsize,
}

impl JsonTarget {
    pub(crate) fn new(
        protocol: Protocol,
        connection: &ConnectionArgs,
        connections: usize,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        // reqwest uses the provider of the process, which may be installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        // A client opens one HTTP/1.1 connection for each request in flight. Several clients spread
        // the work of sending over threads.
        let client = || Client::builder().timeout(timeout).no_proxy().build().context("cannot set up HTTP");
        let clients = (0..connections).map(|_| client()).collect::<anyhow::Result<_>>()?;
        let server = connection.url();
        let url = match protocol {
            Protocol::Card => format!("{}/v1/ask", server.trim_end_matches('/')),
            Protocol::Grpc | Protocol::Json | Protocol::Kserve => server,
        };
        Ok(Self { protocol, url, api_key: connection.api_key.clone(), clients, next: AtomicUsize::new(0) })
    }

    async fn response(&self, request: &LoadRequest) -> Result<Value, String> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len().max(1);
        let client = self.clients.get(next).ok_or("NO_CONNECTION")?;
        let mut request = client.post(&self.url).json(&body(self.protocol, request));
        if let Some(key) = &self.api_key {
            request = request.header("x-api-key", key);
        }
        let response = request.send().await.map_err(|error| failure_reason(&error))?;
        if !response.status().is_success() {
            return Err(format!("HTTP_{}", response.status().as_u16()));
        }
        response.json().await.map_err(|error| failure_reason(&error))
    }
}

fn failure_reason(error: &reqwest::Error) -> String {
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

/// Returns the body of a request.
fn body(protocol: Protocol, request: &LoadRequest) -> Value {
    let image = BASE64_STANDARD.encode(&request.image);
    let (questions, rows) = (&request.questions, request.questions.len());
    match protocol {
        Protocol::Kserve => {
            let tensor = |name: &str, data: Value| json!({ "name": name, "shape": [rows, 1], "datatype": "BYTES", "data": data });
            json!({ "inputs": [tensor("image", json!(vec![image; rows])), tensor("question", json!(questions))] })
        }
        Protocol::Json => json!({ "image": image, "questions": questions }),
        Protocol::Card | Protocol::Grpc => {
            json!({ "inputs": { "texts": [questions], "images": [{ "base64": image }] } })
        }
    }
}

/// Counts the answers and the errors of a response.
fn to_result(protocol: Protocol, response: &Value, questions: usize) -> LoadResult {
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
            Ok(response) => to_result(self.protocol, &response, questions),
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
    fn body_has_the_form_of_the_protocol() {
        assert_eq!(
            body(Protocol::Json, &request()),
            json!({ "image": "YWJj", "questions": ["one?", "two?"] })
        );
        let kserve = body(Protocol::Kserve, &request());
        assert_eq!(kserve.pointer("/inputs/0/shape"), Some(&json!([2, 1])));
        assert_eq!(kserve.pointer("/inputs/0/data"), Some(&json!(["YWJj", "YWJj"])));
        assert_eq!(kserve.pointer("/inputs/1/data"), Some(&json!(["one?", "two?"])));
        assert_eq!(body(Protocol::Card, &request()).pointer("/inputs/texts/0/1"), Some(&json!("two?")));
    }

    #[test]
    fn result_counts_answers_and_errors() {
        let card = json!({
            "captions": [{ "image_results": ["red", null] }],
            "errors": [{ "reason": "QUESTION_EMPTY" }],
        });
        let partial = LoadResult { answered: 1, errors: vec!["QUESTION_EMPTY".to_owned()] };
        assert_eq!(to_result(Protocol::Card, &card, 2), partial);
        assert_eq!(
            to_result(Protocol::Json, &json!({ "answers": ["a", "b"] }), 2),
            LoadResult { answered: 2, errors: vec![] }
        );
        assert_eq!(
            to_result(Protocol::Kserve, &json!({ "outputs": [{ "data": ["a"] }] }), 2).errors,
            ["NULL"]
        );
        assert_eq!(to_result(Protocol::Kserve, &json!({}), 2).errors, ["NO_ANSWERS"; 2]);
    }
}
