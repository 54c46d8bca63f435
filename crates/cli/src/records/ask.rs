//! Questions, by `AskStream`.

use bulk::{Fields, RecordResult, Task};
use proto::{AskRequest, AskResponse, ImageQuestions, Question, ask_response};
use tonic::{Request, transport::Channel};

use crate::records::{client_stream::Conversation, image_loader::Pictures, record_text, response_fields};

/// Asks records of `image`, `question`, and `candidates` or `candidate_list` if there are any.
#[derive(Debug)]
pub(crate) struct Asking {
    conversation: Conversation,
    pictures: Pictures,
    /// What every request has: model, priority, options.
    request: AskRequest,
}

impl Asking {
    /// `template` is signed.
    pub(crate) fn new(
        channel: Channel,
        template: Request<()>,
        pictures: Pictures,
        request: AskRequest,
    ) -> Self {
        Self { conversation: Conversation::new(channel, template), pictures, request }
    }

    /// Asks some of the questions about one image; `None` is one that got no response.
    async fn ask(&self, record: &Fields, questions: Vec<Question>) -> Result<Vec<Option<RecordResult>>, String> {
        let pairs = questions.len();
        let turn = match self.conversation.turn().await {
            Ok(turn) => turn,
            Err(status) => return Ok(vec![Some(response_fields::ended(&status)?); pairs]),
        };
        let image = match self.pictures.of(record).await {
            Ok(image) => image,
            Err(error) => return Ok(vec![Some(RecordResult::Failed(error)); pairs]),
        };
        let inputs = vec![ImageQuestions { image: Some(image), questions }];
        let (responses, end) = turn.ask(AskRequest { inputs, ..self.request.clone() }, pairs).await;
        let mut outcomes: Vec<Option<RecordResult>> = vec![None; pairs];
        for response in responses {
            let at = usize::try_from(response.question_index).unwrap_or(usize::MAX);
            if let Some(place) = outcomes.get_mut(at) {
                *place = Some(outcome(response)?);
            }
        }
        if let Some(status) = end {
            let lost = response_fields::ended(&status)?;
            outcomes
                .iter_mut()
                .filter(|outcome| outcome.is_none())
                .for_each(|place| *place = Some(lost.clone()));
        }
        Ok(outcomes)
    }
}

impl Task for Asking {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let questions: Vec<Result<Question, Fields>> = records.iter().map(question).collect();
        let mut outcomes: Vec<Option<RecordResult>> =
            questions.iter().map(|question| question.clone().err().map(RecordResult::Failed)).collect();
        let open = open(&outcomes);
        // All together first; those that got nothing then each by itself, since they may have been refused for one of them.
        let mut lots = vec![open];
        while let Some(lot) = lots.pop() {
            let asked: Vec<Question> = lot.iter().filter_map(|at| questions.get(*at)?.clone().ok()).collect();
            let Some(record) = lot.first().and_then(|at| records.get(*at)) else { continue };
            for (at, outcome) in lot.iter().zip(self.ask(record, asked).await?) {
                match outcome {
                    None if lot.len() > 1 => lots.push(vec![*at]),
                    outcome => outcomes.get_mut(*at).into_iter().for_each(|place| place.clone_from(&outcome)),
                }
            }
        }
        let nothing =
            || RecordResult::Failed(response_fields::error("EMPTY_RESPONSE", "the server gave no answer"));
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(nothing)).collect())
    }
}

fn open(outcomes: &[Option<RecordResult>]) -> Vec<usize> {
    outcomes.iter().enumerate().filter(|(_, outcome)| outcome.is_none()).map(|(at, _)| at).collect()
}

fn question(record: &Fields) -> Result<Question, Fields> {
    let text = record_text::text(record, "question")?.unwrap_or_default().to_owned();
    let candidates = record_text::texts(record, "candidates")?;
    let candidate_list = record_text::text(record, "candidate_list")?.unwrap_or_default().to_owned();
    Ok(Question { text, candidates, candidate_list })
}

fn outcome(response: AskResponse) -> Result<RecordResult, String> {
    match response.outcome {
        Some(ask_response::Outcome::Answer(answer)) => {
            Ok(RecordResult::Answered(response_fields::answer(&answer)))
        }
        Some(ask_response::Outcome::Error(error)) => response_fields::refused(&error),
        None => Ok(RecordResult::Failed(response_fields::error("EMPTY_RESPONSE", "the response is empty"))),
    }
}
