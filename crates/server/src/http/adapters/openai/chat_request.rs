//! The JSON of `/v1/chat/completions`.

use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::adapters::openai::{
        error::invalid,
        message::{Message, Question},
    },
    request::{generation::GenerationOptions, whole_number::whole_number},
};

/// A message with images, and how it is answered. The fields of OpenAI's API that have no effect on
/// an answer are accepted and ignored. Those that a BLIP model cannot obey are errors.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChatRequest {
    /// The name of the model. Without it, or with `dummy`, the server chooses: the first model that
    /// answers questions if the message has a text, or else the first that writes captions.
    #[serde(default)]
    model: Option<String>,
    /// One message of the role `user`.
    #[schema(min_items = 1, max_items = 1)]
    messages: Vec<Message>,
    /// The maximum number of generated tokens. A number above the limit of the server is lowered
    /// to it.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    max_tokens: Option<u32>,
    /// As `max_tokens`, which it overrides.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    max_completion_tokens: Option<u32>,
    /// The number of choices: the best answers.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 1, maximum = 4_294_967_295_u32, format = "uint32")]
    n: Option<u32>,
    /// Above 0: sample tokens with this divisor of logits. Without it, or with 0, the most likely
    /// tokens are chosen.
    #[schema(minimum = 0, maximum = 100)]
    temperature: Option<f32>,
    /// Sampling: total probability of the most likely tokens to sample from.
    #[schema(minimum = 0.001, maximum = 1)]
    top_p: Option<f32>,
    /// Sampling: the same seed and input have the same result.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 0, format = "uint64")]
    seed: Option<u64>,
    /// Whether choices have log-probabilities.
    logprobs: Option<bool>,
    /// The number of the best answers among the log-probabilities. Needs `logprobs`.
    #[serde(default, deserialize_with = "whole_number")]
    #[schema(minimum = 0, maximum = 4_294_967_295_u32, format = "uint32")]
    top_logprobs: Option<u32>,
    /// Whether the response is a stream of server-sent events.
    stream: Option<bool>,
    /// The options of the stream.
    stream_options: Option<StreamOptions>,
    /// A name of the user. It has no effect.
    #[serde(rename = "user")]
    #[schema(value_type = Option<serde_json::Value>)]
    _user: Option<IgnoredAny>,
    #[schema(ignore)]
    tools: Option<Vec<IgnoredAny>>,
    #[schema(ignore)]
    functions: Option<Vec<IgnoredAny>>,
    #[schema(ignore)]
    response_format: Option<ResponseFormat>,
    #[schema(ignore)]
    stop: Option<Value>,
    #[schema(ignore)]
    frequency_penalty: Option<f32>,
    #[schema(ignore)]
    presence_penalty: Option<f32>,
    #[schema(ignore)]
    logit_bias: Option<Map<String, Value>>,
    #[schema(ignore)]
    modalities: Option<Vec<String>>,
    // Without tools, these have no effect.
    #[serde(rename = "tool_choice")]
    #[schema(ignore)]
    _tool_choice: Option<IgnoredAny>,
    #[serde(rename = "function_call")]
    #[schema(ignore)]
    _function_call: Option<IgnoredAny>,
    #[serde(rename = "parallel_tool_calls")]
    #[schema(ignore)]
    _parallel_tool_calls: Option<IgnoredAny>,
    // These are for the books and caches of OpenAI.
    #[serde(rename = "metadata")]
    #[schema(ignore)]
    _metadata: Option<IgnoredAny>,
    #[serde(rename = "store")]
    #[schema(ignore)]
    _store: Option<IgnoredAny>,
    #[serde(rename = "service_tier")]
    #[schema(ignore)]
    _service_tier: Option<IgnoredAny>,
    #[serde(rename = "safety_identifier")]
    #[schema(ignore)]
    _safety_identifier: Option<IgnoredAny>,
    #[serde(rename = "prompt_cache_key")]
    #[schema(ignore)]
    _prompt_cache_key: Option<IgnoredAny>,
}

