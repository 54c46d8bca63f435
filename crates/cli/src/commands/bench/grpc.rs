//! Load by gRPC.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use blip_server::error::code_name;
use load_generator::{LoadRequest, LoadResult, Target};
use proto::{AskRequest, Image, ImageQuestions, Question, ask_response::Outcome, image::Source};
use tonic::Status;
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::connection::{ConnectionArgs, RpcClient};

/// A blip-serve server. Requests use its connections in turn.
#[derive(Debug)]
pub(crate) struct GrpcTarget {
    clients: Vec<RpcClient>,
    next: AtomicUsize,
}

impl GrpcTarget {
    pub(crate) async fn connect(
        connection: &ConnectionArgs,
        connections: usize,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let mut clients = Vec::with_capacity(connections);
        for _ in 0..connections {
            clients.push(connection.client(Some(timeout)).await?);
        }
        Ok(Self { clients, next: AtomicUsize::new(0) })
    }

    async fn ask(&self, request: LoadRequest) -> Result<LoadResult, Status> {
        let next = self.next.fetch_add(1, Ordering::Relaxed) % self.clients.len().max(1);
        let client = self.clients.get(next).ok_or_else(|| Status::internal("no connection"))?;
        let to_question = |text| Question { text, ..Question::default() };
        let input = ImageQuestions {
            image: Some(Image { source: Some(Source::Data(request.image)) }),
            questions: request.questions.into_iter().map(to_question).collect(),
        };
        let message = AskRequest { inputs: vec![input], ..AskRequest::default() };
        let mut responses = client.stub().ask(client.request(message)).await?.into_inner();
        let mut result = LoadResult::default();
        while let Some(response) = responses.message().await? {
            match response.outcome {
                Some(Outcome::Answer(_)) => result.answered += 1,
                Some(Outcome::Error(error)) => {
                    let reason = error.get_details_error_info().map(|info| info.reason);
                    result.errors.push(reason.unwrap_or_else(|| code_name(error.code.into())));
                }
                None => result.errors.push("EMPTY_RESPONSE".to_owned()),
            }
        }
        Ok(result)
    }
}

impl Target for GrpcTarget {
    async fn send(&self, request: LoadRequest) -> LoadResult {
        let questions = request.questions.len();
        self.ask(request).await.unwrap_or_else(|status| {
            let reason = status.get_details_error_info().map(|info| info.reason);
            let reason = reason.unwrap_or_else(|| code_name(status.code()));
            LoadResult { answered: 0, errors: vec![reason; questions] }
        })
    }
}
