//! The JSON of the results of each task.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    pipeline::{item_result::ItemResult, reply::Reply},
};

/// The layout of a response.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Layout {
    /// The answers to one question.
    Answers,
    /// One caption.
    Caption,
    /// The score of each of these labels.
    Labels(Vec<String>),
    /// The embedding of each text.
    Embeddings,
}

/// The results of a task.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum TaskOutput {
    /// Visual question answering: the answers, best first.
    Answers(Vec<AnswerScore>),
    /// Image to text: the caption.
    Captions(Vec<GeneratedText>),
    /// Zero-shot image classification: the labels, best first.
    Labels(Vec<LabelScore>),
    /// Feature extraction: the embedding of each text.
    Embeddings(Vec<Vec<f32>>),
    /// Image to text for `@huggingface/inference`, which expects no list.
    Caption(GeneratedText),
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AnswerScore {
    /// The answer in words.
    answer: String,
    /// The probability that the model gives this answer.
    #[schema(minimum = 0, maximum = 1)]
    score: f32,
}

/// A caption.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct GeneratedText {
    /// The caption.
    generated_text: String,
}

/// A label.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct LabelScore {
    /// The label.
    label: String,
    /// The probability that the text with the label describes the image.
    #[schema(minimum = 0, maximum = 1)]
    score: f32,
}

impl TaskOutput {
    /// Creates the response with `results`.
    ///
    /// # Errors
    /// The error of the first failed item.
    pub(crate) fn new(results: Vec<ItemResult>, layout: Layout) -> Result<Self, RequestError> {
        let mut replies = results.into_iter().map(|result| result.reply);
        match layout {
            Layout::Answers => match replies.next().transpose()? {
                Some(Reply::Answer(answer)) => {
                    let others = answer.alternatives.into_iter().map(|other| (other.text, other.score));
                    let answers = std::iter::once((answer.text, answer.score)).chain(others);
                    Ok(Self::Answers(answers.map(AnswerScore::from).collect()))
                }
                _ => Err(unexpected()),
            },
            Layout::Caption => match replies.next().transpose()? {
                Some(Reply::Caption(caption)) => {
                    Ok(Self::Captions(vec![GeneratedText { generated_text: caption.text }]))
                }
                _ => Err(unexpected()),
            },
            Layout::Labels(labels) => {
                let score = |(reply, label)| match reply? {
                    Reply::Match(scores) => Ok(LabelScore { label, score: scores.probability }),
                    _ => Err(unexpected()),
                };
                let scores: Result<Vec<LabelScore>, _> = replies.zip(labels).map(score).collect();
                let mut scores = scores?;
                scores.sort_by(|one, other| other.score.total_cmp(&one.score));
                Ok(Self::Labels(scores))
            }
            Layout::Embeddings => {
                let values = |reply| match reply? {
                    Reply::Embedding(embedding) => Ok(embedding.values),
                    _ => Err(unexpected()),
                };
                replies.map(values).collect::<Result<_, _>>().map(Self::Embeddings)
            }
        }
    }

    /// Returns the form that `@huggingface/inference` expects.
    pub(crate) fn without_list(self) -> Self {
        match self {
            Self::Captions(captions) if captions.len() == 1 => {
                captions.into_iter().next().map_or(Self::Captions(Vec::new()), Self::Caption)
            }
            other => other,
        }
    }
}

impl From<(String, f32)> for AnswerScore {
    /// Creates an answer from its natural log-probability.
    fn from((answer, score): (String, f32)) -> Self {
        Self { answer, score: score.exp().clamp(0.0, 1.0) }
    }
}

fn unexpected() -> RequestError {
    RequestError::new(ErrorReason::InternalError).cause("unexpected reply of another task")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::pipeline::reply::{Alternative, Answer, Caption, Embedding, MatchScores};

    fn output(layout: Layout, replies: Vec<Result<Reply, RequestError>>) -> Result<TaskOutput, RequestError> {
        let result = |(text_index, reply)| ItemResult { image_index: 0, text_index, ready: None, reply };
        TaskOutput::new((0..).zip(replies).map(result).collect(), layout)
    }

    fn json(layout: Layout, replies: Vec<Reply>) -> Value {
        serde_json::to_value(output(layout, replies.into_iter().map(Ok).collect()).unwrap()).unwrap()
    }

    #[test]
    fn answers_are_best_first_with_probabilities() {
        let other = Alternative { text: "b".to_owned(), score: f32::NEG_INFINITY, ..Alternative::default() };
        let answer = Answer { text: "a".to_owned(), alternatives: vec![other], ..Answer::default() };
        let expected = json!([{"answer": "a", "score": 1.0}, {"answer": "b", "score": 0.0}]);
        assert_eq!(json(Layout::Answers, vec![Reply::Answer(answer)]), expected);
    }

    #[test]
    fn labels_are_sorted_by_probability() {
        let scores = [0.25, 0.75].map(|probability| MatchScores { probability, ..MatchScores::default() });
        let labels = ["cat", "dog"].map(str::to_owned).to_vec();
        let expected = json!([{"label": "dog", "score": 0.75}, {"label": "cat", "score": 0.25}]);
        assert_eq!(json(Layout::Labels(labels), scores.map(Reply::Match).to_vec()), expected);
    }

    #[test]
    fn caption_is_a_list_or_an_object() {
        let caption = || Ok(Reply::Caption(Caption { text: "a".to_owned(), ..Caption::default() }));
        let list = output(Layout::Caption, vec![caption()]).unwrap();
        assert_eq!(serde_json::to_value(&list).unwrap(), json!([{"generated_text": "a"}]));
        assert_eq!(serde_json::to_value(list.without_list()).unwrap(), json!({"generated_text": "a"}));
        let embedding = Embedding { values: vec![0.5], ..Embedding::default() };
        let embeddings = json(Layout::Embeddings, vec![Reply::Embedding(embedding)]);
        assert_eq!(embeddings, json!([[0.5]]));
    }

    #[test]
    fn failed_item_fails_the_request() {
        let error = RequestError::new(ErrorReason::QuestionEmpty).field("inputs[0]");
        for layout in [Layout::Answers, Layout::Caption, Layout::Labels(vec!["a".into()]), Layout::Embeddings]
        {
            assert_eq!(output(layout, vec![Err(error.clone())]).unwrap_err(), error);
        }
    }
}
