//! The result of a self-test.

use crate::{
    error::{ErrorReason, RequestError},
    lifecycle::self_test::probe::ProbeAnswer,
};

/// The result of one run of the self-test.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The model gave the known answer.
    Passed,
    /// The model gave another answer.
    Wrong(ProbeAnswer),
    /// The engine failed.
    Failed(RequestError),
    /// The question did not reach the engine, because the server is busy or stopping.
    Inconclusive(RequestError),
}

impl Verdict {
    /// The values of the metric's label `result`.
    pub(super) const LABELS: [&str; 4] = ["passed", "wrong", "failed", "unheard"];

    /// Returns the value of the metric's label `result`.
    pub(super) fn label(&self) -> &'static str {
        let [passed, wrong, failed, unheard] = Self::LABELS;
        match self {
            Self::Passed => passed,
            Self::Wrong(_) => wrong,
            Self::Failed(_) => failed,
            Self::Inconclusive(_) => unheard,
        }
    }
}

impl From<RequestError> for Verdict {
    fn from(error: RequestError) -> Self {
        if is_inconclusive(&error) { Self::Inconclusive(error) } else { Self::Failed(error) }
    }
}

/// Returns whether an error says nothing about the engine.
fn is_inconclusive(error: &RequestError) -> bool {
    matches!(
        error.reason(),
        ErrorReason::ModelLoading
            | ErrorReason::ShuttingDown
            | ErrorReason::ServerBusy
            | ErrorReason::QueueFull
            | ErrorReason::PreprocessingBusy
            | ErrorReason::DeadlineExceeded
            | ErrorReason::DeadlineUnreachable
    )
}

/// Why the self-test considers an engine as failed.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SelfTestFailure {
    /// The answer is wrong.
    #[error("wrong answer to {question:?}: {got:?}, expected {known:?}")]
    Wrong {
        /// The question.
        question: &'static str,
        /// The known answer.
        known: String,
        /// The answer now.
        got: String,
    },
    /// There is no answer.
    #[error("no answer to a question that was answered before: {0}")]
    Failed(RequestError),
}
