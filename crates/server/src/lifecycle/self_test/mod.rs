//! A question whose answer is known. It is asked before the server says that it serves, when nobody has asked for a
//! while, and after an engine's failure: an engine that answers it wrongly, or not at all, is not fit to serve, whatever
//! else is said of it.
//!
//! It goes the way of every caller's question, from an image file to an answer. Its picture is another file each time, so
//! that no cache answers in the engine's place.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use blip::Architecture;
use futures::StreamExt as _;
use scheduler::{Priority, Snapshot};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

use crate::{
    auth::client::Client,
    error::{ErrorReason, RequestError},
    pipeline::{
        dispatcher::InferenceService,
        reply::{Answer, Caption, MatchScores, Reply},
        request::InferenceRequest,
    },
    request::{
        deadline::Deadline,
        field_path::RequestFormat,
        generation::GenerationOptions,
        item::{ImageSource, Input},
        memory_budget::BudgetPermit,
        task::Task,
    },
    telemetry::{metrics, tracing::TraceScope},
};

/// A red circle, in so few bytes and pixels that no operator's limits keep it out.
const PICTURE: &[u8] = include_bytes!("image.png");

/// The canary is the one of these that the model is surest about: number formats and company may turn an answer that hangs
/// in the balance.
const QUESTIONS: [&str; 4] =
    ["what is in the picture?", "what color is it?", "is there a circle?", "how many are there?"];

/// The same for a model that writes captions: what they begin with.
const PROMPTS: [&str; 2] = ["", "a picture of"];

/// The same for a model that compares: what may describe the picture.
const TEXTS: [&str; 2] = ["a red circle", "a blue square"];

/// How far scores may be from those that are known: company and number formats move their last digits.
const SCORE_TOLERANCE: f32 = 0.05;

/// How long an answer may take, queue included.
const LIMIT: Duration = Duration::from_secs(30);

/// The same for the first answers: a device has much to set up for them.
const FIRST_LIMIT: Duration = Duration::from_secs(300);

/// How often it is looked whether there is a reason to ask.
const PERIOD: Duration = Duration::from_secs(1);

/// Wrong or missing answers in a row after which the engine is given up.
const MAX_MISSES: u32 = 3;

/// What a model says of the picture, as far as it is compared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProbeAnswer {
    /// In words.
    pub text: String,
    token_ids: Vec<u32>,
    scores: Vec<f32>,
    margin: f32,
}

impl From<Reply> for ProbeAnswer {
    fn from(reply: Reply) -> Self {
        let nothing = Self { text: reply.text().to_owned(), ..Self::default() };
        match reply {
            Reply::Answer(Answer { token_ids, margin, .. })
            | Reply::Caption(Caption { token_ids, margin, .. }) => Self { token_ids, margin, ..nothing },
            Reply::Match(MatchScores { probability, cosine, .. }) => Self {
                text: format!("probability {probability}, cosine {cosine}"),
                scores: vec![probability, cosine],
                // The nearer to yes or to no, the surer.
                margin: (probability - 0.5).abs(),
                ..nothing
            },
            Reply::Chunk(_) | Reply::Embedding(_) => nothing,
        }
    }
}

impl ProbeAnswer {
    /// Whether it is what `known` says.
    fn is(&self, known: &Self) -> bool {
        let scores = self.scores.iter().zip(&known.scores);
        self.token_ids == known.token_ids
            && self.scores.len() == known.scores.len()
            // What is not a number is near to none.
            && scores.map(|(score, known)| (score - known).abs()).all(|off| off <= SCORE_TOLERANCE)
    }
}

/// A question with the model's answer to it.
#[derive(Debug)]
pub struct SelfTest {
    questioner: Questioner,
    question: &'static str,
    known: ProbeAnswer,
    model: Arc<str>,
}

/// What came of asking.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// The answer was the known one.
    Passed,
    /// The answer was another one.
    Wrong(ProbeAnswer),
    /// The engine could not answer.
    Failed(RequestError),
    /// The question did not get as far as the engine: the server is busy, or it stops.
    Unheard(RequestError),
}

impl Verdict {
    /// The values of a metric's label.
    const LABELS: [&str; 4] = ["passed", "wrong", "failed", "unheard"];

    /// The one for this verdict.
    fn label(&self) -> &'static str {
        let [passed, wrong, failed, unheard] = Self::LABELS;
        match self {
            Self::Passed => passed,
            Self::Wrong(_) => wrong,
            Self::Failed(_) => failed,
            Self::Unheard(_) => unheard,
        }
    }
}

