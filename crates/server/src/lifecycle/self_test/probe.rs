//! Sends the questions of the self-test, and compares the answers.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::StreamExt as _;
use scheduler::Priority;
use tokio::time::Instant;

use crate::{
    auth::client::Client,
    error::RequestError,
    fair_share::Caller,
    pipeline::{
        dispatcher::InferenceService,
        reply::{Answer, Caption, MatchScores, Reply},
        request::InferenceRequest,
    },
    request::{
        deadline::Deadline,
        field_path::RequestFormat,
        item::{ImageSource, Input, TextInput},
        memory_budget::BudgetPermit,
        task::Task,
    },
    telemetry::tracing::TraceScope,
};

/// A PNG file of a red circle. It is small enough for every limit that an operator may set.
const IMAGE: &[u8] = include_bytes!("image.png");

/// The maximum difference of a score to its known value.
///
/// Batch composition and number formats change the last digits.
const SCORE_TOLERANCE: f32 = 0.05;

/// Asks questions about the image, each time as a new image file.
#[derive(Debug)]
pub(super) struct Probe {
    service: Arc<dyn InferenceService>,
    task: Task,
    requests_sent: AtomicU64,
}

impl Probe {
    pub(super) fn new(service: Arc<dyn InferenceService>, task: Task) -> Self {
        Self { service, task, requests_sent: AtomicU64::new(0) }
    }

    /// Asks `questions` in one request, and returns the answers in their order.
    ///
    /// # Errors
    /// An error of the whole request. Errors of single questions are in the result.
    pub(super) async fn ask(
        &self,
        questions: &[&str],
        timeout: Duration,
    ) -> Result<Vec<Result<ProbeAnswer, RequestError>>, RequestError> {
        // Decoders ignore data after the end of a PNG image. The number makes the file's digest
        // unique.
        let number = self.requests_sent.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let file = [IMAGE, b"self-test", &number].concat();
        let texts = questions.iter().map(|text| TextInput::from((*text).to_owned())).collect();
        let request = InferenceRequest {
            inputs: vec![Input { image: Some(ImageSource::Inline(file.into())), texts }],
            task: self.task.clone(),
            model: String::new(),
            format: RequestFormat::GrpcAsk,
            client: Client::anonymous(Caller::SERVER),
            priority: Priority::High,
            deadline: Instant::now().checked_add(timeout).map(Deadline),
            in_order: true,
            complete_on_error: true,
            budget: BudgetPermit::default(),
            // The self-test is not traced.
            trace: TraceScope::default(),
        };
        let results: Vec<_> = self.service.infer(request)?.collect().await;
        results.into_iter().map(|result| result.map(|item| item.reply.map(ProbeAnswer::from))).collect()
    }
}

/// An answer of a model to a question of the self-test.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeAnswer {
    /// The answer, for people.
    pub text: String,
    token_ids: Vec<u32>,
    scores: Vec<f32>,
    margin: f32,
}

impl From<Reply> for ProbeAnswer {
    fn from(reply: Reply) -> Self {
        let empty = Self { text: reply.text().to_owned(), ..Self::default() };
        match reply {
            Reply::Answer(Answer { token_ids, margin, .. })
            | Reply::Caption(Caption { token_ids, margin, .. }) => Self { token_ids, margin, ..empty },
            Reply::Match(MatchScores { probability, cosine, .. }) => Self {
                text: format!("probability {probability}, cosine {cosine}"),
                scores: vec![probability, cosine],
                // A probability near 0 or 1 is a clear decision.
                margin: (probability - 0.5).abs(),
                ..empty
            },
            Reply::Chunk(_) | Reply::Embedding(_) => empty,
        }
    }
}

impl ProbeAnswer {
    /// Returns how clear the model's decision is, for the choice of a question.
    pub(super) fn margin(&self) -> f32 {
        self.margin
    }

    /// Returns whether the tokens equal those of `known`, and the scores are within a tolerance.
    pub(super) fn matches(&self, known: &Self) -> bool {
        let scores = self.scores.iter().zip(&known.scores);
        self.token_ids == known.token_ids
            && self.scores.len() == known.scores.len()
            // The comparison is false for NaN.
            && scores.map(|(score, known)| (score - known).abs()).all(|off| off <= SCORE_TOLERANCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_compares_tokens_exactly_and_scores_with_tolerance() {
        let scores = |probability, cosine| {
            ProbeAnswer::from(Reply::Match(MatchScores { probability, cosine, ..MatchScores::default() }))
        };
        assert!(scores(0.91, 0.5).matches(&scores(0.9, 0.52)));
        assert!(!scores(0.8, 0.5).matches(&scores(0.9, 0.5)));
        assert!(!scores(f32::NAN, 0.5).matches(&scores(0.9, 0.5)));
        let caption = |token_ids: &[u32]| {
            ProbeAnswer::from(Reply::Caption(Caption { token_ids: token_ids.to_vec(), ..Caption::default() }))
        };
        assert!(caption(&[7, 3]).matches(&caption(&[7, 3])));
        assert!(!caption(&[7, 3]).matches(&caption(&[8, 3])));
        assert!(!caption(&[]).matches(&scores(0.9, 0.5)));
    }
}
