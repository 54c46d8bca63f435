//! A row of a batch: the text that goes to an engine with what is wanted of it, and what comes back.

use blip::{RowAnswer, RowTask};
use opentelemetry::trace::SpanContext;
use tokio::sync::mpsc::UnboundedSender;

use crate::{intake::TokenIds, telemetry::trace::TraceScope};

/// A text as an engine takes it.
#[derive(Clone, Debug)]
pub struct QuestionRow {
    /// The text.
    pub ids: TokenIds,
    /// What is wanted.
    pub task: RowTask,
    /// Where tokens go as they are written, with their positions, if that is wanted. There are no more than the row may
    /// write, so the channel needs no bound of its own; an engine that repeats a batch sends them again.
    pub tokens: Option<UnboundedSender<(usize, i64)>>,
    /// The span of its pair, for the span of the batch to name; off where nothing is traced.
    pub trace: TraceScope,
}

/// An answer as an engine gives it.
#[derive(Clone, Debug, PartialEq)]
pub struct AnswerRow {
    /// What the model says.
    pub answer: RowAnswer,
    /// The span of the batch that it was computed in, if that was traced.
    pub batch: Option<SpanContext>,
}

impl From<RowAnswer> for AnswerRow {
    /// An answer out of a batch that was not traced.
    fn from(answer: RowAnswer) -> Self {
        Self { answer, batch: None }
    }
}
