//! A client for several blip-serve servers. It loses no answer when servers start or stop.
//!
//! Tonic balances calls over the servers. It supports no service config, so it neither retries
//! calls nor checks health. This client repeats calls without any response, and the unanswered
//! questions of calls that end early.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Context as _;
use proto::{
    AskRequest, Image, ImageQuestions, Question, ask_response::Outcome,
    blip_service_client::BlipServiceClient, image::Source,
};
use tokio::time::{Instant, sleep};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::{Channel, Endpoint},
};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

/// The types of the contract.
#[expect(unreachable_pub, clippy::allow_attributes_without_reason, reason = "generated")]
pub(crate) mod proto {
    tonic::include_proto!("blip.v1");
}

const ATTEMPTS: u32 = 12;
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// The bytes of an image file, with questions about it.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) image: Vec<u8>,
    pub(crate) questions: Vec<String>,
}

/// The index of an input and of one of its questions.
type QuestionIndex = (usize, usize);

#[derive(Debug)]
pub(crate) struct BlipClient {
    client: BlipServiceClient<Channel>,
    api_key: Option<MetadataValue<Ascii>>,
}

impl BlipClient {
    pub(crate) fn new(endpoints: Vec<Endpoint>, api_key: Option<&str>) -> anyhow::Result<Self> {
        let endpoints = endpoints.into_iter().map(|endpoint| {
            endpoint
                .connect_timeout(Duration::from_secs(5))
                // Closes a connection 40 seconds after its peer stops responding.
                .http2_keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(10))
        });
        let channel = Channel::balance_list(endpoints);
        let api_key = api_key
            .map(str::parse)
            .transpose()
            .context("invalid API key: contains characters that no header can hold")?;
        Ok(Self { client: BlipServiceClient::new(channel), api_key })
    }

    /// Passes the outcome of each question to `on_outcome` as it becomes ready.
    ///
    /// # Errors
    /// The status of the last call, if a retry cannot succeed.
    pub(crate) async fn ask(
        &mut self,
        inputs: &[Input],
        timeout: Duration,
        mut on_outcome: impl FnMut(usize, usize, Outcome),
    ) -> Result<(), Status> {
        let deadline = Instant::now() + timeout;
        let mut missing: BTreeSet<QuestionIndex> = BTreeSet::new();
        for (image, input) in inputs.iter().enumerate() {
            missing.extend((0..input.questions.len()).map(|question| (image, question)));
        }
        for attempt in 1.. {
            let backoff = MAX_BACKOFF.min(Duration::from_millis(100) * (1 << attempt.min(10)));
            let mut wait = backoff.mul_f64(rand::random());
            let last = attempt == ATTEMPTS;
            let result = self.ask_once(inputs, &mut missing, deadline, |image, question, outcome| {
                match (&outcome, outcome_retry_delay(&outcome)) {
                    (Outcome::Error(_), Some(delay)) if !last => {
                        wait = wait.max(delay);
                        false
                    }
                    _ => {
                        on_outcome(image, question, outcome);
                        true
                    }
                }
            });
            let result = result.await;
            if missing.is_empty() {
                return Ok(());
            }
            if let Err(status) = result {
                if deadline <= Instant::now() {
                    return Err(Status::deadline_exceeded("some questions have no answer"));
                }
                match retry_delay(&status) {
                    Some(delay) if !last => wait = wait.max(delay),
                    _ => return Err(status),
                }
            }
            sleep(wait).await;
        }
        Ok(())
    }

    /// Sends one call for the `missing` questions.
    ///
    /// Removes each question from `missing` for whose outcome `on_outcome` returns true.
    async fn ask_once(
        &mut self,
        inputs: &[Input],
        missing: &mut BTreeSet<QuestionIndex>,
        deadline: Instant,
        mut on_outcome: impl FnMut(usize, usize, Outcome) -> bool,
    ) -> Result<(), Status> {
        let (request, indices) = request_for(inputs, missing);
        let mut request = Request::new(request);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        if let Some(key) = &self.api_key {
            request.metadata_mut().insert("x-api-key", key.clone());
        }
        let mut responses = self.client.ask(request).await?.into_inner();
        while let Some(response) = responses.message().await? {
            let questions = indices.get(response.image_index as usize);
            let index = questions.and_then(|questions| questions.get(response.question_index as usize));
            let (Some(&index), Some(outcome)) = (index, response.outcome) else {
                return Err(Status::internal("response with an index that is not in the request"));
            };
            if on_outcome(index.0, index.1, outcome) {
                missing.remove(&index);
            }
        }
        Ok(())
    }
}

/// Returns the request for the `missing` questions, and the index in `inputs` of each of its
/// questions.
fn request_for(inputs: &[Input], missing: &BTreeSet<QuestionIndex>) -> (AskRequest, Vec<Vec<QuestionIndex>>) {
    let mut request = AskRequest::default();
    let mut indices = Vec::new();
    for (image, input) in inputs.iter().enumerate() {
        let open: Vec<QuestionIndex> = missing.range((image, 0)..=(image, usize::MAX)).copied().collect();
        if open.is_empty() {
            continue;
        }
        let texts = open.iter().filter_map(|(_, question)| input.questions.get(*question));
        request.inputs.push(ImageQuestions {
            image: Some(Image { source: Some(Source::Data(input.image.clone())) }),
            questions: texts.map(|text| Question { text: text.clone(), ..Question::default() }).collect(),
        });
        indices.push(open);
    }
    (request, indices)
}

/// Returns the delay before a call is repeated, or `None` if a retry cannot succeed.
fn retry_delay(status: &Status) -> Option<Duration> {
    if let Some(retry) = status.get_details_retry_info() {
        return Some(retry.retry_delay.unwrap_or_default());
    }
    // An error without details does not come from the server: a connection was lost, perhaps one of
    // a proxy.
    let connection_errors = [Code::Unavailable, Code::Internal, Code::Unknown, Code::Cancelled];
    let is_connection_lost = status.details().is_empty() && connection_errors.contains(&status.code());
    (is_connection_lost || status.code() == Code::Unavailable).then_some(Duration::ZERO)
}

/// Returns the delay before a question is repeated, or `None` if a retry cannot succeed.
fn outcome_retry_delay(outcome: &Outcome) -> Option<Duration> {
    let Outcome::Error(error) = outcome else { return None };
    match error.get_details_retry_info() {
        Some(retry) => Some(retry.retry_delay.unwrap_or_default()),
        None => (Code::from_i32(error.code) == Code::Unavailable).then_some(Duration::ZERO),
    }
}
