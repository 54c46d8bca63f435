//! One call to one model: each of its items from the image file to the reply.

use std::sync::Arc;

use blip::{ATTENTION_MAP_STEPS, RowOutput, RowTask};
use futures::{Stream, StreamExt as _, future, stream, stream::BoxStream};
use scheduler::{Flow, Job, Priority};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::{
    auth::client::Client,
    cache::answers::AnswerKey,
    engine::payload::EngineInput,
    error::{ErrorReason, RequestError},
    models::loaded_model::{InferenceEngine, LoadedModel},
    pipeline::{
        errors::{job_error, submit_error},
        item_result::ItemResult,
        metrics::AnswerMetrics,
        reply::{Reply, TimedReply},
        streams::token_stream::TokenStream,
        timing::Timing,
        trace::ItemTrace,
    },
    preprocess::{
        pool::Origin,
        prepare_inputs::prepare_inputs,
        prepared::{PreparedImage, PreparedInput, PreparedText, PreprocessTiming, TokenIds},
        preparer::Preparer,
    },
    request::{deadline::Deadline, field_path::FieldPath, item::ValidatedInput, memory_budget::BudgetPermit},
    telemetry::{metrics, tracing::TraceScope},
};

/// What all items of one call share.
#[derive(Debug)]
pub struct Call<E: InferenceEngine> {
    /// The model.
    pub model: Arc<LoadedModel<E>>,
    /// The preparer of the model, without its answer cache if the call must not use it.
    pub preparer: Preparer,
    /// The time at which the request arrived.
    pub arrived: Instant,
    /// The time after which results are of no use.
    pub deadline: Option<Deadline>,
    /// The client.
    pub client: Client,
    /// The priority of the jobs.
    pub priority: Priority,
    /// Where results are counted.
    pub metrics: Arc<AnswerMetrics>,
    /// The span of the request.
    pub trace: TraceScope,
    /// Whether questions and answers are logged.
    pub log_content: bool,
    /// Marks the call as running until its last result is handed to the connection.
    pub in_flight: TaskTrackerToken,
}

/// Returns the results of all items in the order in which they become ready.
pub fn item_results<E: InferenceEngine>(
    call: Arc<Call<E>>,
    inputs: Vec<ValidatedInput>,
    budget: BudgetPermit,
) -> impl Stream<Item = ItemResult> + Send + 'static {
    let is_single = inputs.len() == 1;
    let flow = Flow { client: call.client.id, priority: call.priority, weight: call.client.weight };
    let origin = Origin { flow, deadline: call.deadline.map(|deadline| deadline.0) };
    let fetcher = call.model.fetcher.for_call(call.client.caller(), inputs.len());
    let inputs = prepare_inputs(call.preparer.clone(), fetcher, inputs, budget, origin, call.trace.clone());
    let results = move |input| input_results(&call, input);
    if is_single {
        inputs.flat_map(results).left_stream()
    } else {
        inputs.flat_map_unordered(None, results).right_stream()
    }
}

/// A text whose result is cached, or that the engine must compute.
enum Source {
    Cache(RowOutput, PreparedText),
    Engine(PreparedImage, PreparedText),
}

/// Returns the results of all texts of one input.
fn input_results<E: InferenceEngine>(
    call: &Arc<Call<E>>,
    input: PreparedInput,
) -> BoxStream<'static, ItemResult> {
    let PreparedInput { path, image, texts, timing } = input;
    let is_single = texts.len() == 1;
    // Without an image every text is cached, and the error below is not used.
    let image = image.unwrap_or_else(|| Err(RequestError::new(ErrorReason::InternalError).cause("no image")));
    let mut results = (0..).zip(texts).map(|(text_index, text)| {
        let source = text.and_then(|mut text| match text.cached.take() {
            Some(output) => Ok(Source::Cache(output, text)),
            None => Ok(Source::Engine(image.clone()?, text)),
        });
        let call_ = Arc::clone(call);
        let replies = match source {
            Ok(Source::Engine(image, text)) => {
                computed_replies(call_, path, text_index, image, text, timing).left_stream()
            }
            Ok(Source::Cache(output, text)) => {
                stream::once(cached_reply(call_, path, text_index, output, text, timing))
                    .left_stream()
                    .right_stream()
            }
            Err(error) => stream::once(future::ready(Err(error))).right_stream().right_stream(),
        };
        let answer_metrics = Arc::clone(&call.metrics);
        replies.map(move |reply| {
            let (reply, ready) = match reply {
                Ok((reply, ready)) => {
                    answer_metrics.observe(&reply, timing);
                    (Ok(reply), ready)
                }
                Err(error) => {
                    metrics::count_item_error(&error);
                    (Err(error), None)
                }
            };
            ItemResult { image_index: path.index, text_index, ready, reply }
        })
    });
    if is_single && let Some(results) = results.next() {
        return results.boxed();
    }
    stream::select_all(results.map(|results| results.boxed())).boxed()
}

/// The decoder steps of a text without a limit, if the checkpoint has none either.
const DEFAULT_DECODE_STEPS: u32 = 20;

