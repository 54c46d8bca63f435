//! The JSON of a request, and its task.

use std::fmt;

use blip::Architecture;
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{
        Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    http::{
        adapters::hugging_face::{parameters::Parameters, task_name::TaskName, task_output::Layout},
        json::read_json,
    },
    request::{
        field_path::RequestFormat,
        generation::GenerationOptions,
        image_text::source_of_text,
        item::{ImageSource, Input, TextInput},
        task::Task,
    },
};

/// A request of any task. The task follows from its fields, from the path or from the model.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskRequest {
    /// An image or texts, by the task.
    #[schema(value_type = InputsSchema)]
    inputs: Inputs,
    /// Visual question answering: the question, unless `inputs` has it.
    question: Option<String>,
    /// Visual question answering: `huggingface_hub` repeats the image here. It has no effect.
    #[serde(rename = "image")]
    #[schema(value_type = Option<serde_json::Value>)]
    _image: Option<IgnoredAny>,
    /// The parameters of the task.
    #[serde(default)]
    parameters: Option<Parameters>,
    /// The options of Hugging Face's service. They have no effect.
    #[serde(rename = "options")]
    #[schema(ignore)]
    _options: Option<IgnoredAny>,
    /// As `parameters.normalize`.
    #[schema(example = true)]
    normalize: Option<bool>,
    /// As `parameters.truncate`.
    #[schema(value_type = Option<serde_json::Value>)]
    truncate: Option<IgnoredAny>,
}

/// The inputs in one of their forms.
enum Inputs {
    Text(String),
    Texts(Vec<String>),
    Image { image: String, question: Option<String> },
}

/// The forms of `inputs`.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the inputs in the OpenAPI document; Inputs decodes them")]
pub(crate) enum InputsSchema {
    /// An image in base64 or by its URL, or a text to embed.
    Text(String),
    /// Texts to embed.
    Texts(Vec<String>),
    /// An image with a question.
    Image(ImageInputs),
}

/// An image with a question.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ImageInputs {
    /// The image in base64, or its URL.
    image: String,
    /// The question.
    #[serde(default)]
    question: Option<String>,
}

/// A request for the pipeline, and the layout of its response.
#[derive(Debug)]
pub(crate) struct TaskCall {
    pub(crate) input: Input,
    pub(crate) task: Task,
    pub(crate) format: RequestFormat,
    pub(crate) layout: Layout,
}

impl TaskCall {
    /// Creates the request of an image file, which is captioned.
    pub(crate) fn of_file(file: Bytes) -> Self {
        Self::caption(ImageSource::Inline(file), GenerationOptions::default())
    }

    /// Decodes a request in JSON. The path names the task or the model, whose architecture decides
    /// what else is ambiguous. Texts may need at most `max_bytes`.
    ///
    /// # Errors
    /// A [`RequestError`] that names the invalid field.
    pub(crate) fn of_json(
        body: &[u8],
        task: Option<TaskName>,
        architecture: Option<Architecture>,
        max_bytes: usize,
    ) -> Result<Self, RequestError> {
        let TaskRequest { inputs, question, parameters, normalize, truncate, .. } =
            read_json(body, "the body")?;
        let parameters = parameters.unwrap_or_default();
        let has_question = question.is_some() || matches!(&inputs, Inputs::Image { question: Some(_), .. });
        let task = match (task, architecture) {
            (Some(task), _) => task,
            (None, _) if has_question => TaskName::VisualQuestionAnswering,
            (None, _) if parameters.candidate_labels.is_some() => TaskName::ZeroShotImageClassification,
            (None, Some(Architecture::QuestionAnswering)) => TaskName::VisualQuestionAnswering,
            (None, Some(Architecture::Captioning)) => TaskName::ImageToText,
            // No text is embedded with the parameters of a caption.
            (None, None) if parameters.has_generation() => TaskName::ImageToText,
            (None, Some(Architecture::Retrieval) | None) => TaskName::FeatureExtraction,
        };
        parameters.check_used(task)?;
        let embeds = task == TaskName::FeatureExtraction;
        for (field, is_unused) in [
            ("question", has_question && task != TaskName::VisualQuestionAnswering),
            ("normalize", normalize.is_some() && !embeds),
            ("truncate", truncate.is_some() && !embeds),
        ] {
            if is_unused {
                return Err(task.unused(field));
            }
        }
        if embeds {
            parameters.check_normalize(normalize)?;
            return Self::embed(inputs);
        }
        let (image, inner_question) = match inputs {
            Inputs::Text(image) => (image, None),
            Inputs::Image { image, question } => (image, question),
            Inputs::Texts(_) => return Err(invalid("inputs", "a list, expected one image")),
        };
        let image = source_of_text(&image);
        match task {
            TaskName::VisualQuestionAnswering => {
                let question =
                    question.or(inner_question).ok_or_else(|| invalid("question", "it is missing"))?;
                Ok(Self::answer(image, question, parameters.generation()))
            }
            TaskName::ZeroShotImageClassification => Self::classify(image, &parameters, max_bytes),
            TaskName::ImageToText | TaskName::FeatureExtraction => {
                Ok(Self::caption(image, parameters.generation()))
            }
        }
    }