/// The options of a stream.
#[derive(Deserialize, ToSchema)]
pub(crate) struct StreamOptions {
    /// Whether the stream ends with the number of tokens.
    #[serde(default)]
    include_usage: bool,
}

/// The format of an answer. Only `text` is accepted.
#[derive(Deserialize)]
struct ResponseFormat {
    #[serde(rename = "type")]
    kind: String,
}

/// The maximum number of answers in a response, over all choices and items.
const MAX_ANSWERS: usize = 1024;

/// A chat request whose fields were checked.
#[derive(Debug)]
pub(crate) struct Chat {
    /// The name of the model, or an empty string.
    pub(crate) model: String,
    /// The question and its images.
    pub(crate) question: Question,
    /// How tokens are chosen.
    pub(crate) generation: GenerationOptions,
    /// What the response has.
    pub(crate) output: ChatOutput,
}

/// What the response to a chat request has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ChatOutput {
    /// The number of choices.
    pub(crate) choices: usize,
    /// The number of the best answers in the log-probabilities, if they are requested.
    pub(crate) top_logprobs: Option<usize>,
    /// Whether the response is a stream.
    pub(crate) stream: bool,
    /// Whether the stream has the number of tokens.
    pub(crate) include_usage: bool,
}

impl ChatOutput {
    /// Checks the size of the response for this number of items.
    ///
    /// # Errors
    /// A [`RequestError`] if the response would have too many answers.
    pub(crate) fn check_answers(&self, items: usize) -> Result<(), RequestError> {
        let answers = items.saturating_mul(self.choices + self.top_logprobs.unwrap_or_default());
        if answers <= MAX_ANSWERS {
            return Ok(());
        }
        let cause = format!("{answers} answers for {items} items, at most {MAX_ANSWERS} allowed");
        Err(invalid(if self.choices > 1 { "n" } else { "messages" }, &cause))
    }
}

impl ChatRequest {
    /// Checks the fields. `max_new_tokens` is the limit of the server.
    ///
    /// # Errors
    /// A [`RequestError`] that names the first field that a BLIP model cannot obey.
    pub(crate) fn check(self, max_new_tokens: u32) -> Result<Chat, RequestError> {
        self.check_unsupported()?;
        let answers = self.n.unwrap_or(1);
        if answers == 0 {
            return Err(invalid("n", "0, at least 1 choice expected"));
        }
        let top_logprobs = match (self.top_logprobs, self.logprobs.unwrap_or_default()) {
            (Some(_), false) => return Err(invalid("top_logprobs", "it needs logprobs")),
            (top, true) => Some(top.unwrap_or_default()),
            (None, false) => None,
        };
        let max_tokens = self.max_completion_tokens.or(self.max_tokens);
        let is_sampled = match self.temperature {
            Some(temperature) => temperature != 0.0,
            None => self.top_p.is_some_and(|top_p| top_p < 1.0),
        };
        // The best answers are the alternatives of one search. Samples are not: more of them would
        // change which one is the best.
        let listed = if is_sampled { 0 } else { top_logprobs.unwrap_or_default() };
        let num_answers = answers.max(listed);
        let sampling = if is_sampled {
            GenerationOptions {
                sample: Some(true),
                temperature: self.temperature,
                top_p: self.top_p,
                seed: self.seed,
                ..GenerationOptions::default()
            }
        } else {
            GenerationOptions::default()
        };
        let generation = GenerationOptions {
            max_new_tokens: max_tokens.map(|tokens| tokens.min(max_new_tokens)),
            num_answers: (num_answers != 1).then_some(num_answers),
            // The score of an answer is its log-probability, not divided by its length.
            length_penalty: (num_answers != 1).then_some(0.0),
            ..sampling
        };
        let output = ChatOutput {
            choices: answers as usize,
            top_logprobs: top_logprobs.map(|top| top as usize),
            stream: self.stream.unwrap_or_default(),
            include_usage: self.stream_options.is_some_and(|options| options.include_usage),
        };
        let model = self.model.unwrap_or_default();
        Ok(Chat { model, question: Question::of(self.messages)?, generation, output })
    }

