//! Handles a request message: builds the request, dispatches it, and turns its results into
//! response messages.

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    auth::client::Client,
    error::{ErrorReason, RequestError},
    grpc::{requests::DecodedRequest, responses},
    models::registry::Catalogue,
    pipeline::{
        dispatcher::InferenceService,
        item_result::ItemResult,
        request::InferenceRequest,
        streams::write_timing::{PendingWrite, TimedMessage},
    },
    request::{
        deadline::{Deadline, DefaultDeadline},
        memory_budget::BudgetPermit,
    },
    telemetry::tracing::TraceScope,
};

/// The maximum length of a request's `tag`, in bytes.
pub const MAX_TAG_BYTES: usize = 128;

/// The responses to a call.
pub(crate) type Responses<R> = BoxStream<'static, Result<R, Status>>;

/// Handles the calls of every gRPC method and of the HTTP API.
#[derive(Clone, Debug)]
pub struct RequestHandler {
    /// Runs requests.
    pub inference: Arc<dyn InferenceService>,
    /// Lists the models.
    pub models: Arc<dyn Catalogue>,
    /// The duration of a call without a deadline of the client.
    pub default_deadline: Option<Duration>,
    /// How many requests of one `AskStream` are in progress at the same time.
    pub stream_window: usize,
    /// Cancelled when the server accepts no more requests.
    pub stop: CancellationToken,
}

impl RequestHandler {
    /// Handles a call with one request message.
    pub(crate) async fn handle<Q, R>(&self, request: Request<Q>) -> Result<Response<Responses<R>>, Status>
    where
        Q: Into<DecodedRequest>,
        R: responses::Response,
    {
        let client = client_of(&request)?;
        let budget =
            request.extensions().get::<BudgetPermit>().map(BudgetPermit::next_message).unwrap_or_default();
        let client_deadline = request.extensions().get::<Deadline>().copied();
        let default_deadline = request.extensions().get::<DefaultDeadline>().map(|default| default.0);
        let trace = trace_of(&request);
        let mut responses =
            self.begin(request.into_inner(), client, client_deadline, default_deadline, budget, trace)?;
        // The headers are sent with the first response. Until then, a client library can retry the
        // call on another server. A single response is also one segment on the wire instead of two.
        let first = responses.next().await.transpose()?;
        let responses = stream::iter(first.map(Ok)).chain(responses);
        Ok(Response::new(responses.map(|response| Ok(response?.take())).boxed()))
    }

    /// Begins one request. Its deadline is `client_deadline`, or else `default_deadline`.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    pub fn begin<R: responses::Response>(
        &self,
        request: impl Into<DecodedRequest>,
        client: Client,
        client_deadline: Option<Deadline>,
        default_deadline: Option<Deadline>,
        budget: BudgetPermit,
        trace: TraceScope,
    ) -> Result<BoxStream<'static, Result<TimedMessage<R>, RequestError>>, RequestError> {
        let DecodedRequest { inputs, task, format, priority, tag, in_order, model } = request.into();
        if tag.len() > MAX_TAG_BYTES {
            return Err(RequestError::new(ErrorReason::TagTooLong)
                .field("tag")
                .value(format!("{} bytes", tag.len()))
                .limit(format!("{MAX_TAG_BYTES} bytes")));
        }
        let images = inputs.iter().filter(|input| input.image.is_some()).count();
        let images = u32::try_from(images).unwrap_or(u32::MAX);
        let write_trace = trace.clone();
        let results = self.inference.infer(InferenceRequest {
            inputs,
            task,
            model,
            format,
            client,
            priority: priority.into(),
            deadline: client_deadline.or(default_deadline),
            in_order,
            // A deadline of the client ends the call. The default deadline fails only the items
            // that are late.
            complete_on_error: client_deadline.is_none(),
            budget,
            trace,
        })?;
        let response = move |result: ItemResult| {
            let write = PendingWrite::of(&result, &write_trace);
            TimedMessage::new(R::new(result, &tag, images), write)
        };
        Ok(results.map(move |result| result.map(&response)).boxed())
    }

    /// Returns the deadline of a request that arrives now without a deadline of the client.
    #[must_use]
    pub fn deadline_from_now(&self) -> Option<Deadline> {
        Instant::now().checked_add(self.default_deadline?).map(Deadline)
    }
}

/// Returns the client that the authentication layer stored in the request, or an error if there is
/// none.
pub(crate) fn client_of<T>(request: &Request<T>) -> Result<Client, RequestError> {
    let client = request.extensions().get::<Client>().cloned();
    client.ok_or_else(|| RequestError::new(ErrorReason::InternalError).cause("unauthenticated request"))
}

/// Returns the span of a call, or an empty scope if it is not traced.
pub(crate) fn trace_of<T>(request: &Request<T>) -> TraceScope {
    request.extensions().get().cloned().unwrap_or_default()
}
