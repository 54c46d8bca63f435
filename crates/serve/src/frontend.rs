//! The one way in for all protocols: a request becomes a stream of outcomes, one for each (image, question) pair.
//!
//! A call is one stream of futures, and the connection drives it: nothing but fetches is spawned and there is no channel
//! to fill. A caller who reads slowly holds back only that stream; when the caller hangs up the stream is dropped, and
//! with it everything that lies ahead: fetches, images not yet decoded, and tickets, which cancels their jobs.

use std::{fmt, sync::Arc};

use blip::{Generation, Pixels};
use futures::{Stream, StreamExt as _, future, stream, stream::BoxStream};
use scheduler::{Engine, Job, Priority, Scheduler};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::{TaskTracker, task_tracker::TaskTrackerToken};

use crate::{
    caller::Caller,
    deadline::Deadline,
    description::Description,
    errors::{Reason, Refusal},
    every_pair::EveryPair,
    fetching::Fetching,
    in_order::InOrder,
    intake::{Cost, Intake, Ready, ReadyImage, ReadyQuestion},
    models::Models,
    monitor::{self, AnswerMeters},
    pieces::Pieces,
    place::{Form, Place},
    prepare::prepare,
    proto::{ImageQuestions, Model},
    refusals::{refuse_job, refuse_submission},
    reply::{Reply, TimedReply},
    row::{AnswerRow, QuestionRow},
    settings::RequestLimits,
    telemetry::trace::{PairTrace, TraceScope},
    upload::Held,
    validate::{Input, validate},
    wanted::Wanted,
};

/// An engine that answers questions about images as the BLIP model does.
pub trait Answering: Engine<Image = Pixels, Question = QuestionRow, Answer = AnswerRow> {}

impl<E: Engine<Image = Pixels, Question = QuestionRow, Answer = AnswerRow>> Answering for E {}

/// What a loaded model needs to answer.
#[derive(Debug)]
pub struct Pipeline<E: Answering> {
    /// What the model is.
    pub description: Arc<Description>,
    /// From URLs to bytes.
    pub fetching: Fetching,
    /// From bytes to pixels and token ids.
    pub intake: Intake,
    /// From pixels and token ids to answers.
    pub scheduler: Scheduler<E>,
    /// How it writes where a request does not say otherwise.
    pub generation: Generation,
}

impl<E: Answering> Pipeline<E> {
    /// What is told to callers of the model.
    #[must_use]
    pub fn to_proto(&self) -> Model {
        let mut lists: Vec<String> = self.intake.candidate_lists().keys().cloned().collect();
        lists.sort();
        self.description.to_proto(lists)
    }
}

/// A request of any protocol.
#[derive(Debug)]
pub struct Asked {
    /// The images, each with its texts.
    pub inputs: Vec<ImageQuestions>,
    /// What is wanted of them.
    pub wanted: Wanted,
    /// Which model is asked, by its name; the first that does what is wanted if empty.
    pub model: String,
    /// In whose words errors name a part of it.
    pub form: Form,
    /// Who asks.
    pub caller: Caller,
    /// The class asked for.
    pub priority: Priority,
    /// When answers stop being of use.
    pub deadline: Option<Deadline>,
    /// Whether outcomes are wanted in the order of the request.
    pub in_order: bool,
    /// Whether each pair that is not answered by the deadline is wanted as an outcome, instead of an end of the call.
    pub every_pair: bool,
    /// The room that the request takes until its images are decoded.
    pub held: Held,
    /// The span that those of its stages are below; off where nothing is traced.
    pub trace: TraceScope,
}

/// What became of one (image, text) pair, or a piece of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Position of the image in the request, from 0.
    pub image_index: u32,
    /// Position of the text among those about the image, from 0.
    pub question_index: u32,
    /// When an engine had the answer; of a piece, or where there is none, nothing.
    pub ready: Option<Instant>,
    /// What was wanted, or why there is none.
    pub reply: Result<Reply, Refusal>,
}

impl Outcome {
    /// Whether nothing more comes for the pair.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.reply.as_ref().map_or(true, Reply::is_last)
    }
}

/// The outcomes of each pair; or, as the last item, why the call ended early.
pub type Outcomes = BoxStream<'static, Result<Outcome, Refusal>>;

/// Takes requests.
pub trait Ask: Send + Sync + 'static {
    /// Begins to answer; dropping the stream drops whatever of it is still ahead.
    ///
    /// # Errors
    /// A [`Refusal`] of the whole request.
    fn ask(&self, asked: Asked) -> Result<Outcomes, Refusal>;
}

impl fmt::Debug for dyn Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

/// The way to the engine.
#[derive(Debug)]
pub struct Frontend<E: Answering> {
    models: Models<E>,
    limits: RequestLimits,
    in_flight: TaskTracker,
    meters: Arc<AnswerMeters>,
    log_content: bool,
}

impl<E: Answering> Frontend<E> {
    /// Answers by `models`. Every request in flight is counted in `in_flight`. Metrics go to the recorder that is
    /// installed at this moment.
    pub fn new(models: Models<E>, limits: RequestLimits, in_flight: TaskTracker) -> Self {
        Self { models, limits, in_flight, meters: Arc::default(), log_content: false }
    }

    /// Whether questions and answers are logged.
    #[must_use]
    pub fn log_content(self, log_content: bool) -> Self {
        Self { log_content, ..self }
    }
}