/// Why an engine is given up.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SelfTestFailure {
    /// It answers wrongly.
    #[error("answers {got:?} to {question:?} where it should answer {known:?}")]
    Wrong {
        /// What was asked.
        question: &'static str,
        /// The answer at the start.
        known: String,
        /// The answer now.
        got: String,
    },
    /// It does not answer.
    #[error("does not answer a question that it has answered before: {0}")]
    Failed(RequestError),
}

impl SelfTest {
    /// Has `frontend` answer a few questions for `model`, and keeps the one with the surest answer.
    ///
    /// # Errors
    /// A [`RequestError`] if the model answers none of them.
    pub async fn choose(
        frontend: Arc<dyn InferenceService>,
        model: &Arc<str>,
        architecture: Architecture,
    ) -> Result<Self, RequestError> {
        let (wanted, questions) = match architecture {
            Architecture::QuestionAnswering => (Task::default(), QUESTIONS.as_slice()),
            Architecture::Captioning => {
                let generation = GenerationOptions::default();
                (Task::Caption { generation, stream_tokens: false }, PROMPTS.as_slice())
            }
            Architecture::Retrieval => (Task::Match, TEXTS.as_slice()),
        };
        let questioner = Questioner { frontend, wanted, asked: AtomicU64::new(0) };
        let (mut known, mut refused) = (Vec::new(), None);
        for (&question, answer) in questions.iter().zip(questioner.ask(questions, FIRST_LIMIT).await?) {
            match answer {
                Ok(answer) => known.push((question, answer)),
                Err(refusal) => refused = Some(refusal),
            }
        }
        let surest = known.into_iter().max_by(|(_, one), (_, other)| one.margin.total_cmp(&other.margin));
        let (question, known) = surest.ok_or_else(|| {
            refused.unwrap_or_else(|| RequestError::new(ErrorReason::InternalError).cause("no answer"))
        })?;
        metrics::init_self_test_counters(model, &Verdict::LABELS);
        tracing::info!(
            model = &**model,
            question,
            answer = known.text,
            margin = known.margin,
            "canary chosen"
        );
        Ok(Self { questioner, question, known, model: Arc::clone(model) })
    }

    /// Asks.
    pub async fn ask(&self) -> Verdict {
        let answers = self.questioner.ask(&[self.question], LIMIT).await.map(|mut answers| answers.pop());
        match answers {
            Ok(Some(Ok(answer))) if answer.is(&self.known) => Verdict::Passed,
            Ok(Some(Ok(answer))) => Verdict::Wrong(answer),
            Ok(Some(Err(refusal))) | Err(refusal) if is_inconclusive(&refusal) => Verdict::Unheard(refusal),
            Ok(Some(Err(refusal))) | Err(refusal) => Verdict::Failed(refusal),
            Ok(None) => Verdict::Failed(RequestError::new(ErrorReason::InternalError).cause("no answer")),
        }
    }

    /// Asks when `scheduler` has answered nothing for `idle`, and when an engine has failed; tells `well` what came of it.
    /// Ends when the engine is given up.
    pub async fn watch(
        &self,
        scheduler: impl Fn() -> Snapshot,
        idle: Duration,
        well: &watch::Sender<bool>,
    ) -> SelfTestFailure {
        let (mut seen, mut quiet_since, mut consecutive_failures) = (scheduler(), Instant::now(), 0);
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let now = scheduler();
            if now.answered != seen.answered {
                quiet_since = Instant::now();
            }
            let failed = now.failed_batches != seen.failed_batches;
            seen = now;
            if !failed && consecutive_failures == 0 && quiet_since.elapsed() < idle {
                continue;
            }
            let verdict = self.ask().await;
            metrics::count_self_test(&self.model, verdict.label());
            let lost = match verdict {
                Verdict::Unheard(refusal) => {
                    tracing::debug!(%refusal, "the canary was not heard");
                    quiet_since = Instant::now();
                    continue;
                }
                Verdict::Passed => None,
                Verdict::Wrong(answer) => Some(SelfTestFailure::Wrong {
                    question: self.question,
                    known: self.known.text.clone(),
                    got: answer.text,
                }),
                Verdict::Failed(refusal) => Some(SelfTestFailure::Failed(refusal)),
            };
            // What it brought about itself is no news.
            (seen, quiet_since) = (scheduler(), Instant::now());
            well.send_replace(lost.is_none());
            let Some(lost) = lost else {
                consecutive_failures = 0;
                continue;
            };
            consecutive_failures += 1;
            tracing::error!(model = &*self.model, consecutive_failures, "canary: the engine {lost}");
            if consecutive_failures >= MAX_MISSES {
                return lost;
            }
        }
    }
}

