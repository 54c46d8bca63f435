//! `POST /v1/models/{name}:predict`: KServe's earlier protocol, which is also that of Vertex AI.

use std::{fmt, sync::Arc};

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use blip::Architecture;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, header::ALLOW};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{Error, IgnoredAny, MapAccess, Visitor, value::MapAccessDeserializer},
};
use tonic::transport::server::TcpConnectInfo;
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    http::{
        adapters::{
            call::{CallRequest, HttpCall},
            error_text::TextFailure,
        },
        json::{object, read_json},
        state::HttpServer,
    },
    models::info::ModelInfo,
    open_inference::signature::text_name,
    pipeline::{
        item_result::ItemResult,
        reply::{Alternative, Reply},
    },
    request::{
        field_path::RequestFormat,
        generation::GenerationOptions,
        image_text::source_of_text,
        item::{ImageSource, Input, TextInput},
        task::Task,
    },
};

/// What follows the name of the model in the path.
const PREDICT: &str = ":predict";

/// The images and texts to predict.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PredictRequest {
    /// The images and texts.
    #[schema(min_items = 1)]
    instances: Vec<Instance>,
    /// The generation options.
    #[serde(default, deserialize_with = "object")]
    parameters: GenerationOptions,
    /// The name of a signature of TensorFlow Serving. It has no effect.
    #[serde(rename = "signature_name")]
    #[schema(value_type = Option<serde_json::Value>)]
    _signature_name: Option<IgnoredAny>,
}

/// An image and the text about it.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Instance {
    /// The image.
    #[schema(value_type = Option<ImageSchema>)]
    image: Option<Image>,
    /// The question, for a model that answers questions.
    question: Option<String>,
    /// The beginning of the caption, for a model that writes captions.
    prompt: Option<String>,
    /// The text to compare or to embed, for a model that compares images with texts.
    text: Option<String>,
    /// The candidate answers to the question.
    #[serde(default)]
    candidates: Vec<String>,
}

/// The forms of an image.
#[derive(ToSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "describes the image in the OpenAPI document; Image decodes it")]
pub(crate) enum ImageSchema {
    /// A file in base64, or a URL.
    Text(String),
    /// A file in base64.
    Base64 {
        /// The file.
        b64: String,
    },
    /// A URL.
    Url {
        /// The URL.
        url: String,
    },
}

struct Image(ImageSource);

/// The predictions, in the order of the instances.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Predictions {
    /// The predictions.
    predictions: Vec<Prediction>,
}

/// A prediction.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum Prediction {
    /// The answer to a question.
    Answer {
        /// The answer in words.
        answer: String,
        /// The natural logarithm of its probability.
        score: f32,
        /// The probability of a candidate.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        probability: Option<f32>,
        /// The next best answers.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schema(required = false)]
        alternatives: Vec<TextScore>,
    },
    /// A caption.
    Caption {
        /// The caption.
        caption: String,
        /// The natural logarithm of its probability.
        score: f32,
        /// The next best captions.
        #[serde(skip_serializing_if = "Vec::is_empty")]
        #[schema(required = false)]
        alternatives: Vec<TextScore>,
    },
    /// How well the text describes the image.
    Match {
        /// The probability that it does.
        probability: f32,
        /// The cosine of the embeddings of image and text.
        cosine: f32,
    },
    /// An embedding.
    Embedding {
        /// The embedding, a vector of length 1.
        embedding: Vec<f32>,
    },
    /// The error of an instance. If all instances fail, the first error is that of the request.
    Error {
        /// The message.
        error: String,
    },
}

/// A text that was not the best.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TextScore {
    /// The text.
    text: String,
    /// The natural logarithm of its probability.
    score: f32,
}

