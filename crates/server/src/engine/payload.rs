//! The payloads of a batch row: the text and task that an engine reads, and its output.

use blip::{RowAnswer, RowTask};
use opentelemetry::trace::SpanContext;
use tokio::sync::mpsc::UnboundedSender;

use crate::{preprocess::prepared::TokenIds, telemetry::tracing::TraceScope};

/// The input of one row.
#[derive(Clone, Debug)]
pub struct EngineInput {
    /// The token ids of the text.
    pub ids: TokenIds,
    /// The task.
    pub task: RowTask,
    /// Receives each generated token with its position, if the client requested a stream.
    ///
    /// The task limits the number of tokens, so the channel needs no bound. An engine that repeats
    /// a batch sends the tokens again.
    pub tokens: Option<UnboundedSender<(usize, i64)>>,
    /// The span of the item, to which the span of the batch links.
    ///
    /// Off if the request is not traced.
    pub trace: TraceScope,
}

/// The output of one row.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineOutput {
    /// The output of the model.
    pub answer: RowAnswer,
    /// The span of the batch, if it was traced.
    pub batch: Option<SpanContext>,
}

impl From<RowAnswer> for EngineOutput {
    /// Creates the output of a batch that was not traced.
    fn from(answer: RowAnswer) -> Self {
        Self { answer, batch: None }
    }
}
