//! `BlipService.AskStream`: an unbounded stream of requests in one call, with results as they
//! become ready.
//!
//! The response stream drives the call. If the client stops reading responses, the server stops
//! reading requests beyond those in progress.

use futures::{FutureExt as _, Stream, StreamExt as _, future, stream, stream::BoxStream};
use opentelemetry::trace::SpanKind;
use proto::{AskRequest, AskResponse};
use tonic::Status;

use crate::{
    auth::client::Client,
    error::{ErrorReason, RequestError},
    grpc::{
        handler::{MAX_TAG_BYTES, RequestHandler},
        responses::Response as _,
    },
    pipeline::{item_result::ItemResult, streams::write_timing::TimedMessage},
    request::{deadline::Deadline, memory_budget::BudgetPermit},
    telemetry::tracing::TraceScope,
};

type Responses = BoxStream<'static, Result<TimedMessage<AskResponse>, Status>>;

/// One `AskStream` call.
#[derive(Debug)]
pub struct AskStreamSession {
    /// Handles each request.
    pub handler: RequestHandler,
    /// The client.
    pub client: Client,
    /// The deadline of the call.
    pub deadline: Option<Deadline>,
    /// The memory that its requests occupy, message by message.
    pub budget: BudgetPermit,
    /// The span of the call. Each request has a child span.
    pub trace: TraceScope,
}

impl AskStreamSession {
    /// Handles `requests`. The first request sets whether results come in order.
    pub fn handle(
        self,
        requests: impl Stream<Item = Result<AskRequest, Status>> + Send + Unpin + 'static,
    ) -> BoxStream<'static, Result<AskResponse, Status>> {
        let (deadline, stop) = (self.deadline, self.handler.stop.clone());
        let mut requests = requests.take_until(stop.clone().cancelled_owned().boxed());
        let responses = async move {
            match requests.next().await {
                None => stream::empty().boxed(),
                Some(first) => {
                    let in_order = first.as_ref().is_ok_and(|first| first.in_order);
                    self.handle_all(stream::iter([first]).chain(requests), in_order)
                }
            }
        };
        // Requests that a stopping server has not read are retried on another server.
        let end = future::lazy(move |_| stop.is_cancelled().then(|| Err(shutting_down())));
        let responses = responses.flatten_stream().chain(stream::once(end).filter_map(future::ready));
        Deadline::bound(deadline, responses).map(|response| response.map(TimedMessage::take)).boxed()
    }

    fn handle_all(
        self,
        requests: impl Stream<Item = Result<AskRequest, Status>> + Send + 'static,
        in_order: bool,
    ) -> Responses {
        let window = self.handler.stream_window.max(1);
        let results = requests.map(move |request| match request {
            Ok(request) => self.handle_one(AskRequest { in_order, ..request }),
            Err(status) => stream::iter([Err(status)]).boxed(),
        });
        if in_order {
            results
                .map(|responses| responses.collect::<Vec<_>>())
                .buffered(window)
                .flat_map(stream::iter)
                .boxed()
        } else {
            results.flatten_unordered(window).boxed()
        }
    }

    /// Returns the responses to one request. An error of the whole request is one response.
    fn handle_one(&self, request: AskRequest) -> Responses {
        let tag = request.tag.clone();
        let tag = tag.get(..tag.floor_char_boundary(MAX_TAG_BYTES)).unwrap_or_default();
        let trace = self.trace.child("request", SpanKind::Internal, || []);
        let handler = &self.handler;
        let (client, budget) = (self.client.clone(), self.budget.next_message());
        let default_deadline = handler.deadline_from_now();
        match handler.begin(request, client, self.deadline, default_deadline, budget, trace.clone()) {
            Ok(responses) => responses.map(|response| response.map_err(Status::from)).boxed(),
            Err(error) => {
                trace.fail(error.reason().spec().name);
                let whole = ItemResult { image_index: 0, text_index: 0, ready: None, reply: Err(error) };
                stream::iter([Ok(TimedMessage::new(AskResponse::new(whole, tag, 0), None))]).boxed()
            }
        }
    }
}

fn shutting_down() -> Status {
    RequestError::new(ErrorReason::ShuttingDown).into()
}
