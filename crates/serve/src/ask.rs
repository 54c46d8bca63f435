//! `BlipService`: the gRPC methods, in front of [`Ask`].

use std::{sync::Arc, time::Duration};

use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    ask_stream::Conversation,
    caller::Caller,
    deadline::{Deadline, DefaultDeadline},
    errors::{Reason, Refusal},
    frontend::{Ask, Asked, Outcome},
    models::Catalogue,
    proto::{
        AskRequest, AskResponse, CaptionRequest, CaptionResponse, EmbedRequest, EmbedResponse,
        GetModelRequest, ListModelsRequest, ListModelsResponse, MatchRequest, MatchResponse, Model,
        blip_service_server::BlipService,
    },
    requests::Opened,
    responses,
    telemetry::trace::TraceScope,
    upload::Held,
    writing::{Outgoing, Unwritten},
};

/// Longest `tag` of a request, in bytes.
pub const MAX_TAG_BYTES: usize = 128;

/// The service.
#[derive(Clone, Debug)]
pub struct AskService {
    /// Answers.
    pub frontend: Arc<dyn Ask>,
    /// Tells which models there are.
    pub models: Arc<dyn Catalogue>,
    /// How long a call may take whose caller sets no deadline.
    pub default_deadline: Option<Duration>,
    /// Requests of one `AskStream` that are worked on at a time.
    pub stream_window: usize,
    /// Cancelled when the server takes no more requests.
    pub stop: CancellationToken,
}

/// The responses to a call.
type Responses<R> = BoxStream<'static, Result<R, Status>>;

#[tonic::async_trait]
impl BlipService for AskService {
    type AskStream = Responses<AskResponse>;
    type AskStreamStream = Responses<AskResponse>;
    type CaptionStream = Responses<CaptionResponse>;
    type MatchStream = Responses<MatchResponse>;
    type EmbedStream = Responses<EmbedResponse>;

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<Self::AskStream>, Status> {
        self.answer(request).await
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

    async fn caption(
        &self,
        request: Request<CaptionRequest>,
    ) -> Result<Response<Self::CaptionStream>, Status> {
        self.answer(request).await
    }

    async fn r#match(&self, request: Request<MatchRequest>) -> Result<Response<Self::MatchStream>, Status> {
        self.answer(request).await
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<Self::EmbedStream>, Status> {
        self.answer(request).await
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        Ok(Response::new(ListModelsResponse { models: self.models.list()? }))
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<Model>, Status> {
        let model = self.models.get(&request.get_ref().name).map_err(|refusal| refusal.field("name"))?;
        Ok(Response::new(model))
    }
}

impl AskService {
    /// Answers a call of one of the methods.
    async fn answer<Q, R>(&self, request: Request<Q>) -> Result<Response<Responses<R>>, Status>
    where
        Q: Into<Opened>,
        R: responses::Response,
    {
        let caller = caller_of(&request)?;
        let held = request.extensions().get::<Held>().map(Held::next_message).unwrap_or_default();
        let own = request.extensions().get::<Deadline>().copied();
        let otherwise = request.extensions().get::<DefaultDeadline>().map(|default| default.0);
        let trace = trace_of(&request);
        let mut responses = self.begin(request.into_inner(), caller, own, otherwise, held, trace)?;
        // Headers go out along with the first response. A client library retries elsewhere what a server that goes away has
        // not begun to answer, and a lone answer is one segment on the wire instead of two.
        let first = responses.next().await.transpose()?;
        let responses = stream::iter(first.map(Ok)).chain(responses);
        Ok(Response::new(responses.map(|response| Ok(response?.take())).boxed()))
    }

    /// Begins to answer one request by the deadline that its caller has set, `own`, or by the one that holds `otherwise`;
    /// its tag is in every response.
    ///
    /// # Errors
    /// A [`Refusal`] of the whole request.
    pub fn begin<R: responses::Response>(
        &self,
        request: impl Into<Opened>,
        caller: Caller,
        own: Option<Deadline>,
        otherwise: Option<Deadline>,
        held: Held,
        trace: TraceScope,
    ) -> Result<BoxStream<'static, Result<Outgoing<R>, Refusal>>, Refusal> {
        let Opened { inputs, wanted, form, priority, tag, in_order, model } = request.into();
        if tag.len() > MAX_TAG_BYTES {
            return Err(Refusal::new(Reason::TagTooLong)
                .field("tag")
                .value(format!("{} bytes", tag.len()))
                .limit(format!("{MAX_TAG_BYTES} bytes")));
        }
        let images = inputs.iter().filter(|input| input.image.is_some()).count();
        let images = u32::try_from(images).unwrap_or(u32::MAX);
        let deadline = own.or(otherwise);
        // A deadline that the caller has set ends the call; one that it has not, only what is late.
        let every_pair = own.is_none();
        let written = trace.clone();
        let asked = Asked {
            inputs,
            wanted,
            model,
            form,
            caller,
            priority,
            deadline,
            in_order,
            every_pair,
            held,
            trace,
        };
        let outcomes = self.frontend.ask(asked)?;
        let response = move |outcome: Outcome| {
            let answer = Unwritten::of(&outcome, &written);
            Outgoing::new(R::new(outcome, &tag, images), answer)
        };
        Ok(outcomes.map(move |outcome| outcome.map(&response)).boxed())
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
