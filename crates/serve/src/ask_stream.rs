//! `BlipService.AskStream`: requests without end on one call, their answers as they become ready.
//!
//! The response stream drives everything: a client that does not read is not read from either, beyond the requests that
//! are being worked on.

use futures::{FutureExt as _, Stream, StreamExt as _, future, stream, stream::BoxStream};
use opentelemetry::trace::SpanKind;
use tonic::Status;

use crate::{
    ask::{AskService, MAX_TAG_BYTES},
    caller::Caller,
    deadline::Deadline,
    errors::{Reason, Refusal},
    frontend::Outcome,
    proto::{AskRequest, AskResponse},
    responses::Response as _,
    telemetry::trace::TraceScope,
    upload::Held,
    writing::Outgoing,
};

type Responses = BoxStream<'static, Result<Outgoing<AskResponse>, Status>>;

/// One `AskStream` call.
#[derive(Debug)]
pub struct Conversation {
    /// Answers each request.
    pub service: AskService,
    /// Who asks.
    pub caller: Caller,
    /// When the call ends at the latest.
    pub deadline: Option<Deadline>,
    /// The room that its requests take, message by message.
    pub held: Held,
    /// The span of the call: each request has one below it.
    pub trace: TraceScope,
}

impl Conversation {
    /// Answers `requests`, in order if the first of them says so.
    pub fn answer(
        self,
        requests: impl Stream<Item = Result<AskRequest, Status>> + Send + Unpin + 'static,
    ) -> BoxStream<'static, Result<AskResponse, Status>> {
        let (deadline, stop) = (self.deadline, self.service.stop.clone());
        let mut requests = requests.take_until(stop.clone().cancelled_owned().boxed());
        let responses = async move {
            match requests.next().await {
                None => stream::empty().boxed(),
                Some(first) => {
                    let in_order = first.as_ref().is_ok_and(|first| first.in_order);
                    self.answer_all(stream::iter([first]).chain(requests), in_order)
                }
            }
        };
        // What a server that stops has left unread is for another one.
        let end = future::lazy(move |_| stop.is_cancelled().then(|| Err(shutting_down())));
        let responses = responses.flatten_stream().chain(stream::once(end).filter_map(future::ready));
        Deadline::bound(deadline, responses).map(|response| response.map(Outgoing::take)).boxed()
    }

    fn answer_all(
        self,
        requests: impl Stream<Item = Result<AskRequest, Status>> + Send + 'static,
        in_order: bool,
    ) -> Responses {
        let window = self.service.stream_window.max(1);
        let answers = requests.map(move |request| match request {
            Ok(request) => self.answer_one(AskRequest { in_order, ..request }),
            Err(status) => stream::iter([Err(status)]).boxed(),
        });
        if in_order {
            answers
                .map(|responses| responses.collect::<Vec<_>>())
                .buffered(window)
                .flat_map(stream::iter)
                .boxed()
        } else {
            answers.flatten_unordered(window).boxed()
        }
    }

    /// The responses to one request; a refusal of the whole of it is a response, too.
    fn answer_one(&self, request: AskRequest) -> Responses {
        let tag = request.tag.clone();
        let tag = tag.get(..tag.floor_char_boundary(MAX_TAG_BYTES)).unwrap_or_default();
        let trace = self.trace.child("request", SpanKind::Internal, || []);
        let service = &self.service;
        let (caller, held) = (self.caller.clone(), self.held.next_message());
        let otherwise = service.deadline_from_now();
        match service.begin(request, caller, self.deadline, otherwise, held, trace.clone()) {
            Ok(responses) => responses.map(|response| response.map_err(Status::from)).boxed(),
            Err(refusal) => {
                trace.fail(refusal.reason().row().name);
                let whole = Outcome { image_index: 0, question_index: 0, ready: None, reply: Err(refusal) };
                stream::iter([Ok(Outgoing::new(AskResponse::new(whole, tag, 0), None))]).boxed()
            }
        }
    }
}

fn shutting_down() -> Status {
    Refusal::new(Reason::ShuttingDown).into()
}
