//! Questions, sent by `AskStream`.

use bulk::{Fields, RecordResult, Task};
use proto::{AskRequest, AskResponse, ImageQuestions, Question, ask_response};

use crate::{
    connection::RpcClient,
    records::{
        classify_errors::{classify_call_end, classify_item_error, empty_response},
        client_stream::ClientStream,
        image_loader::ImageLoader,
        record_text::{text, texts},
        response_fields::answer_fields,
    },
};

/// Answers the `question` of records about their `image`.
///
/// A record can limit the answers by `candidates` or `candidate_list`.
#[derive(Debug)]
pub(crate) struct AskTask {
    stream: ClientStream,
    images: ImageLoader,
    /// The fields that all requests share: model, priority and options.
    request: AskRequest,
}

impl AskTask {
    pub(crate) fn new(client: RpcClient, images: ImageLoader, request: AskRequest) -> Self {
        Self { stream: ClientStream::new(client), images, request }
    }

    /// Sends questions about the image of `record`.
    ///
    /// The result of a question without a response is `None`.
    async fn send(
        &self,
        record: &Fields,
        questions: Vec<Question>,
    ) -> Result<Vec<Option<RecordResult>>, String> {
        let count = questions.len();
        let permit = match self.stream.reserve().await {
            Ok(permit) => permit,
            Err(status) => return Ok(vec![Some(classify_call_end(&status)?); count]),
        };
        let image = match self.images.load(record).await {
            Ok(image) => image,
            Err(error) => return Ok(vec![Some(RecordResult::Failed(error)); count]),
        };
        let inputs = vec![ImageQuestions { image: Some(image), questions }];
        let (responses, end) = permit.send(AskRequest { inputs, ..self.request.clone() }, count).await;
        let mut results: Vec<Option<RecordResult>> = vec![None; count];
        for response in responses {
            let index = usize::try_from(response.question_index).unwrap_or(usize::MAX);
            if let Some(result) = results.get_mut(index) {
                *result = Some(to_result(response)?);
            }
        }
        if let Some(status) = end {
            let missing = classify_call_end(&status)?;
            for result in results.iter_mut().filter(|result| result.is_none()) {
                *result = Some(missing.clone());
            }
        }
        Ok(results)
    }
}

impl Task for AskTask {
    async fn process(&self, records: Vec<Fields>) -> Result<Vec<RecordResult>, String> {
        let questions: Vec<Result<Question, Fields>> = records.iter().map(to_question).collect();
        let mut results: Vec<Option<RecordResult>> =
            questions.iter().map(|question| question.clone().err().map(RecordResult::Failed)).collect();
        let valid =
            (0..).zip(&questions).filter(|(_, question)| question.is_ok()).map(|(at, _)| at).collect();
        // One invalid question makes the server reject a whole request. So those without a response
        // are sent again, each in a request of one question.
        let mut groups: Vec<Vec<usize>> = vec![valid];
        while let Some(group) = groups.pop() {
            let sent: Vec<Question> =
                group.iter().filter_map(|at| questions.get(*at)?.clone().ok()).collect();
            let Some(record) = group.first().and_then(|at| records.get(*at)) else { continue };
            for (at, outcome) in group.iter().zip(self.send(record, sent).await?) {
                if outcome.is_none() && group.len() > 1 {
                    groups.push(vec![*at]);
                } else if let Some(result) = results.get_mut(*at) {
                    *result = outcome;
                }
            }
        }
        Ok(results
            .into_iter()
            .map(|result| result.unwrap_or_else(|| empty_response("no response")))
            .collect())
    }
}

fn to_question(record: &Fields) -> Result<Question, Fields> {
    Ok(Question {
        text: text(record, "question")?.unwrap_or_default().to_owned(),
        candidates: texts(record, "candidates")?,
        candidate_list: text(record, "candidate_list")?.unwrap_or_default().to_owned(),
    })
}

fn to_result(response: AskResponse) -> Result<RecordResult, String> {
    match response.outcome {
        Some(ask_response::Outcome::Answer(answer)) => Ok(RecordResult::Answered(answer_fields(&answer))),
        Some(ask_response::Outcome::Error(error)) => classify_item_error(&error),
        None => Ok(empty_response("the response is empty")),
    }
}
