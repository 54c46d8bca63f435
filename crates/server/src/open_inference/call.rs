//! Input tensors as a request for the pipeline.

use blip::Architecture;
use serde::Deserialize as _;
use serde_json::{Map, Value};

use crate::{
    error::{ErrorReason, RequestError},
    open_inference::{
        input::{InputTensor, invalid},
        signature::text_name,
    },
    request::{
        field_path::RequestFormat,
        generation::GenerationOptions,
        item::{ImageSource, Input, TextInput, check_repeated},
        task::Task,
    },
};

/// The parameters of a request that the protocol and its clients define, and that have no effect on
/// a result.
const PROTOCOL_PARAMETERS: [&str; 6] =
    ["binary_data_output", "priority", "timeout", "sequence_id", "sequence_start", "sequence_end"];

/// A request for the pipeline.
#[derive(Debug)]
pub struct TensorCall {
    /// The images with their texts, in the order of the elements.
    pub inputs: Vec<Input>,
    /// The task of every item.
    pub task: Task,
    /// The names of the tensors, for errors.
    pub format: RequestFormat,
}

impl TensorCall {
    /// Creates the request of tensors for a model. Parameters are generation options.
    ///
    /// An image tensor of one element belongs to all texts, and a text tensor of one element to all
    /// images. Otherwise, the elements are pairs.
    ///
    /// # Errors
    /// A [`RequestError`] that names the invalid tensor or parameter.
    pub fn new(
        architecture: Architecture,
        tensors: Vec<InputTensor>,
        parameters: Map<String, Value>,
    ) -> Result<Self, RequestError> {
        let text_name = text_name(architecture);
        let (mut images, mut texts) = (None, None);
        for tensor in tensors {
            let field = format!("inputs.{}", tensor.name);
            let is_repeated = match tensor.name.as_str() {
                "image" => images.replace(tensor.images()?).is_some(),
                name if name == text_name => texts.replace(tensor.texts()?).is_some(),
                _ => return Err(invalid(&field, format_args!("expected image or {text_name}"))),
            };
            if is_repeated {
                return Err(invalid(&field, "it is repeated"));
            }
        }
        let task = task(architecture, &images, &texts, parameters)?;
        let images = match (images, &task) {
            (Some(images), _) => images,
            (None, Task::Embed) => return Ok(Self::of_texts(texts.unwrap_or_default(), task)),
            (None, _) => return Err(invalid("inputs.image", "it is missing")),
        };
        let texts = match (texts, &task) {
            (Some(texts), _) => texts,
            (None, Task::Caption { .. } | Task::Embed) => vec![String::new()],
            (None, _) => return Err(invalid(&format!("inputs.{text_name}"), "it is missing")),
        };
        let by_image = RequestFormat::Named { image: "inputs.image[i]", text: pair_path(architecture) };
        let by_text = RequestFormat::Named { image: "inputs.image", text: list_path(architecture) };
        let (inputs, format) = match (images.len(), texts.len()) {
            (1, count) if count != 1 => {
                let texts = texts.into_iter().map(TextInput::from).collect();
                (
                    images
                        .into_iter()
                        .map(|image| Input { image: Some(image), texts: Vec::clone(&texts) })
                        .collect(),
                    by_text,
                )
            }
            (count, 1) => {
                let text = texts.into_iter().next().unwrap_or_default();
                let bytes = text.len().saturating_mul(count);
                check_repeated(bytes, "the text repeated for each image", MAX_REPEATED_BYTES)?;
                (images.into_iter().map(|image| pair(image, text.clone())).collect(), by_image)
            }
            (one, other) if one == other => {
                (images.into_iter().zip(texts).map(|(image, text)| pair(image, text)).collect(), by_image)
            }
            (images, texts) => {
                return Err(RequestError::new(ErrorReason::PayloadInvalid)
                    .field(format!("inputs.{text_name}"))
                    .cause(format_args!("{texts} elements for {images} images, expected as many, or 1")));
            }
        };
        Ok(Self { inputs, task, format })
    }

    fn of_texts(texts: Vec<String>, task: Task) -> Self {
        let texts = texts.into_iter().map(TextInput::from).collect();
        let format = RequestFormat::Named { image: "inputs.text", text: "inputs.text[t]" };
        Self { inputs: vec![Input { image: None, texts }], task, format }
    }
}

/// The memory that one text may need when it is repeated for each image, in bytes.
const MAX_REPEATED_BYTES: usize = 16 << 20;

fn pair(image: ImageSource, text: String) -> Input {
    Input { image: Some(image), texts: vec![text.into()] }
}

/// Returns the path of the text of an image.
fn pair_path(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::QuestionAnswering => "inputs.question[i]",
        Architecture::Captioning => "inputs.prompt[i]",
        Architecture::Retrieval => "inputs.text[i]",
    }
}

/// Returns the path of one of the texts of the only image.
fn list_path(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::QuestionAnswering => "inputs.question[t]",
        Architecture::Captioning => "inputs.prompt[t]",
        Architecture::Retrieval => "inputs.text[t]",
    }
}