    fn caption(image: ImageSource, generation: GenerationOptions) -> Self {
        Self {
            input: Input { image: Some(image), texts: vec![TextInput::default()] },
            task: Task::Caption { generation, stream_tokens: false },
            format: RequestFormat::Named { image: "inputs", text: "inputs" },
            layout: Layout::Caption,
        }
    }

    fn answer(image: ImageSource, question: String, generation: GenerationOptions) -> Self {
        Self {
            input: Input { image: Some(image), texts: vec![question.into()] },
            task: Task::answer(generation),
            format: RequestFormat::Named { image: "inputs", text: "question" },
            layout: Layout::Answers,
        }
    }

    fn classify(image: ImageSource, parameters: &Parameters, max_bytes: usize) -> Result<Self, RequestError> {
        let labels = parameters.candidate_labels.clone();
        let labels = labels.ok_or_else(|| invalid("parameters.candidate_labels", "it is missing"))?;
        let texts = parameters.hypotheses(&labels, max_bytes)?;
        Ok(Self {
            input: Input { image: Some(image), texts: texts.into_iter().map(TextInput::from).collect() },
            task: Task::Match,
            format: RequestFormat::Named { image: "inputs", text: "parameters.candidate_labels[t]" },
            layout: Layout::Labels(labels),
        })
    }

    fn embed(inputs: Inputs) -> Result<Self, RequestError> {
        let texts = match inputs {
            Inputs::Text(text) => vec![text],
            Inputs::Texts(texts) => texts,
            Inputs::Image { .. } => return Err(invalid("inputs", "an object, expected a text or texts")),
        };
        Ok(Self {
            input: Input { image: None, texts: texts.into_iter().map(TextInput::from).collect() },
            task: Task::Embed,
            format: RequestFormat::Named { image: "inputs", text: "inputs[t]" },
            layout: Layout::Embeddings,
        })
    }
}

fn invalid(field: &str, cause: &str) -> RequestError {
    RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(cause)
}

