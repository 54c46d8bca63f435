//! The JSON of a chat completion.

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    http::adapters::openai::chat_request::ChatOutput,
    pipeline::reply::Reply,
};

/// What separates the answers of a message with several images or texts.
pub(crate) const SEPARATOR: &str = "\n";

/// The answers to a message.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChatCompletion {
    /// The id of the completion.
    pub(crate) id: String,
    /// `chat.completion`.
    #[schema(example = "chat.completion")]
    pub(crate) object: &'static str,
    /// The time of the response, in seconds since 1970.
    pub(crate) created: u64,
    /// The name of the model.
    pub(crate) model: String,
    /// The answers, best first.
    pub(crate) choices: Vec<Choice>,
    /// The number of tokens.
    pub(crate) usage: Usage,
}

/// An answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Choice {
    /// The position of the choice, from 0.
    pub(crate) index: usize,
    /// The answer.
    pub(crate) message: Answer,
    /// The log-probabilities, if the request has `logprobs`.
    pub(crate) logprobs: Option<LogProbabilities>,
    /// `stop`, or `length` if the maximum of tokens ended the answer.
    #[schema(example = "stop")]
    pub(crate) finish_reason: &'static str,
}

/// The message of an answer.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Answer {
    /// `assistant`.
    #[schema(example = "assistant")]
    pub(crate) role: &'static str,
    /// The answer in words. A message with several images or texts has a line for each.
    pub(crate) content: String,
    /// Always `null`.
    #[schema(value_type = Option<String>)]
    pub(crate) refusal: (),
}

/// The number of tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct Usage {
    /// The number of tokens of the texts, for each image. Tokens that begin and end a text are
    /// included. Images have no tokens.
    pub(crate) prompt_tokens: usize,
    /// The number of generated tokens of all choices, with the tokens that end them.
    pub(crate) completion_tokens: usize,
    /// The sum of both.
    pub(crate) total_tokens: usize,
}

/// The log-probabilities of a choice: an entry for each line.
#[derive(Clone, Debug, Default, PartialEq, Serialize, ToSchema)]
pub(crate) struct LogProbabilities {
    /// The answers.
    pub(crate) content: Vec<LogProbability>,
}

/// The log-probability of an answer.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(crate) struct LogProbability {
    /// The whole answer.
    token: String,
    /// The natural logarithm of its probability.
    logprob: f32,
    /// The answer in UTF-8.
    bytes: Vec<u8>,
    /// The best answers, best first. They have no such list. It is empty in all choices but the
    /// first.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, value_type = Option<Vec<TopLogProbability>>)]
    top_logprobs: Option<Vec<LogProbability>>,
}

/// The log-probability of one of the best answers.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes the list in the OpenAPI document; LogProbability writes it")]
pub(crate) struct TopLogProbability {
    /// The whole answer.
    token: String,
    /// The natural logarithm of its probability.
    logprob: f32,
    /// The answer in UTF-8.
    bytes: Vec<u8>,
}

/// One answer of an item.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line {
    /// The answer in words.
    pub(crate) text: String,
    /// The number of generated tokens.
    pub(crate) tokens: usize,
    /// The number of tokens of the text of the item, in its best answer only.
    pub(crate) prompt_tokens: usize,
    /// Whether the maximum of tokens ended the answer.
    pub(crate) is_cut: bool,
    score: f32,
}

impl Line {
    fn new(text: &str, token_ids: &[u32], score: f32, stop_token: u32) -> Self {
        let is_cut = token_ids.last().is_some_and(|last| *last != stop_token);
        Self { text: text.to_owned(), tokens: token_ids.len(), prompt_tokens: 0, is_cut, score }
    }

    /// Returns all answers of an item, best first. `stop_token` ends a whole answer.
    ///
    /// # Errors
    /// A [`RequestError`] if the reply has no text.
    pub(crate) fn all(reply: &Reply, stop_token: u32) -> Result<Vec<Self>, RequestError> {
        let (best, alternatives) = match reply {
            Reply::Answer(answer) => {
                let best = Self::new(&answer.text, &answer.token_ids, answer.score, stop_token);
                (best, &answer.alternatives)
            }
            Reply::Caption(caption) => {
                let best = Self::new(&caption.text, &caption.token_ids, caption.score, stop_token);
                (best, &caption.alternatives)
            }
            _ => return Err(RequestError::new(ErrorReason::InternalError).cause("reply without text")),
        };
        let others = alternatives.iter();
        let others = others.map(|other| Self::new(&other.text, &other.token_ids, other.score, stop_token));
        let prompt_tokens = reply.cost().map_or(0, |(timing, _)| timing.text_tokens as usize);
        Ok(std::iter::once(Self { prompt_tokens, ..best }).chain(others).collect())
    }

