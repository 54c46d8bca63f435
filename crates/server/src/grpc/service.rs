//! `BlipService`: the gRPC methods, each a call of the [`RequestHandler`].

use proto::{
    AskRequest, AskResponse, CaptionRequest, CaptionResponse, EmbedRequest, EmbedResponse, GetModelRequest,
    ListModelsRequest, ListModelsResponse, MatchRequest, MatchResponse, Model,
};
use tonic::{Request, Response, Status, Streaming};

use crate::{
    grpc::{
        ask_stream::AskStreamSession,
        generated::blip_service_server::BlipService,
        handler::{RequestHandler, Responses, client_of, trace_of},
    },
    request::{deadline::Deadline, memory_budget::BudgetPermit},
};

#[tonic::async_trait]
impl BlipService for RequestHandler {
    type AskStream = Responses<AskResponse>;
    type AskStreamStream = Responses<AskResponse>;
    type CaptionStream = Responses<CaptionResponse>;
    type MatchStream = Responses<MatchResponse>;
    type EmbedStream = Responses<EmbedResponse>;

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<Self::AskStream>, Status> {
        self.handle(request).await
    }

    async fn ask_stream(
        &self,
        request: Request<Streaming<AskRequest>>,
    ) -> Result<Response<Self::AskStreamStream>, Status> {
        let client = client_of(&request)?;
        let budget = request.extensions().get::<BudgetPermit>().cloned().unwrap_or_default();
        let deadline = request.extensions().get::<Deadline>().copied();
        let trace = trace_of(&request);
        let session = AskStreamSession { handler: self.clone(), client, deadline, budget, trace };
        Ok(Response::new(session.handle(request.into_inner())))
    }

    async fn caption(
        &self,
        request: Request<CaptionRequest>,
    ) -> Result<Response<Self::CaptionStream>, Status> {
        self.handle(request).await
    }

    async fn r#match(&self, request: Request<MatchRequest>) -> Result<Response<Self::MatchStream>, Status> {
        self.handle(request).await
    }

    async fn embed(&self, request: Request<EmbedRequest>) -> Result<Response<Self::EmbedStream>, Status> {
        self.handle(request).await
    }

    async fn list_models(
        &self,
        _: Request<ListModelsRequest>,
    ) -> Result<Response<ListModelsResponse>, Status> {
        let models = self.models.list()?.iter().map(|model| Model::from(&**model)).collect();
        Ok(Response::new(ListModelsResponse { models }))
    }

    async fn get_model(&self, request: Request<GetModelRequest>) -> Result<Response<Model>, Status> {
        let model = self.models.get(&request.get_ref().name).map_err(|error| error.field("name"))?;
        Ok(Response::new(Model::from(&*model)))
    }
}
