//! A row of a batch: the question that goes to an engine, and the answer that comes back.

use blip::{RowAnswer, RowTask};
use opentelemetry::trace::SpanContext;

use crate::{intake::TokenIds, telemetry::trace::TraceScope};

/// A question as an engine takes it.
#[derive(Clone, Debug)]
pub struct QuestionRow {
    /// What is asked.
    pub ids: TokenIds,
    /// What is wanted.
    pub task: RowTask,
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
