//! One call to one model: what becomes of each of its (image, question) pairs, from the image's file to the reply.

use std::sync::Arc;

use blip::RowOutput;
use futures::{Stream, StreamExt as _, future, stream, stream::BoxStream};
use scheduler::{Job, Priority};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{
    answer_cache::Pair,
    caller::Caller,
    deadline::Deadline,
    errors::{Reason, Refusal},
    frontend::{Answering, Outcome, Pipeline},
    intake::{Cost, Intake, Ready, ReadyImage, ReadyQuestion},
    ledger,
    monitor::{self, AnswerMeters},
    pieces::Pieces,
    place::Place,
    prepare::prepare,
    refusals::{refuse_job, refuse_submission},
    reply::{Reply, TimedReply},
    row::QuestionRow,
    telemetry::trace::{PairTrace, TraceScope},
    upload::Held,
    validate::Input,
};

/// What all pairs of one call share.
#[derive(Debug)]
pub struct Call<E: Answering> {
    /// The model that is asked.
    pub pipeline: Arc<Pipeline<E>>,
    /// The model's, as far as this call is for answers that were kept.
    pub intake: Intake,
    /// When the request came.
    pub arrived: Instant,
    /// When answers stop being of use.
    pub deadline: Option<Deadline>,
    /// Who asks.
    pub caller: Caller,
    /// The class of its jobs.
    pub priority: Priority,
    /// Where answers are counted.
    pub meters: Arc<AnswerMeters>,
    /// The span of the request.
    pub trace: TraceScope,
    /// Whether questions and answers are logged.
    pub log_content: bool,
    /// Ends when the last answer has been handed to the connection.
    pub in_flight: TaskTrackerToken,
}

/// One outcome for each pair, in the order in which they become ready.
pub fn outcomes<E: Answering>(
    call: Arc<Call<E>>,
    inputs: Vec<Input>,
    held: Held,
) -> impl Stream<Item = Outcome> + Send + 'static {
    let lone = inputs.len() == 1;
    let (intake, fetching) = (call.intake.clone(), call.pipeline.fetching.clone());
    let ready = prepare(intake, fetching, inputs, held, call.trace.clone());
    let answers = move |ready| answer_input(&call, ready);
    if lone {
        ready.flat_map(answers).left_stream()
    } else {
        ready.flat_map_unordered(None, answers).right_stream()
    }
}

/// A question, and whether its answer has been computed before.
enum Answered {
    Before(RowOutput, ReadyQuestion),
    NotYet(ReadyImage, ReadyQuestion),
}

/// The outcomes of all texts about one image.
fn answer_input<E: Answering>(call: &Arc<Call<E>>, ready: Ready) -> BoxStream<'static, Outcome> {
    let Ready { place, image, questions, cost } = ready;
    let lone = questions.len() == 1;
    // Of one that was not needed nothing is asked.
    let image = image.unwrap_or_else(|| Err(Refusal::new(Reason::InternalError).cause("no image")));
    let mut replies = (0..).zip(questions).map(|(question_index, question)| {
        let question = question.and_then(|mut question| match question.kept.take() {
            Some(output) => Ok(Answered::Before(output, question)),
            None => Ok(Answered::NotYet(image.clone()?, question)),
        });
        let replies = match question {
            Ok(Answered::NotYet(image, question)) => {
                answer_pair(Arc::clone(call), place, question_index, image, question, cost).left_stream()
            }
            Ok(Answered::Before(output, question)) => {
                let reply = answer_again(Arc::clone(call), place, question_index, output, question, cost);
                stream::once(reply).left_stream().right_stream()
            }
            Err(refusal) => stream::once(future::ready(Err(refusal))).right_stream().right_stream(),
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
    let ReadyQuestion { key, ids, task, subject, tokens, .. } = question;
    let asked = call.log_content.then(|| call.intake.text(&ids.0));
    let pair = Pair::new(image.key, key);
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
    let intake = call.intake.clone();
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
        let timing = ledger::computed(&done, cost, call.arrived);
        let output = done.answer.answer.output;
        call.intake.answers().keep(pair, &output);
        let reply = Reply::new(&subject, output, timing, &call.intake);
        log_answer(place, question_index, asked, &reply);
        Ok((reply, Some(ready)))
    };
    match written {
        None => stream::once(reply).left_stream(),
        Some(written) => Pieces::new(written, intake).until(reply).right_stream(),
    }
}

/// The reply to a pair whose answer was kept. Late is late, though it would cost nothing.
fn answer_again<E: Answering>(
    call: Arc<Call<E>>,
    place: Place,
    question_index: u32,
    output: RowOutput,
    question: ReadyQuestion,
    cost: Cost,
) -> impl Future<Output = Result<TimedReply, Refusal>> + Send + 'static {
    let found = Instant::now();
    async move {
        let trace = PairTrace::begin(&call.trace, place.index, question_index);
        if call.deadline.is_some_and(|deadline| deadline.0 <= found) {
            let refusal = Refusal::new(Reason::DeadlineExceeded);
            trace.refused(&refusal);
            return Err(refusal);
        }
        trace.answered_before(&output);
        let asked = call.log_content.then(|| call.intake.text(&question.ids.0));
        let reply = Reply::new(&question.subject, output, ledger::reused(cost, call.arrived), &call.intake);
        log_answer(place, question_index, asked, &reply);
        Ok((reply, Some(found)))
    }
}

/// Tells of an answer in the log, if what was `asked` is to be told there.
fn log_answer(place: Place, question_index: u32, asked: Option<String>, reply: &Reply) {
    if let Some(asked) = asked {
        let image = place.index;
        tracing::info!(image, question_index, question = asked, answer = reply.text(), "answered");
    }
}