impl<E: Answering> Ask for Frontend<E> {
    fn ask(&self, asked: Asked) -> Result<Outcomes, Refusal> {
        let in_flight = self.in_flight.token();
        let Asked {
            wanted, model, form, caller, priority, deadline, in_order, every_pair, held, trace, ..
        } = asked;
        let pipeline = self.models.find(&model, wanted.architecture())?;
        let purpose = wanted.purpose(pipeline.generation, &self.limits)?;
        let inputs = validate(asked.inputs, form, purpose, &self.limits)?;
        let counts: Vec<u32> =
            inputs.iter().map(|input| u32::try_from(input.questions.len()).unwrap_or(u32::MAX)).collect();
        caller.admit(inputs.iter().map(|input| input.questions.len()).sum())?;
        let priority = caller.priority(priority);
        let arrived = Instant::now();
        let (meters, log_content, _in_flight) = (Arc::clone(&self.meters), self.log_content, in_flight);
        let call =
            Call { pipeline, arrived, deadline, caller, priority, meters, trace, log_content, _in_flight };
        let call = Arc::new(call);
        let mut outcomes = Deadline::bound(deadline, outcomes(call, inputs, held).map(Ok)).boxed();
        if every_pair {
            outcomes = EveryPair::new(outcomes, &counts).boxed();
        }
        if in_order {
            outcomes = InOrder::new(outcomes, counts).boxed();
        }
        Ok(outcomes)
    }
}

/// What all pairs of one call share.
struct Call<E: Answering> {
    pipeline: Arc<Pipeline<E>>,
    arrived: Instant,
    deadline: Option<Deadline>,
    caller: Caller,
    priority: Priority,
    meters: Arc<AnswerMeters>,
    trace: TraceScope,
    log_content: bool,
    /// Ends when the last answer has been handed to the connection.
    _in_flight: TaskTrackerToken,
}

/// One outcome for each pair, in the order in which they become ready.
fn outcomes<E: Answering>(
    call: Arc<Call<E>>,
    inputs: Vec<Input>,
    held: Held,
) -> impl Stream<Item = Outcome> + Send + 'static {
    let Pipeline { intake, fetching, .. } = &*call.pipeline;
    let lone = inputs.len() == 1;
    let ready = prepare(intake.clone(), fetching.clone(), inputs, held, call.trace.clone());
    let answers = move |ready| answer_input(&call, ready);
    if lone {
        ready.flat_map(answers).left_stream()
    } else {
        ready.flat_map_unordered(None, answers).right_stream()
    }
}

/// The outcomes of all texts about one image.
fn answer_input<E: Answering>(call: &Arc<Call<E>>, ready: Ready) -> BoxStream<'static, Outcome> {
    let Ready { place, image, questions, cost } = ready;
    let lone = questions.len() == 1;
    let mut replies = (0..).zip(questions).map(|(question_index, question)| {
        let pair = question.and_then(|question| Ok((image.clone()?, question)));
        let replies = match pair {
            Ok((image, question)) => {
                answer_pair(Arc::clone(call), place, question_index, image, question, cost).left_stream()
            }
            Err(refusal) => stream::once(future::ready(Err(refusal))).right_stream(),
        };
        let meters = Arc::clone(&call.meters);
        replies.map(move |reply| {
            let (reply, ready) = match reply {
                Ok((reply, ready)) => {
                    meters.observe(&reply, cost);
                    (Ok(reply), ready)
                }
                Err(refusal) => {
                    monitor::observe_refusal(&refusal);
                    (Err(refusal), None)
                }
            };
            Outcome { image_index: place.index, question_index, ready, reply }
        })
    });
    if lone && let Some(replies) = replies.next() {
        return replies.boxed();
    }
    stream::select_all(replies.map(|replies| replies.boxed())).boxed()
}

/// Submits a pair at once, so that all pairs of an image stand in the queue together, and gives the wait for it: its reply, the
/// last item, with the time at which the engine had it; and the pieces of it before that if they are wanted.
fn answer_pair<E: Answering>(
    call: Arc<Call<E>>,
    place: Place,
    question_index: u32,
    image: ReadyImage,
    question: ReadyQuestion,
    cost: Cost,
) -> impl Stream<Item = Result<TimedReply, Refusal>> + Send + 'static {
    let trace = PairTrace::begin(&call.trace, place.index, question_index);
    let ReadyQuestion { key, ids, task, subject, tokens } = question;
    let asked = call.log_content.then(|| call.pipeline.intake.text(&ids.0));
    let (told, written) = task.reports_tokens().then(mpsc::unbounded_channel).unzip();
    let job = Job {
        client: call.caller.client,
        priority: call.priority,
        weight: call.caller.weight,
        deadline: call.deadline.map(|deadline| deadline.0),
        image: image.key,
        image_bytes: image.pixels.data().len(),
        image_payload: image.pixels,
        question_key: key,
        tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
        question: Arc::new(QuestionRow { ids, task, tokens: told, trace: trace.scope() }),
    };
    let submission = Instant::now();
    let submitted = call.pipeline.scheduler.submit(job);
    let intake = call.pipeline.intake.clone();
    let reply = async move {
        let done = match submitted {
            Ok(ticket) => ticket.await.map_err(|error| refuse_job(&error)),
            Err(refused) => Err(match call.deadline {
                Some(deadline) if deadline.0 <= Instant::now() => Refusal::new(Reason::DeadlineExceeded),
                _ => refuse_submission(&refused),
            }),
        };
        let done = match done {
            Ok(done) => done,
            Err(refusal) => {
                trace.refused(&refusal);
                return Err(refusal);
            }
        };
        trace.answered(&done);
        let ready = submission + done.queue + done.engine;
        let reply = Reply::new(&subject, done, cost, call.arrived, &call.pipeline.intake);
        if let Some(asked) = asked {
            let image = place.index;
            tracing::info!(image, question_index, question = asked, answer = reply.text(), "answered");
        }
        Ok((reply, Some(ready)))
    };
    match written {
        None => stream::once(reply).left_stream(),
        Some(written) => Pieces::new(written, intake).until(reply).right_stream(),
    }
}