fn task(
    architecture: Architecture,
    images: &Option<Vec<ImageSource>>,
    texts: &Option<Vec<String>>,
    mut parameters: Map<String, Value>,
) -> Result<Task, RequestError> {
    for name in PROTOCOL_PARAMETERS {
        parameters.remove(name);
    }
    let has_parameters = !parameters.is_empty();
    let generation = GenerationOptions::deserialize(Value::Object(parameters))
        .map_err(|error| invalid("parameters", error))?;
    if generation.num_answers.is_some_and(|answers| answers != 1) {
        return Err(invalid("parameters.num_answers", "an output tensor has one answer for each question"));
    }
    match architecture {
        Architecture::QuestionAnswering => Ok(Task::answer(generation)),
        Architecture::Captioning => Ok(Task::Caption { generation, stream_tokens: false }),
        Architecture::Retrieval if has_parameters => {
            Err(invalid("parameters", "a model that compares images with texts generates none"))
        }
        Architecture::Retrieval if images.is_some() && texts.is_some() => Ok(Task::Match),
        Architecture::Retrieval => Ok(Task::Embed),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::open_inference::{input::Elements, signature::BYTES};

    fn tensor(name: &str, texts: &[&str]) -> InputTensor {
        let elements = Elements::Texts(texts.iter().map(ToString::to_string).collect());
        let shape = vec![i64::try_from(texts.len()).unwrap()];
        InputTensor { name: name.to_owned(), datatype: BYTES.to_owned(), shape, elements }
    }

    fn call(
        architecture: Architecture,
        tensors: Vec<InputTensor>,
        parameters: Value,
    ) -> Result<TensorCall, String> {
        let Value::Object(parameters) = parameters else { panic!() };
        TensorCall::new(architecture, tensors, parameters).map_err(|error| error.to_string())
    }

    /// Returns the texts of each input, and whether it has an image.
    fn layout(call: TensorCall) -> Vec<(bool, Vec<String>)> {
        let texts = |input: Input| input.texts.into_iter().map(|text| text.text).collect();
        call.inputs.into_iter().map(|input| (input.image.is_some(), texts(input))).collect()
    }

    const IMAGES: [&str; 2] = ["data:,", "aGVsbG8="];
    const ANSWERING: Architecture = Architecture::QuestionAnswering;

    #[test]
    fn elements_are_pairs_or_one_belongs_to_all() {
        let layout = |images: &[&str], texts: &[&str]| {
            layout(
                call(ANSWERING, vec![tensor("question", texts), tensor("image", images)], json!({})).unwrap(),
            )
        };
        let item = |texts: &[&str]| (true, texts.iter().map(ToString::to_string).collect::<Vec<_>>());
        assert_eq!(layout(&IMAGES, &["a", "b"]), [item(&["a"]), item(&["b"])]);
        assert_eq!(layout(&IMAGES[..1], &["a", "b"]), [item(&["a", "b"])]);
        assert_eq!(layout(&IMAGES, &["a"]), [item(&["a"]), item(&["a"])]);
        assert_eq!(layout(&IMAGES[..1], &["a"]), [item(&["a"])]);
        let three = vec![tensor("image", &IMAGES), tensor("question", &["a", "b", "c"])];
        let error = call(ANSWERING, three, json!({})).unwrap_err();
        assert_eq!(error, "inputs.question is invalid: 3 elements for 2 images, expected as many, or 1");
    }

    #[test]
    fn tensors_of_a_matching_model_decide_its_task() {
        let task = |tensors| call(Architecture::Retrieval, tensors, json!({})).unwrap();
        let (image, text) = (|| tensor("image", &IMAGES), || tensor("text", &["a", "b"]));
        assert_eq!(task(vec![image(), text()]).task, Task::Match);
        let images = task(vec![image()]);
        assert_eq!((images.task.clone(), layout(images).len()), (Task::Embed, 2));
        let texts = task(vec![text()]);
        assert_eq!(layout(texts), [(false, vec!["a".to_owned(), "b".to_owned()])]);
    }

    #[test]
    fn caption_needs_no_prompt() {
        let call = call(Architecture::Captioning, vec![tensor("image", &IMAGES)], json!({})).unwrap();
        assert_eq!(layout(call), [(true, vec![String::new()]), (true, vec![String::new()])]);
    }

    #[test]
    fn parameters_are_generation_options() {
        let with = |parameters| {
            call(ANSWERING, vec![tensor("image", &IMAGES[..1]), tensor("question", &["a"])], parameters)
        };
        let generation = GenerationOptions { num_beams: Some(3), ..GenerationOptions::default() };
        let call = with(json!({"num_beams": 3, "binary_data_output": true, "priority": 1})).unwrap();
        assert_eq!(call.task, Task::answer(generation));
        assert!(with(json!({"beams": 3})).unwrap_err().contains("unknown field `beams`"));
        assert!(with(json!({"num_beams": "3"})).unwrap_err().starts_with("parameters is invalid"));
        assert!(
            with(json!({"num_answers": 3})).unwrap_err().starts_with("parameters.num_answers is invalid")
        );
    }

    #[test]
    fn missing_repeated_and_unknown_tensors_are_named() {
        let (image, question) = (|| tensor("image", &IMAGES[..1]), || tensor("question", &["a"]));
        for (tensors, expected) in [
            (vec![image()], "inputs.question is invalid: it is missing"),
            (vec![question()], "inputs.image is invalid: it is missing"),
            (vec![image(), image()], "inputs.image is invalid: it is repeated"),
            (vec![tensor("mask", &["a"])], "inputs.mask is invalid: expected image or question"),
        ] {
            assert_eq!(call(ANSWERING, tensors, json!({})).unwrap_err(), expected);
        }
    }

    #[test]
    fn long_text_for_many_images_is_rejected() {
        let long = "x".repeat(MAX_REPEATED_BYTES / 2 + 1);
        let tensors = vec![tensor("image", &IMAGES), tensor("question", &[&long])];
        assert!(call(ANSWERING, tensors, json!({})).unwrap_err().starts_with("request message too large"));
    }
}