    /// Returns why the answer ended.
    pub(crate) fn finish_reason(is_cut: bool) -> &'static str {
        if is_cut { "length" } else { "stop" }
    }

    /// Returns the log-probability of the answer. `lines` are all answers of its item, and
    /// `separator` precedes the answer.
    pub(crate) fn log_probability(&self, lines: &[Self], top: usize, separator: &str) -> LogProbability {
        let top = lines.iter().take(top).map(|line| LogProbability::new(&line.text, line.score, None));
        LogProbability::new(&format!("{separator}{}", self.text), self.score, Some(top.collect()))
    }
}

impl LogProbability {
    fn new(text: &str, logprob: f32, top_logprobs: Option<Vec<Self>>) -> Self {
        Self { token: text.to_owned(), logprob, bytes: text.as_bytes().to_vec(), top_logprobs }
    }
}

impl Usage {
    /// Adds the tokens of an answer.
    pub(crate) fn add(&mut self, line: &Line) {
        self.prompt_tokens += line.prompt_tokens;
        self.completion_tokens += line.tokens;
        self.total_tokens += line.prompt_tokens + line.tokens;
    }
}

/// Returns the choices of a message and the number of their tokens. `items` has the answers of each
/// of its items.
pub(crate) fn choices(items: &[Vec<Line>], output: ChatOutput) -> (Vec<Choice>, Usage) {
    let mut usage = Usage::default();
    let mut choices = Vec::new();
    for index in 0..output.choices {
        // An item can have fewer answers than requested.
        let lines: Option<Vec<&Line>> = items.iter().map(|lines| lines.get(index)).collect();
        let Some(lines) = lines else { break };
        lines.iter().for_each(|line| usage.add(line));
        let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
        let logprobs = output.top_logprobs.map(|top| {
            let separators = std::iter::once("").chain(std::iter::repeat(SEPARATOR));
            let entries = lines.iter().zip(items).zip(separators);
            // The best answers of an item are the same for each choice.
            let top = if index == 0 { top } else { 0 };
            let entries = entries.map(|((line, all), separator)| line.log_probability(all, top, separator));
            LogProbabilities { content: entries.collect() }
        });
        let message = Answer { role: "assistant", content: texts.join(SEPARATOR), refusal: () };
        let finish_reason = Line::finish_reason(lines.iter().any(|line| line.is_cut));
        choices.push(Choice { index, message, logprobs, finish_reason });
    }
    (choices, usage)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::pipeline::{reply, timing::Timing};

    const STOP: u32 = 102;

    fn item(texts: &[&str]) -> Vec<Line> {
        texts.iter().map(|text| Line::new(text, &[5, STOP], -0.5, STOP)).collect()
    }

    fn output(choices: usize, top_logprobs: Option<usize>) -> ChatOutput {
        ChatOutput { choices, top_logprobs, stream: false, include_usage: false }
    }

    #[test]
    fn choice_has_a_line_for_each_item() {
        let (choices, usage) = choices(&[item(&["a", "b"]), item(&["c", "d"])], output(2, None));
        let contents: Vec<_> = choices.iter().map(|choice| choice.message.content.as_str()).collect();
        assert_eq!(contents, ["a\nc", "b\nd"]);
        assert_eq!((usage.completion_tokens, choices[1].finish_reason), (8, "stop"));
    }

    #[test]
    fn text_of_an_item_counts_once_for_all_choices() {
        let item = |text_tokens| {
            let other = reply::Alternative { token_ids: vec![7, STOP], ..reply::Alternative::default() };
            let timing = Timing { text_tokens, ..Timing::default() };
            let (token_ids, alternatives) = (vec![5, STOP], vec![other]);
            let answer = reply::Answer { token_ids, alternatives, timing, ..reply::Answer::default() };
            Line::all(&Reply::Answer(answer), STOP).unwrap()
        };
        let (_, usage) = choices(&[item(9), item(4)], output(2, None));
        assert_eq!(usage, Usage { prompt_tokens: 13, completion_tokens: 8, total_tokens: 21 });
    }

    #[test]
    fn tokens_of_log_probabilities_join_to_the_content() {
        let (choices, _) = choices(&[item(&["a", "b"]), item(&["c", "d"])], output(1, Some(2)));
        let logprobs = serde_json::to_value(&choices[0].logprobs).unwrap();
        assert_eq!(logprobs["content"][1]["token"], "\nc");
        assert_eq!(logprobs["content"][1]["bytes"], json!([10, 99]));
        let top = json!({"token": "d", "logprob": -0.5, "bytes": [100]});
        assert_eq!(logprobs["content"][1]["top_logprobs"][1], top);
    }

    #[test]
    fn answer_without_its_stop_token_ended_by_length() {
        let answer = |token_ids| {
            let answer = reply::Answer { text: "red".to_owned(), token_ids, ..reply::Answer::default() };
            Line::all(&Reply::Answer(answer), STOP).unwrap().pop().unwrap().is_cut
        };
        assert_eq!((answer(vec![5, 6]), answer(vec![5, STOP]), answer(Vec::new())), (true, false, false));
    }

    #[test]
    fn missing_answers_give_fewer_choices() {
        assert_eq!(choices(&[item(&["a"])], output(3, None)).0.len(), 1);
    }
}
