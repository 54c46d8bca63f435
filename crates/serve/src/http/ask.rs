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

use super::{
    answers::CardResponse,
    body::Upload,
    card::read_card,
    multipart::read_form,
    payload::{Kind, Payload},
    router::HttpServer,
    scores::{EmbedResponse, MatchResponse},
    sse::{accepts_events, events},
    tasks::{read_captions, read_matches, read_vectors},
};
use crate::{
    auth::token_of,
    deadline::Deadline,
    errors::{Reason, Refusal},
    frontend::Asked,
    telemetry::trace::TraceScope,
    writing::written_together,
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
pub(super) async fn ask(
    state: State<Arc<HttpServer>>,
    connection: Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    answer(Kind::Ask, state, connection, request).await
}

/// `POST /v1/caption`.
pub(super) async fn caption(
    state: State<Arc<HttpServer>>,
    connection: Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    answer(Kind::Caption, state, connection, request).await
}

/// `POST /v1/match`.
pub(super) async fn compare(
    state: State<Arc<HttpServer>>,
    connection: Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    answer(Kind::Match, state, connection, request).await
}

/// `POST /v1/embed`.
pub(super) async fn embed(
    state: State<Arc<HttpServer>>,
    connection: Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    answer(Kind::Embed, state, connection, request).await
}

/// Answers a request of one of these paths.
///
/// # Errors
/// A [`Refusal`] of the whole request.
async fn answer(
    kind: Kind,
    State(server): State<Arc<HttpServer>>,
    Extension(connection): Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    let HttpServer { service, authenticator, room, .. } = &*server;
    let client = connection.remote_addr();

    // Whoever shows a key in a header is known before his body is read; the model card's token is in the body.
    let token = token_of(&head.headers);
    let known = token.is_some() || authenticator.is_open();
    let known = known.then(|| authenticator.caller(token, client)).transpose()?;
    let media = Media::of(kind, &head.headers)?;
    let upload = Upload::new(&head.headers, body, room.clone())?;
    let held = upload.held();
    let reading = read(kind, media, &head.headers, upload);
    let otherwise = service.default_deadline.and_then(|limit| arrived.checked_add(limit));
    let payload = match otherwise {
        Some(limit) => {
            timeout_at(limit, reading).await.map_err(|_| Refusal::new(Reason::DeadlineExceeded))??
        }
        None => reading.await?,
    };
    let Payload { secret_token, images, questions, wanted, model, options, form } = payload;
    let caller = match known {
        Some(caller) => caller,
        None => authenticator.caller(secret_token.as_deref().map(str::as_bytes), client)?,
    };

    let inputs = Payload::inputs(images, questions, form, room.max_message_bytes())?;
    let with_image = inputs.iter().filter(|input| input.image.is_some()).count();
    let counts: Vec<usize> = inputs.iter().map(|input| input.questions.len()).collect();
    let deadline = match options.timeout() {
        Some(timeout) => arrived.checked_add(timeout),
        None => otherwise,
    };
    let trace: TraceScope = head.extensions.get().cloned().unwrap_or_default();
    let outcomes = service.frontend.ask(Asked {
        inputs,
        wanted,
        model,
        form,
        caller,
        priority: options.priority.into(),
        deadline: deadline.map(Deadline),
        in_order: false,
        every_pair: true,
        held,
        trace: trace.clone(),
    })?;
    if options.stream || accepts_events(&head.headers) {
        return Ok(events(outcomes, options.details, trace));
    }
    let outcomes = written_together(outcomes, trace);
    let details = options.details;
    Ok(match kind {
        Kind::Ask | Kind::Caption => {
            Json(CardResponse::collect(outcomes, &counts, details).await?).into_response()
        }
        Kind::Match => Json(MatchResponse::collect(outcomes, &counts, details).await?).into_response(),
        Kind::Embed => Json(EmbedResponse::collect(outcomes, &counts, with_image).await?).into_response(),
    })
}

async fn read(kind: Kind, media: Media, headers: &HeaderMap, upload: Upload) -> Result<Payload, Refusal> {
    let read_body = match kind {
        Kind::Ask => read_card,
        Kind::Caption => read_captions,
        Kind::Match => read_matches,
        Kind::Embed => read_vectors,
    };
    match media {
        Media::Form => read_form(kind, content_type(headers), upload).await,
        Media::Json => {
            let body: Bytes = upload.collect().await?;
            if body.len() <= INLINE_BYTES {
                return read_body(&body);
            }
            let read = spawn_blocking(move || read_body(&body)).await;
            read.unwrap_or_else(|error| Err(Refusal::new(Reason::InternalError).cause(error)))
        }
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl Media {
    /// What the `Content-Type` header says.
    fn of(kind: Kind, headers: &HeaderMap) -> Result<Self, Refusal> {
        let content_type = content_type(headers);
        let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match essence.as_str() {
            "application/json" => Ok(Self::Json),
            "multipart/form-data" if kind != Kind::Embed => Ok(Self::Form),
            _ => Err(Refusal::new(Reason::MediaTypeRefused)
                .field("content-type")
                .value(if essence.is_empty() { "missing" } else { content_type })
                .limit(match kind {
                    Kind::Embed => "application/json",
                    Kind::Ask | Kind::Caption | Kind::Match => "application/json or multipart/form-data",
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
            Media::of(Kind::Ask, &headers).map_err(|refusal| refusal.to_string())
        };
        assert_eq!(media("Application/JSON; charset=utf-8"), Ok(Media::Json));
        assert_eq!(media("multipart/form-data; boundary=x"), Ok(Media::Form));
        let expected =
            "content-type is text/plain, the body has to be application/json or multipart/form-data";
        assert_eq!(media("text/plain"), Err(expected.to_owned()));
        let missing = Media::of(Kind::Ask, &HeaderMap::new()).unwrap_err();
        assert!(missing.to_string().starts_with("content-type is missing"));
    }
}
