//! `POST /v1/ask` and its like: from a request's headers to its answers.

use std::sync::Arc;

use axum::{
    Extension, Json,
    body::Body,
    extract::State,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use tokio::{
    task::spawn_blocking,
    time::{Instant, timeout_at},
};
use tonic::transport::server::TcpConnectInfo;

use crate::{
    auth::token_of,
    error::{ErrorReason, RequestError},
    http::{
        body::Upload,
        inference::{
            ask_request::read_ask,
            ask_response::CardResponse,
            multipart::read_form,
            payload::{Endpoint, Payload},
            score_responses::{EmbedResponse, MatchResponse},
            sse::{accepts_events, events},
            task_requests::{read_captions, read_matches, read_vectors},
        },
        state::HttpServer,
    },
    pipeline::{request::InferenceRequest, streams::write_timing::record_writes_at_end},
    request::deadline::Deadline,
    telemetry::tracing::TraceScope,
};

/// Longer bodies are read on a thread of their own: base64 of many megabytes would hold up everyone else.
const INLINE_BYTES: usize = 32 << 10;

/// What a request's body may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Media {
    Json,
    Form,
}

/// `POST /v1/ask`.
pub(crate) async fn ask(
    state: State<Arc<HttpServer>>,
    connection: Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, RequestError> {
    answer(Endpoint::Ask, state, connection, request).await
}

/// `POST /v1/caption`.
pub(crate) async fn caption(
    state: State<Arc<HttpServer>>,
    connection: Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, RequestError> {
    answer(Endpoint::Caption, state, connection, request).await
}

/// `POST /v1/match`.
pub(crate) async fn compare(
    state: State<Arc<HttpServer>>,
    connection: Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, RequestError> {
    answer(Endpoint::Match, state, connection, request).await
}

/// `POST /v1/embed`.
pub(crate) async fn embed(
    state: State<Arc<HttpServer>>,
    connection: Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, RequestError> {
    answer(Endpoint::Embed, state, connection, request).await
}

/// Answers a request of one of these paths.
///
/// # Errors
/// A [`RequestError`] of the whole request.
async fn answer(
    kind: Endpoint,
    State(server): State<Arc<HttpServer>>,
    Extension(connection): Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, RequestError> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    let HttpServer { handler, authenticator, budget: memory, .. } = &*server;
    let address = connection.remote_addr();

    // Whoever shows a key in a header is known before his body is read; the model card's token is in the body.
    let token = token_of(&head.headers);
    let known = token.is_some() || authenticator.is_open();
    let known = known.then(|| authenticator.authenticate(token, address)).transpose()?;
    let media = Media::of(kind, &head.headers)?;
    let upload = Upload::new(&head.headers, body, memory.clone())?;
    let budget = upload.held();
    let reading = read(kind, media, &head.headers, upload);
    let default_deadline = handler.default_deadline.and_then(|limit| arrived.checked_add(limit));
    let payload = match default_deadline {
        Some(limit) => timeout_at(limit, reading)
            .await
            .map_err(|_| RequestError::new(ErrorReason::DeadlineExceeded))??,
        None => reading.await?,
    };
    let Payload { secret_token, images, texts, task, model, options, format } = payload;
    let client = match known {
        Some(client) => client,
        None => authenticator.authenticate(secret_token.as_deref().map(str::as_bytes), address)?,
    };

    let inputs = Payload::inputs(images, texts, format, memory.max_message_bytes())?;
    let with_image = inputs.iter().filter(|input| input.image.is_some()).count();
    let counts: Vec<usize> = inputs.iter().map(|input| input.texts.len()).collect();
    let deadline = match options.timeout() {
        Some(timeout) => arrived.checked_add(timeout),
        None => default_deadline,
    };
    let trace: TraceScope = head.extensions.get().cloned().unwrap_or_default();
    let results = handler.inference.infer(InferenceRequest {
        inputs,
        task,
        model,
        format,
        client,
        priority: options.priority.into(),
        deadline: deadline.map(Deadline),
        in_order: false,
        complete_on_error: true,
        budget,
        trace: trace.clone(),
    })?;
    if options.stream || accepts_events(&head.headers) {
        return Ok(events(results, options.details, trace));
    }
    let results = record_writes_at_end(results, trace);
    let details = options.details;
    Ok(match kind {
        Endpoint::Ask | Endpoint::Caption => {
            Json(CardResponse::collect(results, &counts, details).await?).into_response()
        }
        Endpoint::Match => Json(MatchResponse::collect(results, &counts, details).await?).into_response(),
        Endpoint::Embed => Json(EmbedResponse::collect(results, &counts, with_image).await?).into_response(),
    })
}

async fn read(
    kind: Endpoint,
    media: Media,
    headers: &HeaderMap,
    upload: Upload,
) -> Result<Payload, RequestError> {
    let read_body = match kind {
        Endpoint::Ask => read_ask,
        Endpoint::Caption => read_captions,
        Endpoint::Match => read_matches,
        Endpoint::Embed => read_vectors,
    };
    match media {
        Media::Form => read_form(kind, content_type(headers), upload).await,
        Media::Json => {
            let body: Bytes = upload.collect().await?;
            if body.len() <= INLINE_BYTES {
                return read_body(&body);
            }
            let read = spawn_blocking(move || read_body(&body)).await;
            read.unwrap_or_else(|error| Err(RequestError::new(ErrorReason::InternalError).cause(error)))
        }
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Media {
    /// What the `Content-Type` header says.
    fn of(kind: Endpoint, headers: &HeaderMap) -> Result<Self, RequestError> {
        let content_type = content_type(headers);
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Ok(Self::Json),
            "multipart/form-data" if kind != Endpoint::Embed => Ok(Self::Form),
            _ => Err(RequestError::new(ErrorReason::MediaTypeRefused)
                .field("content-type")
                .value(if essence.is_empty() { "missing" } else { content_type })
                .limit(match kind {
                    Endpoint::Embed => "application/json",
                    Endpoint::Ask | Endpoint::Caption | Endpoint::Match => {
                        "application/json or multipart/form-data"
                    }
                })),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_body_is_json_or_a_form_by_its_content_type_alone() {
        let media = |content_type: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            Media::of(Endpoint::Ask, &headers).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(media("Application/JSON; charset=utf-8"), Ok(Media::Json));
        assert_eq!(media("multipart/form-data; boundary=x"), Ok(Media::Form));
        let expected =
            "unsupported media type in content-type: text/plain, expected application/json or multipart/form-data";
        assert_eq!(media("text/plain"), Err(expected.to_owned()));
        let missing = Media::of(Endpoint::Ask, &HeaderMap::new()).unwrap_err();
        assert!(missing.to_string().starts_with("unsupported media type in content-type: missing"));
    }
}
