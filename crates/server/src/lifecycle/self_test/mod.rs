//! The self-test: a question with a known answer that the server asks a model.
//!
//! It runs before the server reports `SERVING`, after an idle time, and after each failure of an
//! engine. An engine that answers wrongly or not at all is not fit to serve, even if it reports no
//! error.
//!
//! The question takes the same path as a question of a client, from an image file to an answer. The
//! image file differs each time, so that no cache answers in place of the engine.

mod watch;
mod verdict;
mod probe;

pub use probe::ProbeAnswer;
pub use verdict::{SelfTestFailure, Verdict};

use std::{sync::Arc, time::Duration};

use blip::Architecture;

use crate::{
    error::{ErrorReason, RequestError},
    lifecycle::self_test::probe::Probe,
    pipeline::dispatcher::InferenceService,
    request::{generation::GenerationOptions, task::Task},
    telemetry::metrics,
};

/// The questions for a question answering model.
///
/// The self-test uses the one with the largest margin. Number formats and batch composition can
/// change an answer with a small margin.
const QUESTIONS: [&str; 4] =
    ["what is in the picture?", "what color is it?", "is there a circle?", "how many are there?"];

/// The prompts for a captioning model.
const PROMPTS: [&str; 2] = ["", "a picture of"];

/// The texts for a retrieval model.
const TEXTS: [&str; 2] = ["a red circle", "a blue square"];

/// The time limit of an answer, queueing included.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The time limit of the first answers, for which a device may need a long setup.
const FIRST_TIMEOUT: Duration = Duration::from_secs(300);

/// A question with its known answer.
#[derive(Debug)]
pub struct SelfTest {
    probe: Probe,
    question: &'static str,
    known: ProbeAnswer,
    model: Arc<str>,
}

impl SelfTest {
    /// Asks `model` some questions through `service`, and stores the one with the largest margin.
    ///
    /// # Errors
    /// A [`RequestError`] if the model answers none of them.
    pub async fn new(
        service: Arc<dyn InferenceService>,
        model: &Arc<str>,
        architecture: Architecture,
    ) -> Result<Self, RequestError> {
        let (task, questions) = match architecture {
            Architecture::QuestionAnswering => (Task::default(), QUESTIONS.as_slice()),
            Architecture::Captioning => {
                let generation = GenerationOptions::default();
                (Task::Caption { generation, stream_tokens: false }, PROMPTS.as_slice())
            }
            Architecture::Retrieval => (Task::Match, TEXTS.as_slice()),
        };
        let probe = Probe::new(service, task);
        let (mut answers, mut last_error) = (Vec::new(), None);
        for (&question, answer) in questions.iter().zip(probe.ask(questions, FIRST_TIMEOUT).await?) {
            match answer {
                Ok(answer) => answers.push((question, answer)),
                Err(error) => last_error = Some(error),
            }
        }
        let best = answers.into_iter().max_by(|(_, one), (_, other)| one.margin().total_cmp(&other.margin()));
        let (question, known) = best.ok_or_else(|| last_error.unwrap_or_else(no_answer))?;
        metrics::init_self_test_counters(model, &Verdict::LABELS);
        tracing::info!(
            model = &**model,
            question,
            answer = known.text,
            margin = known.margin(),
            "self-test question chosen"
        );
        Ok(Self { probe, question, known, model: Arc::clone(model) })
    }

    /// Asks the question and compares the answer with the known one.
    pub async fn run(&self) -> Verdict {
        let answers = self.probe.ask(&[self.question], TIMEOUT).await;
        let answer = answers.and_then(|mut answers| answers.pop().unwrap_or_else(|| Err(no_answer())));
        match answer {
            Ok(answer) if answer.matches(&self.known) => Verdict::Passed,
            Ok(answer) => Verdict::Wrong(answer),
            Err(error) => Verdict::from(error),
        }
    }
}

fn no_answer() -> RequestError {
    RequestError::new(ErrorReason::InternalError).cause("no answer")
}

#[cfg(test)]
mod tests;