/// Returns the decoder steps of all hypotheses of a row, at most, with those that an attention map
/// takes as long as. Without a map, only generation takes many.
fn decode_steps(task: &RowTask) -> u32 {
    let map = if task.explains() { ATTENTION_MAP_STEPS } else { 0 };
    let RowTask::Generate(generation) = task else { return map };
    let steps = generation.max_new_tokens.unwrap_or(DEFAULT_DECODE_STEPS);
    generation.num_beams.max(generation.num_sequences).saturating_mul(steps).saturating_add(map)
}

/// Submits an item to the scheduler and returns a stream of its replies.
///
/// The submission happens before the stream is polled, so that all items of an image are in the
/// queue together. The last reply carries the time at which the engine returned it. Chunks precede
/// it if the item requests them.
fn computed_replies<E: InferenceEngine>(
    call: Arc<Call<E>>,
    path: FieldPath,
    text_index: u32,
    image: PreparedImage,
    text: PreparedText,
    preprocess: PreprocessTiming,
) -> impl Stream<Item = Result<TimedReply, RequestError>> + Send + 'static {
    let trace = ItemTrace::begin(&call.trace, path.index, text_index);
    let PreparedText { key, ids, task, kind, tokens, .. } = text;
    let question = call.log_content.then(|| call.preparer.text(&ids.0));
    let text_tokens = text_tokens(&ids);
    let answer_key = AnswerKey::new(image.key, key);
    let (token_sender, token_receiver) = task.reports_tokens().then(mpsc::unbounded_channel).unzip();
    let job = Job {
        client: call.client.id,
        priority: call.priority,
        weight: call.client.weight,
        deadline: call.deadline.map(|deadline| deadline.0),
        image_digest: image.key.0,
        image_bytes: image.pixels.data().len(),
        image: image.pixels,
        question_key: key,
        tokens: u32::try_from(tokens).unwrap_or(u32::MAX),
        decode_steps: decode_steps(&task),
        question: Arc::new(EngineInput { ids, task, tokens: token_sender, trace: trace.scope() }),
    };
    let submission = Instant::now();
    let submitted = call.model.scheduler.submit(job);
    let preparer = call.preparer.clone();
    let reply = async move {
        let completion = match submitted {
            Ok(ticket) => ticket.await.map_err(|error| job_error(&error)),
            Err(error) => Err(match call.deadline {
                Some(deadline) if deadline.0 <= Instant::now() => {
                    RequestError::new(ErrorReason::DeadlineExceeded)
                }
                _ => submit_error(&error),
            }),
        };
        let completion = match completion {
            Ok(completion) => completion,
            Err(error) => {
                trace.failed(&error);
                return Err(error);
            }
        };
        trace.computed(&completion);
        let ready = submission + completion.queue + completion.engine;
        let timing = Timing { text_tokens, ..Timing::for_computed(&completion, preprocess, call.arrived) };
        let output = completion.answer.answer.output;
        call.preparer.answers().insert(answer_key, &output);
        let reply = Reply::new(&kind, output, timing, &call.preparer);
        log_answer(path, text_index, question, &reply);
        Ok((reply, Some(ready)))
    };
    match token_receiver {
        None => stream::once(reply).left_stream(),
        Some(tokens) => TokenStream::new(tokens, preparer).until(reply).right_stream(),
    }
}

/// Returns the reply to an item whose result is cached. A deadline that has passed fails it
/// nevertheless.
fn cached_reply<E: InferenceEngine>(
    call: Arc<Call<E>>,
    path: FieldPath,
    text_index: u32,
    output: RowOutput,
    text: PreparedText,
    preprocess: PreprocessTiming,
) -> impl Future<Output = Result<TimedReply, RequestError>> + Send + 'static {
    let found = Instant::now();
    async move {
        let trace = ItemTrace::begin(&call.trace, path.index, text_index);
        if call.deadline.is_some_and(|deadline| deadline.0 <= found) {
            let error = RequestError::new(ErrorReason::DeadlineExceeded);
            trace.failed(&error);
            return Err(error);
        }
        trace.cached(&output);
        let question = call.log_content.then(|| call.preparer.text(&text.ids.0));
        let text_tokens = text_tokens(&text.ids);
        let timing = Timing { text_tokens, ..Timing::for_cached(preprocess, call.arrived) };
        let reply = Reply::new(&text.kind, output, timing, &call.preparer);
        log_answer(path, text_index, question, &reply);
        Ok((reply, Some(found)))
    }
}

fn text_tokens(ids: &TokenIds) -> u32 {
    u32::try_from(ids.0.len()).unwrap_or(u32::MAX)
}

/// Logs an answer, if its `question` is given for logging.
fn log_answer(path: FieldPath, text_index: u32, question: Option<String>, reply: &Reply) {
    if let Some(question) = question {
        tracing::info!(
            image = path.index,
            question_index = text_index,
            question,
            answer = reply.text(),
            "answered"
        );
    }
}
