//! Asking by gRPC.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use load_generator::{LoadRequest, LoadResult, Target};
use proto::{
    AskRequest, Image, ImageQuestions, Question, ask_response::Outcome,
    blip_service_client::BlipServiceClient, image::Source,
};
use server::error::code_name;
use tonic::{Request, Status, transport::Channel};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::connection::ConnectionOptions;

/// A server of ours, over some connections.
#[derive(Debug)]
pub(crate) struct GrpcTarget {
    clients: Vec<BlipServiceClient<Channel>>,
    /// Signed, and otherwise empty.
    template: Request<()>,
    limit: Duration,
    next: AtomicUsize,
}

impl GrpcTarget {
    pub(crate) async fn connect(
        connection: &ConnectionOptions,
        connections: usize,
        limit: Duration,
    ) -> anyhow::Result<Self> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(BlipServiceClient::new(connection.connect().await?));
        }
        let mut template = Request::new(());
        connection.sign(&mut template)?;
        Ok(Self { clients, template, limit, next: AtomicUsize::new(0) })
    }

    async fn responses(&self, request: LoadRequest) -> Result<LoadResult, Status> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len().max(1);
        let mut client = self.clients.get(turn).cloned().ok_or_else(|| Status::internal("no connection"))?;
        let input = ImageQuestions {
            image: Some(Image { source: Some(Source::Data(request.image)) }),
            questions: ask
                .questions
                .into_iter()
                .map(|text| Question { text, ..Question::default() })
                .collect(),
        };
        let message = AskRequest { inputs: vec![input], ..AskRequest::default() };
        let mut call =
            Request::from_parts(self.template.metadata().clone(), tonic::Extensions::default(), message);
        call.set_timeout(self.limit);
        let mut responses = client.ask(call).await?.into_inner();
        let mut reply = LoadResult::default();
        while let Some(response) = responses.message().await? {
            match response.outcome {
                Some(Outcome::Answer(_)) => reply.answered += 1,
                Some(Outcome::Error(error)) => {
                    let reason = error.get_details_error_info().map(|info| info.reason);
                    reply.errors.push(reason.unwrap_or_else(|| code_name(error.code.into())));
                }
                None => reply.errors.push("EMPTY_RESPONSE".to_owned()),
            }
        }
        Ok(reply)
    }
}

impl Target for GrpcTarget {
    async fn send(&self, request: LoadRequest) -> LoadResult {
        let questions = request.questions.len();
        match self.responses(request).await {
            Ok(reply) => reply,
            Err(status) => {
                let reason = status.get_details_error_info().map(|info| info.reason);
                let reason = reason.unwrap_or_else(|| code_name(status.code()));
                LoadResult { answered: 0, errors: vec![reason; questions] }
            }
        }
    }
}
