//! `BlipService.Ask`: a request in, its answers out as each one is ready.
//!
//! A call is one stream of futures, and the connection drives it: nothing but fetches is spawned and there is no channel
//! to fill. A caller who reads slowly holds back only that stream; when the caller hangs up the stream is dropped, and with it
//! everything that lies ahead: fetches, images not yet decoded, and tickets, which cancels their jobs.

use std::{
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
    time::Duration,
};

use blip::{Pixels, RowAnswer};
use futures::{FutureExt as _, Stream, StreamExt as _, future, stream, stream::BoxStream};
use scheduler::{ClientId, Done, Engine, Job, Priority, Scheduler};
use tokio::{sync::watch, time::Instant};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};
use tonic::{Request, Response, Status};

use crate::{
    deadline::Deadline,
    errors::{Reason, Refusal},
    fetching::Fetching,
    gate::Gate,
    intake::{Cost, Intake, Ready, ReadyImage, ReadyQuestion, TokenIds},
    prepare::prepare,
    proto::{
        Answer, AskRequest, AskResponse, Timing, ask_response::Outcome, blip_service_server::BlipService,
    },
    refusals::{refuse_job, refuse_submission},
    settings::RequestLimits,
    upload::Held,
    validate::{Input, validate},
};

/// An engine that answers questions about images as the BLIP model does.
pub trait Answering: Engine<Image = Pixels, Question = TokenIds, Answer = RowAnswer> {}

impl<E: Engine<Image = Pixels, Question = TokenIds, Answer = RowAnswer>> Answering for E {}

/// What a loaded model needs to answer.
#[derive(Debug)]
pub struct Pipeline<E: Answering> {
    /// From URLs to bytes.
    pub fetching: Fetching,
    /// From bytes to pixels and token ids.
    pub intake: Intake,
    /// From pixels and token ids to answers.
    pub scheduler: Scheduler<E>,
}

/// The service.
#[derive(Debug)]
pub struct AskService<E: Answering> {
    gate: watch::Receiver<Gate<E>>,
    limits: RequestLimits,
    in_flight: TaskTracker,
}

impl<E: Answering> AskService<E> {
    /// A service that answers while `gate` is open. Every call in flight is counted in `in_flight`.
    pub fn new(gate: watch::Receiver<Gate<E>>, limits: RequestLimits, in_flight: TaskTracker) -> Self {
        Self { gate, limits, in_flight }
    }
}

#[tonic::async_trait]
impl<E: Answering> BlipService for AskService<E> {
    type AskStream = BoxStream<'static, Result<AskResponse, Status>>;

    async fn ask(&self, request: Request<AskRequest>) -> Result<Response<Self::AskStream>, Status> {
        let in_flight = self.in_flight.token();
        let pipeline = self.gate.borrow().pipeline()?;
        let call = Arc::new(Call {
            pipeline,
            arrived: Instant::now(),
            deadline: request.extensions().get::<Deadline>().copied(),
            client: client_of(&request),
            _in_flight: in_flight,
        });
        let held = request.extensions().get::<Held>().cloned().unwrap_or_default();
        let inputs = validate(request.into_inner(), &self.limits)?;
        let deadline = call.deadline;
        let responses = answers(call, inputs, held).map(Ok);
        Ok(Response::new(Deadline::bound(deadline, responses).boxed()))
    }
}

/// Where there are no keys, a connection is a client.
fn client_of<T>(request: &Request<T>) -> ClientId {
    let mut hasher = DefaultHasher::new();
    request.remote_addr().hash(&mut hasher);
    ClientId(hasher.finish())
}

/// What all pairs of one call share.
struct Call<E: Answering> {
    pipeline: Arc<Pipeline<E>>,
    arrived: Instant,
    deadline: Option<Deadline>,
    client: ClientId,
    /// Ends when the last answer has been handed to the connection.
    _in_flight: TaskTrackerToken,
}

/// One response for each pair, in the order in which they become ready.
fn answers<E: Answering>(
    call: Arc<Call<E>>,
    inputs: Vec<Input>,
    held: Held,
) -> impl Stream<Item = AskResponse> + Send + 'static {
    let Pipeline { intake, fetching, .. } = &*call.pipeline;
    let ready = prepare(intake.clone(), fetching.clone(), inputs, held);
    ready.flat_map_unordered(None, move |ready| answer_input(&call, ready))
}

/// The answers to all questions about one image.
fn answer_input<E: Answering>(call: &Arc<Call<E>>, ready: Ready) -> BoxStream<'static, AskResponse> {
    let Ready { index, image, questions, cost } = ready;
    let answers = (0..).zip(questions).map(|(position, question)| {
        let pair = question.and_then(|question| Ok((image.clone()?, question)));
        let answer = match pair {
            Ok((image, question)) => answer_pair(Arc::clone(call), image, question, cost).left_future(),
            Err(refusal) => future::ready(Err(refusal)).right_future(),
        };
        answer.map(move |outcome| respond(index, position, outcome))
    });
    answers.collect::<stream::FuturesUnordered<_>>().boxed()
}

/// Submits a pair at once, so that all pairs of an image stand in the queue together, and gives the wait for it.
fn answer_pair<E: Answering>(
    call: Arc<Call<E>>,
    image: ReadyImage,
    question: ReadyQuestion,
    cost: Cost,
) -> impl Future<Output = Result<Answer, Refusal>> + Send + 'static {
    let job = Job {
        client: call.client,
        priority: Priority::Normal,
        weight: 1,
        deadline: call.deadline.map(|deadline| deadline.0),
        image: image.key,
        image_bytes: image.pixels.data().len(),
        image_payload: image.pixels,
        question_key: question.key,
        tokens: u32::try_from(question.ids.0.len()).unwrap_or(u32::MAX),
        question: question.ids,
    };
    let submitted = call.pipeline.scheduler.submit(job);
    async move {
        let ticket = submitted.map_err(|refused| match call.deadline {
            Some(deadline) if deadline.0 <= Instant::now() => Refusal::new(Reason::DeadlineExceeded),
            _ => refuse_submission(&refused),
        })?;
        let done = ticket.await.map_err(|error| refuse_job(&error))?;
        Ok(answer(&call, done, cost))
    }
}

fn answer<E: Answering>(call: &Call<E>, done: Done<RowAnswer>, cost: Cost) -> Answer {
    let milliseconds = |duration: Duration| duration.as_secs_f64() * 1e3;
    let row = done.answer;
    Answer {
        text: call.pipeline.intake.answer_text(&row.token_ids),
        score: row.score,
        margin: row.margin,
        token_ids: row.token_ids.iter().filter_map(|id| u32::try_from(*id).ok()).collect(),
        timing: Some(Timing {
            queue_ms: milliseconds(done.queue),
            preprocess_ms: milliseconds(cost.preprocess),
            vision_ms: milliseconds(row.vision),
            text_ms: milliseconds(row.text),
            decode_ms: milliseconds(row.decode),
            total_ms: milliseconds(call.arrived.elapsed()),
            batch_images: done.batch_images,
            batch_questions: done.batch_questions,
            image_reused: row.image_reused,
            answer_shared: done.shared,
            fetch_ms: milliseconds(cost.fetch),
        }),
    }
}

fn respond(image_index: u32, question_index: u32, outcome: Result<Answer, Refusal>) -> AskResponse {
    let outcome = match outcome {
        Ok(answer) => Outcome::Answer(answer),
        Err(refusal) => Outcome::Error(refusal.to_rpc_status()),
    };
    AskResponse { image_index, question_index, outcome: Some(outcome) }
}