    fn check_unsupported(&self) -> Result<(), RequestError> {
        let is_set = |list: &Option<Vec<IgnoredAny>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let stops = match &self.stop {
            None | Some(Value::Null) => false,
            Some(Value::Array(stops)) => !stops.is_empty(),
            Some(_) => true,
        };
        let is_penalty = |penalty: Option<f32>| penalty.is_some_and(|penalty| penalty != 0.0);
        let is_other_format = self.response_format.as_ref().is_some_and(|format| format.kind != "text");
        let is_other_modality =
            self.modalities.as_ref().is_some_and(|modalities| modalities.iter().any(|name| name != "text"));
        let unsupported = [
            ("tools", is_set(&self.tools), "a BLIP model calls no tools"),
            ("functions", is_set(&self.functions), "a BLIP model calls no functions"),
            ("response_format", is_other_format, "a BLIP model writes plain text, expected the type text"),
            ("modalities", is_other_modality, "a BLIP model writes text only"),
            ("stop", stops, "an answer ends where the model ends it"),
            ("frequency_penalty", is_penalty(self.frequency_penalty), "only 0 is supported"),
            ("presence_penalty", is_penalty(self.presence_penalty), "only 0 is supported"),
            (
                "logit_bias",
                self.logit_bias.as_ref().is_some_and(|bias| !bias.is_empty()),
                "logits cannot be changed",
            ),
        ];
        match unsupported.into_iter().find(|(_, is_set, _)| *is_set) {
            Some((field, _, cause)) => Err(invalid(field, cause)),
            None => Ok(()),
        }
    }
}

