//! Load by gRPC.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use blip_server::error::code_name;
use load_generator::{LoadRequest, LoadResult, Target};
use proto::{AskRequest, AskResponse, Image, ImageQuestions, Question, ask_response::Outcome, image::Source};
use tonic::{Status, Streaming};
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
        let mut result = LoadResult::default();
        let mut responses = responses(client, request).await?;
        while let Some(response) = responses.message().await? {
            match answer(response.outcome) {
                Ok(_) => result.answered += 1,
                Err(reason) => result.errors.push(reason),
            }
        }
        Ok(result)
    }
}

/// Sends a request.
async fn responses(client: &RpcClient, request: LoadRequest) -> Result<Streaming<AskResponse>, Status> {
    let to_question = |text| Question { text, ..Question::default() };
    let input = ImageQuestions {
        image: Some(Image { source: Some(Source::Data(request.image)) }),
        questions: request.questions.into_iter().map(to_question).collect(),
    };
    let message = AskRequest { inputs: vec![input], ..AskRequest::default() };
    Ok(client.stub().ask(client.request(message)).await?.into_inner())
}

/// Returns the text of an answer, or the reason of its error.
fn answer(outcome: Option<Outcome>) -> Result<String, String> {
    match outcome {
        Some(Outcome::Answer(answer)) => Ok(answer.text),
        Some(Outcome::Error(error)) => {
            let reason = error.get_details_error_info().map(|info| info.reason);
            Err(reason.unwrap_or_else(|| code_name(error.code.into())))
        }
        None => Err("EMPTY_RESPONSE".to_owned()),
    }
}

/// Returns the answers to the questions of a request, in order.
///
/// # Errors
/// The first error.
pub(crate) async fn answers(client: &RpcClient, request: LoadRequest) -> anyhow::Result<Vec<String>> {
    let mut answers = vec![String::new(); request.questions.len()];
    let mut responses = responses(client, request).await?;
    while let Some(response) = responses.message().await? {
        let text = answer(response.outcome).map_err(anyhow::Error::msg)?;
        if let Some(answer) = answers.get_mut(response.question_index as usize) {
            *answer = text;
        }
    }
    Ok(answers)
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