impl<'de> Deserialize<'de> for Inputs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InputsVisitor;

        impl<'de> Visitor<'de> for InputsVisitor {
            type Value = Inputs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a list of strings, or an object with an image")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Inputs, E> {
                Ok(Inputs::Text(text.to_owned()))
            }

            fn visit_string<E: Error>(self, text: String) -> Result<Inputs, E> {
                Ok(Inputs::Text(text))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, texts: A) -> Result<Inputs, A::Error> {
                Deserialize::deserialize(SeqAccessDeserializer::new(texts)).map(Inputs::Texts)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Inputs, A::Error> {
                let ImageInputs { image, question } =
                    ImageInputs::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Inputs::Image { image, question })
            }
        }

        deserializer.deserialize_any(InputsVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn call(body: &Value, task: Option<TaskName>, model: Option<Architecture>) -> Result<TaskCall, String> {
        TaskCall::of_json(body.to_string().as_bytes(), task, model, 1 << 20)
            .map_err(|error| error.to_string())
    }

    fn texts(call: &TaskCall) -> Vec<&str> {
        call.input.texts.iter().map(|text| text.text.as_str()).collect()
    }

    #[test]
    fn contents_of_a_request_decide_its_task() {
        let python = json!({"inputs": "aGVsbG8=", "question": "what?", "image": "aGVsbG8=", "parameters": {"top_k": 2}});
        let javascript =
            json!({"inputs": {"question": "what?", "image": "aGVsbG8="}, "parameters": {"top_k": 2}});
        for body in [python, javascript] {
            let call = call(&body, None, None).unwrap();
            assert_eq!(call.input.image, Some(ImageSource::Inline("hello".into())));
            assert_eq!((texts(&call), &call.layout), (vec!["what?"], &Layout::Answers));
            assert!(matches!(
                call.task,
                Task::Answer { generation: GenerationOptions { num_answers: Some(2), .. }, .. }
            ));
        }
        let parameters = json!({"candidate_labels": ["cat", "dog"], "hypothesis_template": "a {}"});
        let zero_shot = json!({"inputs": {"image": "aGVsbG8="}, "parameters": parameters});
        assert_eq!(texts(&call(&zero_shot, None, None).unwrap()), ["a cat", "a dog"]);
        let embed = call(&json!({"inputs": ["a", "b"], "normalize": true}), None, None).unwrap();
        assert_eq!((texts(&embed), &embed.input.image), (vec!["a", "b"], &None));
    }

    #[test]
    fn path_and_model_decide_what_contents_leave_open() {
        let body = json!({"inputs": "https://a.example/b.png", "parameters": {"max_new_tokens": 5}});
        let captioning = Some(Architecture::Captioning);
        for (task, model) in [(Some(TaskName::ImageToText), None), (None, captioning)] {
            let call = call(&body, task, model).unwrap();
            assert_eq!(call.input.image, Some(ImageSource::Remote("https://a.example/b.png".to_owned())));
            assert_eq!(call.layout, Layout::Caption);
        }
        let answering = Some(Architecture::QuestionAnswering);
        assert_eq!(call(&body, None, answering).unwrap_err(), "question is invalid: it is missing");
        assert_eq!(call(&json!({"inputs": "a"}), None, None).unwrap().layout, Layout::Embeddings);
    }

    #[test]
    fn image_with_caption_parameters_is_not_embedded() {
        for parameters in [json!({"max_new_tokens": 5}), json!({"generation_parameters": {"num_beams": 2}})] {
            let body = json!({"inputs": "aGVsbG8=", "parameters": parameters});
            let (name, _) = parameters.as_object().unwrap().iter().next().unwrap();
            assert_eq!(call(&body, None, None).unwrap().layout, Layout::Caption);
            let error = call(&body, None, Some(Architecture::Retrieval)).unwrap_err();
            assert_eq!(error, format!("parameters.{name} is invalid: feature-extraction does not use it"));
        }
    }

    #[test]
    fn field_of_another_task_is_named() {
        let image_to_text = Some(TaskName::ImageToText);
        for (field, value) in
            [("question", json!("what?")), ("normalize", json!(true)), ("truncate", json!(true))]
        {
            let body = json!({"inputs": "aGVsbG8=", field: value});
            let error = call(&body, image_to_text, None).unwrap_err();
            assert_eq!(error, format!("{field} is invalid: image-to-text does not use it"));
        }
        let inner = json!({"inputs": {"image": "aGVsbG8=", "question": "what?"}});
        assert!(call(&inner, image_to_text, None).unwrap_err().starts_with("question is invalid"));
    }

    #[test]
    fn invalid_field_is_named() {
        for (body, expected) in [
            (json!({"inputs": [5]}), "inputs[0] is invalid: invalid type: integer"),
            (json!({"inputs": 5}), "expected a string, a list of strings, or an object with an image"),
            (json!({"parameters": {}}), "missing field `inputs`"),
            (json!({"inputs": "a", "parameters": {"top_q": 5}}), "unknown field `top_q`"),
            (json!({"inputs": "a", "normalize": false}), "normalize is invalid: false"),
            (json!({"inputs": ["a"], "question": "what?"}), "inputs is invalid: a list, expected one image"),
            (json!({"inputs": {"image": "a"}}), "inputs is invalid: an object, expected a text"),
        ] {
            let error = call(&body, None, None).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn invalid_base64_is_an_error_of_the_image() {
        let call = call(&json!({"inputs": "a*", "question": "what?"}), None, None).unwrap();
        assert!(matches!(call.input.image, Some(ImageSource::Undecodable(_))));
    }
}
