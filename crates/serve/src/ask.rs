//! `BlipService`: the gRPC methods, in front of [`Ask`].

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use scheduler::Priority;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    ask_stream::Conversation,
    caller::Caller,
    deadline::{Deadline, DefaultDeadline},
    errors::{Reason, Refusal},
    frontend::{Ask, Asked, Outcome},
    place::Form,
    proto::{
        self, AskRequest, AskResponse, CaptionRequest, CaptionResponse, EmbedRequest, EmbedResponse,
        GetModelRequest, ListModelsRequest, ListModelsResponse, MatchRequest, MatchResponse, Model,
        ask_response, blip_service_server::BlipService,
    },
    telemetry::trace::TraceScope,
    upload::Held,
};

/// Longest `AskRequest.tag`, in bytes.
pub const MAX_TAG_BYTES: usize = 128;

/// The service.
#[derive(Clone, Debug)]
pub struct AskService {
    /// Answers.
    pub frontend: Arc<dyn Ask>,
    /// How long a call may take whose caller sets no deadline.
    pub default_deadline: Option<Duration>,
    /// Requests of one `AskStream` that are worked on at a time.
    pub stream_window: usize,
    /// Cancelled when the server takes no more requests.
    pub stop: CancellationToken,
}

#[tonic::async_trait]
impl BlipService for AskService {
    type AskStream = BoxStream<'static, Result<AskResponse, Status>>;
    type AskStreamStream = BoxStream<'static, Result<AskResponse, Status>>;
    type CaptionStream = BoxStream<'static, Result<CaptionResponse, Status>>;
    type MatchStream = BoxStream<'static, Result<MatchResponse, Status>>;
    type EmbedStream = BoxStream<'static, Result<EmbedResponse, Status>>;

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<Self::AskStream>, Status> {
        let caller = caller_of(&request)?;
        let held = request.extensions().get::<Held>().map(Held::next_message).unwrap_or_default();
        let own = request.extensions().get::<Deadline>().copied();
        let otherwise = request.extensions().get::<DefaultDeadline>().map(|default| default.0);
        let trace = trace_of(&request);
        let responses = self.begin(request.into_inner(), caller, own, otherwise, held, trace)?;
        let mut responses = responses.map(|response| response.map_err(Status::from));
        // Headers go out along with the first response. A client library retries elsewhere what a server that goes away has
        // not begun to answer, and a lone answer is one segment on the wire instead of two.
        let first = responses.next().await.transpose()?;
        Ok(Response::new(stream::iter(first.map(Ok)).chain(responses).boxed()))
    }

    async fn ask_stream(
        &self,
        request: Request<Streaming<AskRequest>>,
    ) -> Result<Response<Self::AskStreamStream>, Status> {
        let caller = caller_of(&request)?;
        let held = request.extensions().get::<Held>().cloned().unwrap_or_default();
        let deadline = request.extensions().get::<Deadline>().copied();
        let trace = trace_of(&request);
        let conversation = Conversation { service: self.clone(), caller, deadline, held, trace };
        Ok(Response::new(conversation.answer(request.into_inner())))
    }

    async fn caption(&self, _: Request<CaptionRequest>) -> Result<Response<Self::CaptionStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn r#match(&self, _: Request<MatchRequest>) -> Result<Response<Self::MatchStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn embed(&self, _: Request<EmbedRequest>) -> Result<Response<Self::EmbedStream>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Err(Status::unimplemented("not yet"))
    }

    async fn get_model(&self, _: Request<GetModelRequest>) -> Result<Response<Model>, Status> {
        Err(Status::unimplemented("not yet"))
    }
}

impl AskService {
    /// Begins to answer one request by the deadline that its caller has set, `own`, or by the one that holds `otherwise`;
    /// its tag is in every response.
    ///
    /// # Errors
    /// A [`Refusal`] of the whole request.
    pub fn begin(
        &self,
        request: AskRequest,
        caller: Caller,
        own: Option<Deadline>,
        otherwise: Option<Deadline>,
        held: Held,
        trace: TraceScope,
    ) -> Result<BoxStream<'static, Result<AskResponse, Refusal>>, Refusal> {
        if request.tag.len() > MAX_TAG_BYTES {
            return Err(Refusal::new(Reason::TagTooLong)
                .field("tag")
                .value(format!("{} bytes", request.tag.len()))
                .limit(format!("{MAX_TAG_BYTES} bytes")));
        }
        let priority = match request.priority() {
            proto::Priority::High => Priority::High,
            proto::Priority::Unspecified | proto::Priority::Normal => Priority::Normal,
            proto::Priority::Low => Priority::Low,
        };
        let AskRequest { inputs, tag, in_order, .. } = request;
        let deadline = own.or(otherwise);
        let form = Form::Grpc;
        // A deadline that the caller has set ends the call; one that it has not, only what is late.
        let every_pair = own.is_none();
        let asked = Asked { inputs, form, caller, priority, deadline, in_order, every_pair, held, trace };
        let outcomes = self.frontend.ask(asked)?;
        Ok(outcomes.map(move |outcome| outcome.map(|outcome| respond(outcome, &tag))).boxed())
    }

    /// By when a request that comes now is answered whose caller has set no deadline.
    #[must_use]
    pub fn deadline_from_now(&self) -> Option<Deadline> {
        Instant::now().checked_add(self.default_deadline?).map(Deadline)
    }
}

/// Whom the authentication ahead of this service has found. Without any, nobody is answered.
fn caller_of<T>(request: &Request<T>) -> Result<Caller, Refusal> {
    let known = request.extensions().get::<Caller>().cloned();
    known.ok_or_else(|| Refusal::new(Reason::InternalError).cause("the caller is not known"))
}

/// The span of a call, if it is traced.
fn trace_of<T>(request: &Request<T>) -> TraceScope {
    request.extensions().get().cloned().unwrap_or_default()
}

/// An outcome as a message.
#[must_use]
pub fn respond(outcome: Outcome, tag: &str) -> AskResponse {
    let Outcome { image_index, question_index, answer } = outcome;
    let outcome = match answer {
        Ok(answer) => ask_response::Outcome::Answer(answer),
        Err(refusal) => ask_response::Outcome::Error(refusal.to_rpc_status()),
    };
    AskResponse { image_index, question_index, outcome: Some(outcome), tag: tag.to_owned() }
}