/// `POST /v1/models/{name}:predict`.
///
/// # Errors
/// An error of the whole request, or that of the first instance if all fail.
#[utoipa::path(
    post,
    path = "/v1/models/{name}:predict",
    operation_id = "predict",
    summary = "Predict as KServe and Vertex AI do",
    description = "Each instance has a separate prediction. A failed one is an object with `error`.",
    params(("name" = String, Path, description = "The name of the model", example = "demo")),
    request_body = PredictRequest,
    responses((status = 200, description = "The predictions", body = Predictions)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn predict(
    State(server): State<Arc<HttpServer>>,
    Extension(connection): Extension<TcpConnectInfo>,
    Path(target): Path<String>,
    request: Request<Body>,
) -> Result<Response, TextFailure> {
    let name = target.strip_suffix(PREDICT).unwrap_or(&target);
    let (call, _) = HttpCall::receive(&server, &connection, request).await?;
    let model = server.handler.models.get(name).map_err(|error| error.field("name"))?;
    let memory = call.response_memory(&server);
    Ok(memory.json(&run(&server, call, &model).await?)?)
}

/// Rejects methods that a path below `/v1/models` does not have. The paths of a model and of its
/// predictions match the same route.
pub(crate) async fn check_method(request: Request<Body>, next: Next) -> Response {
    let path = request.uri().path();
    if request.method() == Method::POST && path.contains(':') && !path.ends_with(PREDICT) {
        let error = RequestError::new(ErrorReason::RouteUnsupported).value(path);
        return TextFailure(error.limit(format!("POST /v1/models/NAME{PREDICT}"))).into_response();
    }
    let allowed = match path.ends_with(PREDICT) {
        true => "POST",
        false => "GET,HEAD,DELETE",
    };
    let method = request.method().as_str();
    if allowed.split(',').any(|allowed| allowed == method) {
        return next.run(request).await;
    }
    let mut response = RequestError::new(ErrorReason::MethodRefused).value(method).into_response();
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

/// Returns the predictions of `model` for the instances in the body of `call`.
///
/// # Errors
/// As [`predict`].
pub(crate) async fn run(
    server: &HttpServer,
    call: HttpCall,
    model: &ModelInfo,
) -> Result<Predictions, RequestError> {
    let architecture = model.architecture;
    let decode = move |body: &Bytes| read_json::<PredictRequest>(body, "the body")?.decode(architecture);
    let (inputs, task) = call.decode(decode).await?;
    let text = match architecture {
        Architecture::QuestionAnswering => "instances[i].question",
        Architecture::Captioning => "instances[i].prompt",
        Architecture::Retrieval => "instances[i].text",
    };
    let format = RequestFormat::Named { image: "instances[i].image", text };
    let request = CallRequest { inputs, task, model: model.name.to_string(), format };
    let results = call.infer(server, request).await.map_err(GenerationOptions::in_parameters)?;
    if results.iter().all(|result| result.reply.is_err())
        && let Some(Err(error)) = results.first().map(|result| &result.reply)
    {
        return Err(error.clone());
    }
    Ok(Predictions { predictions: results.into_iter().map(Prediction::from).collect() })
}

impl PredictRequest {
    /// Returns the inputs and their task for a model.
    fn decode(self, architecture: Architecture) -> Result<(Vec<Input>, Task), RequestError> {
        let generation = self.parameters;
        let mut task = match architecture {
            Architecture::QuestionAnswering => Some(Task::answer(generation)),
            Architecture::Captioning => Some(Task::Caption { generation, stream_tokens: false }),
            Architecture::Retrieval if generation == GenerationOptions::default() => None,
            Architecture::Retrieval => {
                return Err(invalid("parameters", "a model that compares images with texts generates none"));
            }
        };
        let mut inputs = Vec::with_capacity(self.instances.len());
        for (index, instance) in self.instances.into_iter().enumerate() {
            let (input, found) = instance.input(index, architecture)?;
            if found.is_some() && task.is_some() && found != task {
                let cause = "expected both image and text in all instances, or one of them in each";
                return Err(invalid(&format!("instances[{index}]"), cause));
            }
            task = task.or(found);
            inputs.push(input);
        }
        Ok((inputs, task.unwrap_or(Task::Match)))
    }
}

impl Instance {
    /// Returns the input of the instance at this position, and its task if it decides it.
    fn input(self, index: usize, architecture: Architecture) -> Result<(Input, Option<Task>), RequestError> {
        let name = text_name(architecture);
        let Self { image, question, prompt, text, candidates } = self;
        let fields = [("question", question), ("prompt", prompt), ("text", text)];
        let mut text = None;
        for (field, value) in fields {
            match value {
                Some(value) if field == name => text = Some(value),
                Some(_) => {
                    let cause = format!("the model reads {name}");
                    return Err(invalid(&format!("instances[{index}].{field}"), &cause));
                }
                None => {}
            }
        }
        if !candidates.is_empty() && architecture != Architecture::QuestionAnswering {
            let cause = "only a model that answers questions has candidates";
            return Err(invalid(&format!("instances[{index}].candidates"), cause));
        }
        let task = match (architecture, &image, &text) {
            (Architecture::Retrieval, Some(_), Some(_)) => Some(Task::Match),
            (Architecture::Retrieval, ..) => Some(Task::Embed),
            _ => None,
        };
        let is_embedded_text = matches!((&task, &image, &text), (Some(Task::Embed), None, Some(_)));
        let image = image.map_or(ImageSource::Missing, |Image(source)| source);
        let image = (!is_embedded_text).then_some(image);
        let text = TextInput { text: text.unwrap_or_default(), candidates, ..TextInput::default() };
        Ok((Input { image, texts: vec![text] }, task))
    }
}

impl From<ItemResult> for Prediction {
    fn from(result: ItemResult) -> Self {
        let others = |others: Vec<Alternative>| {
            others.into_iter().map(|other| TextScore { text: other.text, score: other.score }).collect()
        };
        match result.reply {
            Ok(Reply::Answer(answer)) => Self::Answer {
                answer: answer.text,
                score: answer.score,
                probability: answer.probability,
                alternatives: others(answer.alternatives),
            },
            Ok(Reply::Caption(caption)) => Self::Caption {
                caption: caption.text,
                score: caption.score,
                alternatives: others(caption.alternatives),
            },
            Ok(Reply::Match(scores)) => {
                Self::Match { probability: scores.probability, cosine: scores.cosine }
            }
            Ok(Reply::Embedding(embedding)) => Self::Embedding { embedding: embedding.values },
            Ok(Reply::Chunk(_)) => Self::Error { error: "unexpected reply of another task".to_owned() },
            Err(error) => Self::Error { error: error.message() },
        }
    }
}

fn invalid(field: &str, cause: &str) -> RequestError {
    RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(cause)
}

impl<'de> Deserialize<'de> for Image {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ImageVisitor;

        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Fields {
            b64: Option<String>,
            url: Option<String>,
        }

        impl<'de> Visitor<'de> for ImageVisitor {
            type Value = Image;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or an object with b64 or url")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Image, E> {
                Ok(Image(source_of_text(text)))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Image, A::Error> {
                match Fields::deserialize(MapAccessDeserializer::new(map))? {
                    Fields { b64: Some(text), url: None } => Ok(Image(source_of_text(&text))),
                    Fields { b64: None, url: Some(url) } => Ok(Image(ImageSource::Remote(url))),
                    _ => Err(A::Error::custom("expected one of b64 and url")),
                }
            }
        }

        deserializer.deserialize_any(ImageVisitor)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn decode(architecture: Architecture, body: Value) -> Result<(Vec<Input>, Task), String> {
        let request = read_json::<PredictRequest>(body.to_string().as_bytes(), "the body");
        request.and_then(|request| request.decode(architecture)).map_err(|error| error.to_string())
    }

    #[test]
    fn instance_has_an_image_in_any_form_and_a_question() {
        let instances = json!([
            {"image": {"b64": "aGVsbG8="}, "question": "what?", "candidates": ["a", "b"]},
            {"image": {"url": "https://a.example"}, "question": "what?"},
            {"image": "aGVsbG8=", "question": "what?"},
            {"question": "what?"},
        ]);
        let (inputs, task) =
            decode(Architecture::QuestionAnswering, json!({"instances": instances})).unwrap();
        let images: Vec<_> = inputs.iter().map(|input| input.image.clone().unwrap()).collect();
        let inline = || ImageSource::Inline("hello".into());
        let remote = ImageSource::Remote("https://a.example".to_owned());
        assert_eq!(images, [inline(), remote, inline(), ImageSource::Missing]);
        assert_eq!((task, inputs[0].texts[0].candidates.len()), (Task::default(), 2));
    }

    #[test]
    fn instances_of_a_matching_model_have_one_task() {
        let decode = |instances: Value| decode(Architecture::Retrieval, json!({"instances": instances}));
        let (image, text) = (json!({"image": "YQ=="}), json!({"text": "a"}));
        let both = json!({"image": "YQ==", "text": "a"});
        assert_eq!(decode(json!([both, both])).unwrap().1, Task::Match);
        let (inputs, task) = decode(json!([image, text])).unwrap();
        assert_eq!((inputs[0].image.is_some(), inputs[1].image.is_some(), task), (true, false, Task::Embed));
        for instances in [json!([both, image]), json!([text, both])] {
            assert!(decode(instances).unwrap_err().starts_with("instances[1] is invalid: expected both"));
        }
    }

    #[test]
    fn field_of_another_task_is_named() {
        let caption = |instance: Value| decode(Architecture::Captioning, json!({"instances": [instance]}));
        assert!(caption(json!({"image": "YQ=="})).is_ok());
        let error = caption(json!({"image": "YQ==", "question": "what?"})).unwrap_err();
        assert_eq!(error, "instances[0].question is invalid: the model reads prompt");
        assert!(caption(json!({"image": "YQ==", "candidates": ["a"]})).unwrap_err().contains("candidates"));
        assert!(caption(json!({"image": {"b64": "YQ==", "url": "x"}})).unwrap_err().contains("one of b64"));
        assert!(caption(json!({"image": 5})).unwrap_err().starts_with("instances[0].image"));
    }
}
