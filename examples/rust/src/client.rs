//! Asks a fleet of blip-serve servers, and loses no answer when servers come and go.
//!
//! Tonic reads no service config: it retries nothing and checks no health. Balancing over the servers is its own, and
//! asking again is done here, for calls that brought nothing and for what is missing of those that ended early.

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

/// The contract.
#[expect(unreachable_pub, clippy::allow_attributes_without_reason, reason = "generated")]
pub(crate) mod proto {
    tonic::include_proto!("blip.v1");
}

const ATTEMPTS: u32 = 12;
const MAX_BACKOFF: Duration = Duration::from_secs(5);

/// An image file's bytes with the questions about it.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) image: Vec<u8>,
    pub(crate) questions: Vec<String>,
}

/// Positions of an image and of a question about it.
type Pair = (usize, usize);

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
                // A connection whose other end is gone without a word is given up after 40 seconds.
                .http2_keep_alive_interval(Duration::from_secs(30))
                .keep_alive_timeout(Duration::from_secs(10))
        });
        let channel = Channel::balance_list(endpoints);
        let api_key =
            api_key.map(str::parse).transpose().context("the API key holds characters that no header can")?;
        Ok(Self { client: BlipServiceClient::new(channel), api_key })
    }

    /// Gives `tell` the outcome of each pair as it becomes ready.
    ///
    /// # Errors
    /// What the last call ended with, once asking again cannot help.
    pub(crate) async fn ask(
        &mut self,
        inputs: &[Input],
        timeout: Duration,
        mut tell: impl FnMut(usize, usize, Outcome),
    ) -> Result<(), Status> {
        let deadline = Instant::now() + timeout;
        let mut missing: BTreeSet<Pair> = BTreeSet::new();
        for (image, input) in inputs.iter().enumerate() {
            missing.extend((0..input.questions.len()).map(|question| (image, question)));
        }
        for attempt in 1.. {
            let backoff = MAX_BACKOFF.min(Duration::from_millis(100) * (1 << attempt.min(10)));
            let mut wait = backoff.mul_f64(rand::random());
            let last = attempt == ATTEMPTS;
            let ended = self.ask_once(inputs, &mut missing, deadline, |image, question, outcome| {
                match (&outcome, worth_waiting_outcome(&outcome)) {
                    (Outcome::Error(_), Some(delay)) if !last => {
                        wait = wait.max(delay);
                        false
                    }
                    _ => {
                        tell(image, question, outcome);
                        true
                    }
                }
            });
            let ended = ended.await;
            if missing.is_empty() {
                return Ok(());
            }
            if let Err(status) = ended {
                if deadline <= Instant::now() {
                    return Err(Status::deadline_exceeded("not everything was answered in time"));
                }
                match worth_waiting(&status) {
                    Some(delay) if !last => wait = wait.max(delay),
                    _ => return Err(status),
                }
            }
            sleep(wait).await;
        }
        Ok(())
    }

    /// One call for what is `missing`; takes out of it each pair whose outcome `told` has taken.
    async fn ask_once(
        &mut self,
        inputs: &[Input],
        missing: &mut BTreeSet<Pair>,
        deadline: Instant,
        mut told: impl FnMut(usize, usize, Outcome) -> bool,
    ) -> Result<(), Status> {
        let (request, pairs) = request_for(inputs, missing);
        let mut request = Request::new(request);
        request.set_timeout(deadline.saturating_duration_since(Instant::now()));
        if let Some(key) = &self.api_key {
            request.metadata_mut().insert("x-api-key", key.clone());
        }
        let mut responses = self.client.ask(request).await?.into_inner();
        while let Some(response) = responses.message().await? {
            let questions = pairs.get(response.image_index as usize);
            let pair = questions.and_then(|questions| questions.get(response.question_index as usize));
            let (Some(&pair), Some(outcome)) = (pair, response.outcome) else {
                return Err(Status::internal("the server answered what was not asked"));
            };
            if told(pair.0, pair.1, outcome) {
                missing.remove(&pair);
            }
        }
        Ok(())
    }
}

/// The request for what is missing, and which pair of `inputs` each of its pairs is.
fn request_for(inputs: &[Input], missing: &BTreeSet<Pair>) -> (AskRequest, Vec<Vec<Pair>>) {
    let mut request = AskRequest::default();
    let mut pairs = Vec::new();
    for (index, input) in inputs.iter().enumerate() {
        let wanted: Vec<Pair> = missing.range((index, 0)..=(index, usize::MAX)).copied().collect();
        if wanted.is_empty() {
            continue;
        }
        let texts = wanted.iter().filter_map(|(_, question)| input.questions.get(*question));
        request.inputs.push(ImageQuestions {
            image: Some(Image { source: Some(Source::Data(input.image.clone())) }),
            questions: texts.map(|text| Question { text: text.clone(), ..Question::default() }).collect(),
        });
        pairs.push(wanted);
    }
    (request, pairs)
}

/// How long to wait before asking a whole call again; `None` if that cannot help.
fn worth_waiting(status: &Status) -> Option<Duration> {
    if let Some(retry) = status.get_details_retry_info() {
        return Some(retry.retry_delay.unwrap_or_default());
    }
    // Without details it is no word of the server's: a connection, or a proxy's, has broken.
    let lost = [Code::Unavailable, Code::Internal, Code::Unknown, Code::Cancelled];
    let broken = status.details().is_empty() && lost.contains(&status.code());
    (broken || status.code() == Code::Unavailable).then_some(Duration::ZERO)
}

/// The same for a pair.
fn worth_waiting_outcome(outcome: &Outcome) -> Option<Duration> {
    let Outcome::Error(error) = outcome else { return None };
    match error.get_details_retry_info() {
        Some(retry) => Some(retry.retry_delay.unwrap_or_default()),
        None => (Code::from_i32(error.code) == Code::Unavailable).then_some(Duration::ZERO),
    }
}
