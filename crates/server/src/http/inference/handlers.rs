//! The handlers of the inference routes: from the headers of a request to its response.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::State,
    response::Response,
    routing::{MethodRouter, post},
};
use bytes::Bytes;
use http::{HeaderMap, Request, header::CONTENT_TYPE};
use tokio::time::Instant;
use tonic::transport::server::TcpConnectInfo;

use crate::{
    auth::{client::Client, token_of},
    error::RequestError,
    fair_share::Caller,
    http::{
        body::{RequestBody, decode_body},
        inference::{
            ask_request::{AskRequest, decode_json},
            decoded_body::{DecodedBody, Endpoint},
            form::multipart::read_form,
            response::{
                accept::accepts_events,
                ask_response::AnswerLayout,
                json_body::json_response,
                score_responses::{EmbeddingLayout, MatchLayout},
                sse::event_stream,
            },
            task_requests::{CaptionRequest, EmbedRequest, MatchRequest},
        },
        media_type::{JSON, media_type, refused},
        state::HttpServer,
    },
    pipeline::{request::InferenceRequest, streams::write_timing::record_writes_at_end},
    request::deadline::{Deadline, before},
    telemetry::tracing::TraceScope,
};

/// The media type of a form with files.
const FORM: &str = "multipart/form-data";

/// The format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BodyFormat {
    Json,
    Form,
}

/// Returns the handler of `POST` requests to `endpoint`.
pub(crate) fn handler(endpoint: Endpoint) -> MethodRouter<Arc<HttpServer>> {
    post(
        move |state: State<Arc<HttpServer>>,
              connection: Extension<TcpConnectInfo>,
              request: Request<Body>| handle(endpoint, state, connection, request),
    )
}

/// Handles one request.
///
/// # Errors
/// A [`RequestError`] of the whole request.
async fn handle(
    endpoint: Endpoint,
    State(server): State<Arc<HttpServer>>,
    Extension(connection): Extension<TcpConnectInfo>,
    request: Request<Body>,
) -> Result<Response, RequestError> {
    let arrived = Instant::now();
    let (head, body) = request.into_parts();
    let HttpServer { handler, authenticator, budget, .. } = &*server;
    let address = connection.remote_addr();

    // A key in a header is checked before the body is read. The model card has the key in the body.
    let token = token_of(&head.headers);
    let is_early = token.is_some() || authenticator.is_open();
    let client = is_early.then(|| authenticator.authenticate(token, address)).transpose()?;
    client.as_ref().map_or(Ok(()), Client::check_quota)?;
    let format = BodyFormat::of(endpoint, &head.headers)?;
    let budget_of_caller = match &client {
        Some(client) => budget.of(client.caller()),
        None => budget.of_keyless(Caller::peer(address.map(|address| address.ip()))),
    };
    let body = RequestBody::new(&head.headers, body, budget_of_caller)?;
    let permit = body.permit();
    let decoding = decode(endpoint, format, &head.headers, body);
    let default_deadline = handler.default_deadline.and_then(|limit| arrived.checked_add(limit));
    let DecodedBody { secret_token, images, texts, task, model, options, format } =
        before(default_deadline, decoding).await?;
    let client = match client {
        Some(client) => client,
        None => {
            let client = authenticator.authenticate(secret_token.as_deref().map(str::as_bytes), address)?;
            permit.charge_to(&budget.of(client.caller()))?;
            client
        }
    };

    let inputs = DecodedBody::inputs(images, texts, format, budget.max_message_bytes())?;
    let with_image = inputs.iter().filter(|input| input.image.is_some()).count();
    let counts: Vec<usize> = inputs.iter().map(|input| input.texts.len()).collect();
    let deadline = match options.timeout() {
        Some(timeout) => arrived.checked_add(timeout),
        None => default_deadline,
    };
    let is_stream = options.stream || accepts_events(&head.headers);
    let details = options.details || task.explains();
    let trace: TraceScope = head.extensions.get().cloned().unwrap_or_default();
    let results = handler.inference.infer(InferenceRequest {
        inputs,
        task,
        model,
        format,
        client,
        priority: options.priority.into(),
        deadline: deadline.map(Deadline),
        in_order: !is_stream,
        complete_on_error: true,
        budget: permit,
        trace: trace.clone(),
    })?;
    if is_stream {
        return Ok(event_stream(results, details, trace));
    }
    let results = record_writes_at_end(results, trace);
    match endpoint {
        Endpoint::Ask | Endpoint::Caption => json_response(results, AnswerLayout::new(counts, details)).await,
        Endpoint::Match => json_response(results, MatchLayout::new(counts, details)).await,
        Endpoint::Embed => json_response(results, EmbeddingLayout { images: with_image }).await,
    }
}

async fn decode(
    endpoint: Endpoint,
    format: BodyFormat,
    headers: &HeaderMap,
    body: RequestBody,
) -> Result<DecodedBody, RequestError> {
    let decode_json = match endpoint {
        Endpoint::Ask => decode_json::<AskRequest>,
        Endpoint::Caption => decode_json::<CaptionRequest>,
        Endpoint::Match => decode_json::<MatchRequest>,
        Endpoint::Embed => decode_json::<EmbedRequest>,
    };
    match format {
        BodyFormat::Form => read_form(endpoint, content_type(headers), body).await,
        BodyFormat::Json => {
            let body: Bytes = body.collect().await?;
            decode_body(body, move |body| decode_json(body)).await
        }
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

impl BodyFormat {
    /// Returns the format that the `Content-Type` header names, if `endpoint` accepts it.
    fn of(endpoint: Endpoint, headers: &HeaderMap) -> Result<Self, RequestError> {
        match media_type(headers).as_str() {
            JSON => Ok(Self::Json),
            FORM if endpoint != Endpoint::Embed => Ok(Self::Form),
            found if endpoint == Endpoint::Embed => Err(refused(found, JSON)),
            found => Err(refused(found, &format!("{JSON} or {FORM}"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn content_type_selects_json_or_form() {
        let format = |content_type: &'static str| {
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(content_type))]);
            BodyFormat::of(Endpoint::Ask, &headers).map_err(|error| error.to_string())
        };
        assert_eq!(format("Application/JSON; charset=utf-8"), Ok(BodyFormat::Json));
        assert_eq!(format("multipart/form-data; boundary=x"), Ok(BodyFormat::Form));
        let expected = "unsupported media type in content-type: text/plain, expected application/json or multipart/form-data";
        assert_eq!(format("text/plain"), Err(expected.to_owned()));
        let missing = BodyFormat::of(Endpoint::Ask, &HeaderMap::new()).unwrap_err();
        assert!(missing.to_string().starts_with("unsupported media type in content-type: missing"));
    }
}
