//! The one way in for all protocols: a request becomes a stream of outcomes, one for each (image, question) pair.
//!
//! A call is one stream of futures, and the connection drives it: nothing but fetches is spawned and there is no channel
//! to fill. A caller who reads slowly holds back only that stream; when the caller hangs up the stream is dropped, and
//! with it everything that lies ahead: fetches, images not yet decoded, and tickets, which cancels their jobs.

use std::{fmt, sync::Arc};

use blip::{Generation, Pixels};
use futures::{StreamExt as _, stream::BoxStream};
use scheduler::{Engine, Priority, Scheduler};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{
    call::{Call, outcomes},
    caller::Caller,
    deadline::Deadline,
    description::Description,
    errors::Refusal,
    every_pair::EveryPair,
    fetching::Fetching,
    in_order::InOrder,
    intake::Intake,
    models::Models,
    monitor::AnswerMeters,
    place::Form,
    proto::{ImageQuestions, Model},
    reply::Reply,
    row::{AnswerRow, QuestionRow},
    settings::RequestLimits,
    telemetry::trace::TraceScope,
    upload::Held,
    validate::validate,
    wanted::Wanted,
};

/// An engine that answers questions about images as the BLIP model does.
pub trait Answering: Engine<Image = Pixels, Question = QuestionRow, Answer = AnswerRow> {}

impl<E: Engine<Image = Pixels, Question = QuestionRow, Answer = AnswerRow>> Answering for E {}

/// What a loaded model needs to answer.
#[derive(Debug)]
pub struct Pipeline<E: Answering> {
    /// What the model is.
    pub description: Arc<Description>,
    /// From URLs to bytes.
    pub fetching: Fetching,
    /// From bytes to pixels and token ids.
    pub intake: Intake,
    /// From pixels and token ids to answers.
    pub scheduler: Scheduler<E>,
    /// How it writes where a request does not say otherwise.
    pub generation: Generation,
}

impl<E: Answering> Pipeline<E> {
    /// What is told to callers of the model.
    #[must_use]
    pub fn to_proto(&self) -> Model {
        let mut lists: Vec<String> = self.intake.candidate_lists().keys().cloned().collect();
        lists.sort();
        self.description.to_proto(lists)
    }
}

/// A request of any protocol.
#[derive(Debug)]
pub struct Asked {
    /// The images, each with its texts.
    pub inputs: Vec<ImageQuestions>,
    /// What is wanted of them.
    pub wanted: Wanted,
    /// Which model is asked, by its name; the first that does what is wanted if empty.
    pub model: String,
    /// In whose words errors name a part of it.
    pub form: Form,
    /// Who asks.
    pub caller: Caller,
    /// The class asked for.
    pub priority: Priority,
    /// When answers stop being of use.
    pub deadline: Option<Deadline>,
    /// Whether outcomes are wanted in the order of the request.
    pub in_order: bool,
    /// Whether each pair that is not answered by the deadline is wanted as an outcome, instead of an end of the call.
    pub every_pair: bool,
    /// The room that the request takes until its images are decoded.
    pub held: Held,
    /// The span that those of its stages are below; off where nothing is traced.
    pub trace: TraceScope,
}

/// What became of one (image, text) pair, or a piece of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Position of the image in the request, from 0.
    pub image_index: u32,
    /// Position of the text among those about the image, from 0.
    pub question_index: u32,
    /// When an engine had the answer, or it was found to be kept; of a piece, or where there is none, nothing.
    pub ready: Option<Instant>,
    /// What was wanted, or why there is none.
    pub reply: Result<Reply, Refusal>,
}

impl Outcome {
    /// Whether nothing more comes for the pair.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.reply.as_ref().map_or(true, Reply::is_last)
    }
}

/// The outcomes of each pair; or, as the last item, why the call ended early.
pub type Outcomes = BoxStream<'static, Result<Outcome, Refusal>>;

/// Takes requests.
pub trait Ask: Send + Sync + 'static {
    /// Begins to answer; dropping the stream drops whatever of it is still ahead.
    ///
    /// # Errors
    /// A [`Refusal`] of the whole request.
    fn ask(&self, asked: Asked) -> Result<Outcomes, Refusal>;
}

impl fmt::Debug for dyn Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ask")
    }
}

/// The way to the engine.
#[derive(Debug)]
pub struct Frontend<E: Answering> {
    models: Models<E>,
    limits: RequestLimits,
    in_flight: TaskTracker,
    meters: Arc<AnswerMeters>,
    log_content: bool,
    always_computes: bool,
}

impl<E: Answering> Frontend<E> {
    /// Answers by `models`. Every request in flight is counted in `in_flight`. Metrics go to the recorder that is
    /// installed at this moment.
    pub fn new(models: Models<E>, limits: RequestLimits, in_flight: TaskTracker) -> Self {
        Self { models, limits, in_flight, meters: Arc::default(), log_content: false, always_computes: false }
    }

    /// Whether questions and answers are logged.
    #[must_use]
    pub fn log_content(self, log_content: bool) -> Self {
        Self { log_content, ..self }
    }

    /// The same, for whoever wants to hear the engine itself: no answer that was kept is given, and none is kept.
    #[must_use]
    pub fn always_computing(self) -> Self {
        Self { always_computes: true, ..self }
    }
}

impl<E: Answering> Ask for Frontend<E> {
    fn ask(&self, asked: Asked) -> Result<Outcomes, Refusal> {
        let in_flight = self.in_flight.token();
        let Asked {
            wanted, model, form, caller, priority, deadline, in_order, every_pair, held, trace, ..
        } = asked;
        let pipeline = self.models.find(&model, wanted.architecture())?;
        let intake = if self.always_computes || !wanted.is_repeatable() {
            pipeline.intake.without_answers()
        } else {
            pipeline.intake.clone()
        };
        let purpose = wanted.purpose(pipeline.generation, &self.limits)?;
        let inputs = validate(asked.inputs, form, purpose, &self.limits)?;
        let counts: Vec<u32> =
            inputs.iter().map(|input| u32::try_from(input.questions.len()).unwrap_or(u32::MAX)).collect();
        caller.admit(inputs.iter().map(|input| input.questions.len()).sum())?;
        let priority = caller.priority(priority);
        let arrived = Instant::now();
        let (meters, log_content) = (Arc::clone(&self.meters), self.log_content);
        let call = Arc::new(Call {
            pipeline,
            intake,
            arrived,
            deadline,
            caller,
            priority,
            meters,
            trace,
            log_content,
            in_flight,
        });
        let mut outcomes = Deadline::bound(deadline, outcomes(call, inputs, held).map(Ok)).boxed();
        if every_pair {
            outcomes = EveryPair::new(outcomes, &counts).boxed();
        }
        if in_order {
            outcomes = InOrder::new(outcomes, counts).boxed();
        }
        Ok(outcomes)
    }
}