impl Chat {
    /// Returns an error with the field names of this API. `item` has the positions of the image and
    /// of the text of a failed item.
    pub(crate) fn named(question: &Question, error: RequestError, item: Option<(u32, u32)>) -> RequestError {
        error.rename_field(|field| match (field.strip_prefix("generation."), item) {
            (Some("num_answers"), _) => Some("n".to_owned()),
            (Some("max_new_tokens"), _) => Some("max_tokens".to_owned()),
            (Some(option), _) => Some(option.to_owned()),
            (None, Some((image, _))) if field.starts_with("image_url") => {
                Some(question.image_path(image as usize))
            }
            (None, Some((_, text))) if field.starts_with("text") => Some(question.text_path(text as usize)),
            _ => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{error::ErrorReason, http::json::read_json};

    fn chat(fields: Value) -> Result<Chat, RequestError> {
        let image = json!({"type": "image_url", "image_url": {"url": "data:,"}});
        let mut request = json!({"messages": [{"role": "user", "content": [image]}]});
        request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        read_json::<ChatRequest>(request.to_string().as_bytes(), "the body")?.check(128)
    }

    fn generation(fields: Value) -> GenerationOptions {
        chat(fields).unwrap().generation
    }

    #[test]
    fn sampling_begins_above_temperature_0_or_below_top_p_1() {
        let greedy = GenerationOptions::default();
        for fields in [
            json!({}),
            json!({"temperature": 0, "top_p": 0.5, "seed": 7}),
            json!({"top_p": 1, "seed": 7}),
            json!({"n": 1, "max_tokens": null}),
        ] {
            assert_eq!(generation(fields), greedy);
        }
        let sampled = generation(json!({"temperature": 0.5, "top_p": 0.75, "seed": 7}));
        let expected = GenerationOptions {
            sample: Some(true),
            temperature: Some(0.5),
            top_p: Some(0.75),
            seed: Some(7),
            ..greedy
        };
        assert_eq!(sampled, expected);
        assert_eq!(generation(json!({"top_p": 0.75})).sample, Some(true));
        assert_eq!(generation(json!({"temperature": -1})).temperature, Some(-1.0));
    }

    #[test]
    fn token_limit_is_lowered_to_that_of_the_server() {
        assert_eq!(generation(json!({"max_tokens": 5})).max_new_tokens, Some(5));
        assert_eq!(
            generation(json!({"max_tokens": 5, "max_completion_tokens": 4096})).max_new_tokens,
            Some(128)
        );
    }

    #[test]
    fn number_of_answers_covers_choices_and_log_probabilities() {
        let answers = |fields| generation(fields).num_answers;
        assert_eq!(answers(json!({"n": 2})), Some(2));
        assert_eq!(answers(json!({"n": 2, "logprobs": true, "top_logprobs": 3})), Some(3));
        assert_eq!(answers(json!({"n": 1, "logprobs": true})), None);
        let sampled = json!({"n": 2, "logprobs": true, "top_logprobs": 3, "temperature": 1.0});
        assert_eq!(answers(sampled), Some(2));
        assert_eq!(generation(json!({"n": 2})).length_penalty, Some(0.0));
        let error = chat(json!({"n": 0})).unwrap_err().to_string();
        assert_eq!(error, "n is invalid: 0, at least 1 choice expected");
        let output = chat(json!({"n": 10, "logprobs": true, "top_logprobs": 6})).unwrap().output;
        assert!(output.check_answers(64).is_ok() && output.check_answers(65).is_err());
        let error = chat(json!({"top_logprobs": 3})).unwrap_err().to_string();
        assert_eq!(error, "top_logprobs is invalid: it needs logprobs");
    }

    #[test]
    fn field_without_effect_is_accepted_and_others_are_named() {
        let ignored = json!({
            "user": "u", "store": false, "metadata": {"a": "b"}, "tool_choice": "auto", "tools": [], "stop": null,
            "parallel_tool_calls": true, "frequency_penalty": 0.0, "logit_bias": {}, "response_format": {"type": "text"},
            "stream_options": {"include_usage": true, "include_obfuscation": false},
        });
        assert!(chat(ignored).unwrap().output.include_usage);
        for (fields, expected) in [
            (json!({"tools": [{"type": "function"}]}), "tools is invalid: a BLIP model calls no tools"),
            (json!({"functions": [{}]}), "functions is invalid"),
            (json!({"response_format": {"type": "json_object"}}), "response_format is invalid"),
            (json!({"modalities": ["text", "audio"]}), "modalities is invalid"),
            (json!({"stop": "\n"}), "stop is invalid"),
            (json!({"presence_penalty": 0.5}), "presence_penalty is invalid"),
            (json!({"logit_bias": {"50256": -100}}), "logit_bias is invalid"),
            (json!({"top_k": 5}), "unknown field `top_k`"),
            (json!({"n": "2"}), "n is invalid: invalid type: string"),
        ] {
            let error = chat(fields).unwrap_err();
            assert_eq!(error.reason(), ErrorReason::PayloadInvalid);
            assert!(error.to_string().contains(expected), "{error}");
        }
    }

    #[test]
    fn errors_have_the_field_names_of_this_api() {
        let question = chat(json!({})).unwrap().question;
        let named = |field: &str, item| {
            let error = RequestError::new(ErrorReason::PayloadInvalid).field(field).cause("x");
            Chat::named(&question, error, item).to_string()
        };
        assert_eq!(named("generation.num_answers", None), "n is invalid: x");
        assert_eq!(named("generation.temperature", None), "temperature is invalid: x");
        let item = Some((0, 0));
        assert_eq!(named("image_url[0]", item), "messages[0].content[0].image_url.url is invalid: x");
        assert_eq!(named("text[0]", item), "messages[0].content is invalid: x");
        assert_eq!(named("model", item), "model is invalid: x");
    }
}
