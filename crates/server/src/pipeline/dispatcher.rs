//! The entry point for all protocols: turns a request into a stream of item results.
//!
//! Each call is a single stream of futures, polled by its connection or HTTP/2 stream. It spawns no
//! tasks except image fetches. If a client stops reading, only its own stream stops. If it hangs
//! up, the stream is dropped. This cancels its fetches, its images that are not decoded yet, and
//! its jobs in the scheduler.

use std::{fmt, sync::Arc};

use futures::StreamExt as _;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    config::sections::limits::RequestLimits,
    error::RequestError,
    models::{loaded_model::InferenceEngine, registry::ModelRegistry},
    pipeline::{
        call::{Call, item_results},
        item_result::ItemResults,
        metrics::AnswerMetrics,
        request::InferenceRequest,
        streams::{complete_on_error::CompleteOnError, in_order::InOrder},
    },
    request::{
        deadline::Deadline, item::ItemTask, memory_budget::MemoryBudget, until_error::UntilError,
        validate::validate,
    },
};

/// Accepts requests.
pub trait InferenceService: Send + Sync + 'static {
    /// Starts a request. Dropping the stream cancels the rest of its work.
    ///
    /// # Errors
    /// A [`RequestError`] of the whole request.
    fn infer(&self, request: InferenceRequest) -> Result<ItemResults, RequestError>;
}

impl fmt::Debug for dyn InferenceService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InferenceService")
    }
}

/// Looks up the model of a request, validates its inputs and dispatches them.
#[derive(Debug)]
pub struct Dispatcher<E: InferenceEngine> {
    models: ModelRegistry<E>,
    limits: RequestLimits,
    in_flight: TaskTracker,
    metrics: Arc<AnswerMetrics>,
    response_memory: Option<MemoryBudget>,
    log_content: bool,
    uses_answer_cache: bool,
}

/// The memory of a result that waits for its client, in bytes. Most are smaller.
const RESULT_BYTES: usize = 2 << 10;

/// The memory of one weight of an attention map, in bytes: the number, and its text in JSON with a
/// comma.
const ATTENTION_WEIGHT_BYTES: usize = 20;

impl<E: InferenceEngine> Dispatcher<E> {
    /// Creates a dispatcher for `models` that counts running requests in `in_flight`. Its metrics
    /// go to the recorder that is installed at this time.
    pub fn new(models: ModelRegistry<E>, limits: RequestLimits, in_flight: TaskTracker) -> Self {
        Self {
            models,
            limits,
            in_flight,
            metrics: Arc::default(),
            response_memory: None,
            log_content: false,
            uses_answer_cache: true,
        }
    }

    /// Sets the budget of results that clients have not read.
    #[must_use]
    pub fn response_memory(self, budget: MemoryBudget) -> Self {
        Self { response_memory: Some(budget), ..self }
    }

    /// Sets whether questions and answers are logged.
    #[must_use]
    pub fn log_content(self, log_content: bool) -> Self {
        Self { log_content, ..self }
    }

    /// Disables the answer cache, so that every request reaches the engine.
    #[must_use]
    pub fn without_answer_cache(self) -> Self {
        Self { uses_answer_cache: false, ..self }
    }
}

impl<E: InferenceEngine> InferenceService for Dispatcher<E> {
    fn infer(&self, request: InferenceRequest) -> Result<ItemResults, RequestError> {
        let in_flight = self.in_flight.token();
        let InferenceRequest { inputs, task, format, client, deadline, .. } = request;
        let model = self.models.find(&request.model, task.architecture())?;
        let preparer = if self.uses_answer_cache && task.is_repeatable() {
            model.preparer.clone()
        } else {
            model.preparer.without_answers()
        };
        let task = task.resolve(model.generation, &self.limits)?;
        let inputs = validate(inputs, format, &task, &self.limits)?;
        let counts: Vec<u32> =
            inputs.iter().map(|input| u32::try_from(input.items.len()).unwrap_or(u32::MAX)).collect();
        let items = inputs.iter().map(|input| input.items.len()).sum();
        let result_bytes = RESULT_BYTES + attention_bytes(&task, model.info.patch_grid);
        let unread = match &self.response_memory {
            Some(budget) => {
                Some(budget.reserve_response(client.caller(), result_bytes.saturating_mul(items))?)
            }
            None => None,
        };
        client.take_quota(items)?;
        let (priority, revoked) = (client.priority(request.priority), client.until_revoked());
        let call = Arc::new(Call {
            model,
            preparer,
            arrived: Instant::now(),
            deadline,
            client,
            priority,
            metrics: Arc::clone(&self.metrics),
            trace: request.trace,
            log_content: self.log_content,
            in_flight,
        });
        let results = item_results(call, inputs, request.budget).map(move |result| {
            // The memory returns when the last result was taken, or the stream was dropped.
            let _ = &unread;
            Ok(result)
        });
        let mut results = UntilError::new(Deadline::bound(deadline, results), revoked).boxed();
        if request.complete_on_error {
            results = CompleteOnError::new(results, &counts).boxed();
        }
        if request.in_order {
            results = InOrder::new(results, counts).boxed();
        }
        Ok(results)
    }
}

/// Returns the memory of the attention map of one item, in bytes. `patch_grid` is the number of
/// patches along each side of an image.
fn attention_bytes(task: &ItemTask, patch_grid: u32) -> usize {
    let patches =
        usize::try_from(u64::from(patch_grid).saturating_mul(patch_grid.into())).unwrap_or(usize::MAX);
    match task {
        ItemTask::Answer(generation) if generation.explain => patches.saturating_mul(ATTENTION_WEIGHT_BYTES),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use blip::Generation;

    use super::*;

    #[test]
    fn only_explained_answers_take_memory_of_maps() {
        let explained = ItemTask::Answer(Generation { explain: true, ..Generation::GREEDY });
        assert_eq!(attention_bytes(&explained, 24), 576 * 20);
        assert_eq!(attention_bytes(&ItemTask::Answer(Generation::GREEDY), 24), 0);
        assert_eq!(attention_bytes(&ItemTask::Match, 24), 0);
        // The longest text of an f32 that JSON can have, with its comma, fits beside the number.
        let longest = serde_json::to_string(&f32::MIN_POSITIVE).unwrap().len() + 1;
        assert!(size_of::<f32>() + longest <= ATTENTION_WEIGHT_BYTES);
    }
}
