//! A call of an adapter for the API of another server, from the headers of its request to its
//! results.
//!
//! The key of such a call is in a header. Limits, keys, quotas, deadlines, memory and traces are
//! those of the native routes.

use std::convert::Infallible;

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use http::{
    HeaderMap, HeaderValue,
    header::{CONTENT_LENGTH, CONTENT_TYPE},
};
use serde::Serialize;
use tokio::time::Instant;
use tonic::transport::server::TcpConnectInfo;

use crate::{
    auth::{client::Client, token_of},
    error::{ErrorReason, RequestError},
    fair_share::Caller,
    http::{
        body::{RequestBody, decode_body},
        inference::decoded_body::CallOptions,
        media_type::JSON,
        state::HttpServer,
    },
    pipeline::{
        item_result::{ItemResult, ItemResults},
        request::InferenceRequest,
        streams::write_timing::record_writes_at_end,
    },
    priority::RequestPriority,
    request::{
        deadline::{Deadline, before},
        field_path::RequestFormat,
        item::Input,
        memory_budget::{BudgetPermit, MemoryBudget},
        task::Task,
    },
    telemetry::tracing::TraceScope,
};

/// A call whose client is known and whose body has arrived.
#[derive(Debug)]
pub(crate) struct HttpCall {
    /// The body.
    pub(crate) body: Bytes,
    client: Client,
    permit: BudgetPermit,
    arrived: Instant,
    deadline: Option<Instant>,
    priority: RequestPriority,
    trace: TraceScope,
}

/// What a call asks for.
#[derive(Debug)]
pub(crate) struct CallRequest {
    /// The images with their texts.
    pub(crate) inputs: Vec<Input>,
    /// The task of every item.
    pub(crate) task: Task,
    /// The name of the model, or an empty string.
    pub(crate) model: String,
    /// The format, whose field names are used in errors.
    pub(crate) format: RequestFormat,
}

/// The memory of a response that its client has not read.
#[derive(Clone, Debug)]
pub(crate) struct ResponseMemory {
    budget: MemoryBudget,
    caller: Caller,
}

/// The part of a response that is sent at once, in bytes.
const PART_BYTES: usize = 16 << 10;

impl ResponseMemory {
    /// Returns a response with `value`.
    ///
    /// # Errors
    /// As [`Self::response`].
    pub(crate) fn json(&self, value: &impl Serialize) -> Result<Response, RequestError> {
        let body = serde_json::to_vec(value);
        let body = body.map_err(|error| RequestError::new(ErrorReason::InternalError).cause(error))?;
        self.response(body, JSON)
    }

    /// Returns a response with `body`, which counts towards the unread responses of the client
    /// until its last part is sent.
    ///
    /// # Errors
    /// A [`RequestError`] of the call if the client may not hold that much memory at this time.
    pub(crate) fn response(&self, body: Vec<u8>, media_type: &'static str) -> Result<Response, RequestError> {
        let share = self.budget.reserve_response(self.caller, body.len())?;
        let (length, mut rest) = (body.len(), Bytes::from(body));
        let parts = std::iter::from_fn(move || {
            let _ = &share;
            (!rest.is_empty()).then(|| rest.split_to(rest.len().min(PART_BYTES)))
        });
        let mut response = Response::new(Body::from_stream(stream::iter(parts).map(Ok::<_, Infallible>)));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        response.headers_mut().insert(CONTENT_LENGTH, length.into());
        Ok(response)
    }
}

impl HttpCall {
    /// Returns the memory for the response to this call.
    pub(crate) fn response_memory(&self, server: &HttpServer) -> ResponseMemory {
        ResponseMemory { budget: server.budget.clone(), caller: self.client.caller() }
    }

    /// Authenticates the client of a request and reads its body.
    ///
    /// # Errors
    /// A [`RequestError`] of the request. Without a valid key, nothing of the body is read.
    pub(crate) async fn receive(
        server: &HttpServer,
        connection: &TcpConnectInfo,
        request: http::Request<Body>,
    ) -> Result<(Self, HeaderMap), RequestError> {
        let arrived = Instant::now();
        let (head, body) = request.into_parts();
        let client = server.authenticator.authenticate(token_of(&head.headers), connection.remote_addr())?;
        client.check_quota()?;
        let body = RequestBody::new(&head.headers, body, server.budget.of(client.caller()))?;
        let permit = body.permit();
        let deadline = server.handler.default_deadline.and_then(|limit| arrived.checked_add(limit));
        let body = before(deadline, body.collect()).await?;
        let trace = head.extensions.get().cloned().unwrap_or_default();
        let priority = RequestPriority::default();
        Ok((Self { body, client, permit, arrived, deadline, priority, trace }, head.headers))
    }

    /// Sets the priority, and the time limit if the request has one.
    pub(crate) fn with_options(self, options: &CallOptions) -> Self {
        let limit = options.timeout().and_then(|timeout| self.arrived.checked_add(timeout));
        Self { priority: options.priority, deadline: limit.or(self.deadline), ..self }
    }

    /// Decodes the body by `decode`. A long body does not delay the other connections.
    ///
    /// # Errors
    /// Those of `decode`.
    pub(crate) async fn decode<T: Send + 'static>(
        &self,
        decode: impl FnOnce(&Bytes) -> Result<T, RequestError> + Send + 'static,
    ) -> Result<T, RequestError> {
        decode_body(self.body.clone(), decode).await
    }

    /// Returns the results of all items, in the order of the request.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    pub(crate) async fn infer(
        self,
        server: &HttpServer,
        request: CallRequest,
    ) -> Result<Vec<ItemResult>, RequestError> {
        let (results, trace) = self.begin(server, request)?;
        record_writes_at_end(results, trace).try_collect().await
    }

    /// Returns the results in the order of the request as they become ready, and the span of the
    /// call.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    pub(crate) fn begin(
        self,
        server: &HttpServer,
        request: CallRequest,
    ) -> Result<(ItemResults, TraceScope), RequestError> {
        let Self { client, permit, deadline, priority, trace, .. } = self;
        let CallRequest { inputs, task, model, format } = request;
        let results = server.handler.inference.infer(InferenceRequest {
            inputs,
            task,
            model,
            format,
            client,
            priority: priority.into(),
            deadline: deadline.map(Deadline),
            in_order: true,
            complete_on_error: true,
            budget: permit,
            trace: trace.clone(),
        })?;
        Ok((results, trace))
    }
}