/// Whether a refusal says nothing of the engine.
fn is_inconclusive(refusal: &RequestError) -> bool {
    matches!(
        refusal.reason(),
        ErrorReason::ModelLoading
            | ErrorReason::ShuttingDown
            | ErrorReason::ServerBusy
            | ErrorReason::QueueFull
            | ErrorReason::PreprocessingBusy
            | ErrorReason::DeadlineExceeded
            | ErrorReason::DeadlineUnreachable
    )
}

/// Asks about the picture, each time as a new file.
#[derive(Debug)]
struct Questioner {
    frontend: Arc<dyn InferenceService>,
    wanted: Task,
    asked: AtomicU64,
}

impl Questioner {
    async fn ask(
        &self,
        questions: &[&str],
        limit: Duration,
    ) -> Result<Vec<Result<ProbeAnswer, RequestError>>, RequestError> {
        // Behind its end a PNG may hold anything.
        let number = self.asked.fetch_add(1, Ordering::Relaxed).to_le_bytes();
        let file = [PICTURE, b"canary", &number].concat();
        let texts = questions.iter().map(|text| (*text).to_owned().into()).collect();
        let input = Input { image: Some(ImageSource::Inline(file.into())), texts };
        let request = InferenceRequest {
            inputs: vec![input],
            task: self.wanted.clone(),
            model: String::new(),
            format: RequestFormat::Grpc,
            client: Client::anonymous("canary"),
            priority: Priority::High,
            deadline: Instant::now().checked_add(limit).map(Deadline),
            in_order: true,
            complete_on_error: true,
            budget: BudgetPermit::default(),
            // Its questions are nobody's: they are in no trace.
            trace: TraceScope::default(),
        };
        let outcomes: Vec<_> = self.frontend.infer(request)?.collect().await;
        outcomes
            .into_iter()
            .map(|outcome| outcome.map(|outcome| outcome.reply.map(ProbeAnswer::from)))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures::stream;

    use super::*;
    use crate::pipeline::item_result::{ItemResult, ItemResults};

    type Script = Box<dyn FnMut(&str) -> Result<Answer, RequestError> + Send>;

    /// Answers as its script says.
    struct Scripted(Mutex<Script>);

    impl InferenceService for Scripted {
        fn infer(&self, request: InferenceRequest) -> Result<ItemResults, RequestError> {
            let mut script = self.0.lock().unwrap();
            let [input] = &request.inputs[..] else { panic!("one picture") };
            let outcomes: Vec<_> = (0..)
                .zip(&input.texts)
                .map(|(text_index, question)| {
                    let reply = script(&question.text).map(Reply::Answer);
                    Ok(ItemResult { image_index: 0, text_index, ready: None, reply })
                })
                .collect();
            Ok(stream::iter(outcomes).boxed())
        }
    }

    fn scripted(script: impl FnMut(&str) -> Result<Answer, RequestError> + Send + 'static) -> Arc<dyn InferenceService> {
        Arc::new(Scripted(Mutex::new(Box::new(script))))
    }

    fn answer(id: u32, margin: f32) -> Answer {
        Answer { token_ids: vec![id], text: id.to_string(), margin, ..Answer::default() }
    }

    fn quiet() -> Snapshot {
        Snapshot::default()
    }

    #[tokio::test]
    async fn the_question_that_the_model_is_surest_about_is_kept() {
        let margins = |text: &str| answer(7, if text == "is there a circle?" { 9.0 } else { 1.0 });
        let canary = SelfTest::choose(
            scripted(move |text| Ok(margins(text))),
            &"model".into(),
            Architecture::QuestionAnswering,
        )
        .await
        .unwrap();
        assert_eq!(canary.question, "is there a circle?");
        assert_eq!(canary.ask().await, Verdict::Passed);
    }

    #[test]
    fn scores_are_compared_within_a_tolerance_and_words_to_the_token() {
        let scored = |probability, cosine| {
            ProbeAnswer::from(Reply::Match(MatchScores { probability, cosine, ..MatchScores::default() }))
        };
        assert!(scored(0.91, 0.5).is(&scored(0.9, 0.52)));
        assert!(!scored(0.8, 0.5).is(&scored(0.9, 0.5)) && !scored(f32::NAN, 0.5).is(&scored(0.9, 0.5)));
        let caption = |token_ids: &[u32]| {
            ProbeAnswer::from(Reply::Caption(Caption { token_ids: token_ids.to_vec(), ..Caption::default() }))
        };
        assert!(caption(&[7, 3]).is(&caption(&[7, 3])) && !caption(&[7, 3]).is(&caption(&[8, 3])));
        assert!(!caption(&[]).is(&scored(0.9, 0.5)));
    }

    #[tokio::test]
    async fn models_of_each_kind_are_asked_for_what_they_do() {
        struct Noting(Mutex<Vec<(Task, usize)>>);
        impl InferenceService for Noting {
            fn infer(&self, request: InferenceRequest) -> Result<ItemResults, RequestError> {
                let questions = request.inputs[0].texts.len();
                self.0.lock().unwrap().push((request.task, questions));
                Err(RequestError::new(ErrorReason::EngineFailed).cause("noted"))
            }
        }
        for (architecture, expected) in
            [(Architecture::Captioning, PROMPTS.len()), (Architecture::Retrieval, TEXTS.len())]
        {
            let noting = Arc::new(Noting(Mutex::new(Vec::new())));
            let asked = Arc::clone(&noting) as Arc<dyn InferenceService>;
            SelfTest::choose(asked, &"model".into(), architecture).await.unwrap_err();
            let [(wanted, texts)] = &noting.0.lock().unwrap()[..] else { panic!("asked once") };
            assert_eq!(wanted.architecture(), architecture);
            assert_eq!(*texts, expected);
        }
    }

    #[tokio::test]
    async fn a_model_that_answers_nothing_is_refused_at_once() {
        let mute = scripted(|_| Err(RequestError::new(ErrorReason::EngineFailed).cause("mute")));
        assert_eq!(
            SelfTest::choose(mute, &"model".into(), Architecture::QuestionAnswering)
                .await
                .unwrap_err()
                .reason(),
            ErrorReason::EngineFailed
        );
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_engine_that_answers_otherwise_three_times_is_given_up() {
        let mut asked = 0;
        let drifting = scripted(move |_| {
            asked += 1;
            Ok(answer(if asked <= QUESTIONS.len() { 7 } else { 8 }, 1.0))
        });
        let canary =
            SelfTest::choose(drifting, &"model".into(), Architecture::QuestionAnswering).await.unwrap();
        let well = watch::Sender::new(true);
        let begin = Instant::now();
        let idle = Duration::from_secs(60);
        let lost = canary.watch(quiet, idle, &well).await;
        let SelfTestFailure::Wrong { known, got, .. } = lost else { panic!("{lost}") };
        assert_eq!((known.as_str(), got.as_str()), ("7", "8"));
        // Once idle, then again and again.
        assert_eq!(begin.elapsed(), idle + (MAX_MISSES - 1) * PERIOD);
        assert!(!*well.borrow());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_batch_is_reason_to_ask_and_an_answer_makes_it_well_again() {
        let mut asked = 0;
        let stumbling = scripted(move |_| {
            asked += 1;
            let stumbles = asked == QUESTIONS.len() + 1;
            if stumbles {
                Err(RequestError::new(ErrorReason::EngineFailed).cause("once"))
            } else {
                Ok(answer(7, 1.0))
            }
        });
        let canary =
            SelfTest::choose(stumbling, &"model".into(), Architecture::QuestionAnswering).await.unwrap();
        let well = watch::Sender::new(true);
        let mut told = well.subscribe();
        let looks = AtomicU64::new(0);
        let failing = || Snapshot { failed_batches: looks.fetch_add(1, Ordering::Relaxed).min(1), ..quiet() };
        let story = async {
            told.changed().await.unwrap();
            assert!(!*told.borrow_and_update());
            told.changed().await.unwrap();
            assert!(*told.borrow_and_update());
        };
        tokio::select! {
            lost = canary.watch(failing, Duration::from_secs(3600), &well) => panic!("{lost}"),
            () = story => {}
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_with_much_to_do_is_not_given_up() {
        let mut asked = 0;
        let full = scripted(move |_| {
            asked += 1;
            let full = asked > QUESTIONS.len();
            if full {
                Err(RequestError::new(ErrorReason::QueueFull).cause("full"))
            } else {
                Ok(answer(7, 1.0))
            }
        });
        let canary = SelfTest::choose(full, &"model".into(), Architecture::QuestionAnswering).await.unwrap();
        let well = watch::Sender::new(true);
        let watched = canary.watch(quiet, Duration::from_secs(2), &well);
        assert!(tokio::time::timeout(Duration::from_secs(600), watched).await.is_err());
        assert!(*well.borrow());
    }
}
