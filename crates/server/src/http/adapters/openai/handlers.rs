//! The handlers of OpenAI's API: from the headers of a request to its response.

use std::{sync::Arc, time::UNIX_EPOCH};

use axum::{Extension, body::Body, extract::State, response::Response};
use blip::Architecture;
use bytes::Bytes;
use futures::StreamExt as _;
use http::Request;
use tonic::transport::server::TcpConnectInfo;

use crate::{
    error::{ErrorReason, RequestError},
    http::{
        adapters::call::{CallRequest, HttpCall},
        adapters::openai::{
            chat_request::{Chat, ChatRequest},
            chat_response::{ChatCompletion, Line, choices},
            chat_stream::{ChatEvent, Completion, chat_events},
            embeddings::{Embeddings, EmbeddingsCall, EmbeddingsRequest},
            error::OpenAiFailure,
        },
        inference::decoded_body::{DecodedBody, TextLists},
        json::read_json,
        media_type::check_json,
        state::HttpServer,
    },
    models::{info::ModelInfo, registry::Catalogue},
    pipeline::item_result::ItemResult,
    request::{field_path::RequestFormat, item::TextInput, task::Task},
    request_id::RequestId,
};

/// The name of a model that clients send if the user names none.
const ANY_MODEL: &str = "dummy";

type Server = State<Arc<HttpServer>>;
type Connection = Extension<TcpConnectInfo>;

/// `POST /v1/chat/completions`.
///
/// # Errors
/// An error of the whole request, or that of the first failed item.
#[utoipa::path(
    post,
    path = "/v1/chat/completions",
    operation_id = "create_chat_completion",
    summary = "Answer a question as OpenAI's API does",
    description = "The request has one message of the role `user`. Its parts of the type `image_url` are the \
        images. Each part of the type `text` is a question about every image. A message with several images or \
        texts is answered with a line for each of them, in the order of images and then of texts. A message \
        without a text is answered with a caption. A captioning model begins its caption with the text.\n\n\
        A system prompt, several messages, tools and formats other than text are errors. Errors have the JSON \
        of OpenAI's API.",
    request_body = ChatRequest,
    responses((
        status = 200,
        description = "The answer",
        content((ChatCompletion = "application/json"), (ChatEvent = "text/event-stream")),
    )),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn chat(
    State(server): Server,
    Extension(connection): Connection,
    request: Request<Body>,
) -> Result<Response, OpenAiFailure> {
    let (call, headers) = HttpCall::receive(&server, &connection, request).await?;
    check_json(&headers)?;
    Ok(complete(&server, call).await?)
}

/// Answers the chat request in the body of `call`.
///
/// # Errors
/// As [`chat`].
pub(crate) async fn complete(server: &HttpServer, call: HttpCall) -> Result<Response, RequestError> {
    let max_new_tokens = server.max_new_tokens;
    let decode = move |body: &Bytes| read_json::<ChatRequest>(body, "the body")?.check(max_new_tokens);
    let Chat { model, mut question, generation, output } = call.decode(decode).await?;
    let texts = std::mem::take(&mut question.texts);
    let model = chat_model(&*server.handler.models, &model, !texts.is_empty())?;
    let items = question.images.len() * texts.len().max(1);
    output.check_answers(items)?;
    let task = if texts.is_empty() || model.architecture == Architecture::Captioning {
        // Tokens are sent as they are generated only where the text of the client does not precede
        // them and no other beam replaces them.
        let stream_tokens = output.stream
            && texts.is_empty()
            && items == 1
            && model.num_beams == 1
            && generation.num_answers.is_none();
        Task::Caption { generation, stream_tokens }
    } else {
        Task::answer(generation)
    };
    let texts = if texts.is_empty() { vec![TextInput::default()] } else { texts };
    let images = std::mem::take(&mut question.images);
    let max_bytes = server.budget.max_message_bytes();
    let format = RequestFormat::Named { image: "image_url[i]", text: "text[t]" };
    let inputs = DecodedBody::inputs(images, TextLists::Shared(texts), format, max_bytes)?;
    let request = CallRequest { inputs, task, model: model.name.to_string(), format };
    let named = |error: RequestError, item| Chat::named(&question, error, item);
    let completion = Completion::new(&model);
    if output.stream {
        let (mut results, trace) = call.begin(server, request).map_err(|error| named(error, None))?;
        // An error of the first item has its HTTP status.
        let first = results.next().await.transpose()?.ok_or_else(no_results)?;
        if let Err(error) = first.reply {
            return Err(named(error, Some((first.image_index, first.text_index))));
        }
        return Ok(chat_events((first, results), completion, question, output, trace));
    }
    let memory = call.response_memory(server);
    let results = call.infer(server, request).await.map_err(|error| named(error, None))?;
    let lines = |ItemResult { image_index, text_index, reply, .. }| {
        let reply = reply.map_err(|error| named(error, Some((image_index, text_index))))?;
        Line::all(&reply, completion.stop_token)
    };
    let items = results.into_iter().map(lines).collect::<Result<Vec<_>, RequestError>>()?;
    let (choices, usage) = choices(&items, output);
    let Completion { id, created, model, .. } = completion;
    memory.json(&ChatCompletion { id, object: "chat.completion", created, model, choices, usage })
}

/// `POST /v1/embeddings`.
///
/// # Errors
/// An error of the whole request, or that of the first failed text.
#[utoipa::path(
    post,
    path = "/v1/embeddings",
    operation_id = "create_embeddings",
    summary = "Embed texts as OpenAI's API does",
    description = "The cosine of a text's embedding and an image's grows with their similarity. `/v1/embed` \
        embeds images. Errors have the JSON of OpenAI's API.",
    request_body = EmbeddingsRequest,
    responses((status = 200, description = "The embeddings", body = Embeddings)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn embeddings(
    State(server): Server,
    Extension(connection): Connection,
    request: Request<Body>,
) -> Result<Response, OpenAiFailure> {
    let (call, headers) = HttpCall::receive(&server, &connection, request).await?;
    check_json(&headers)?;
    Ok(embed(&server, call).await?)
}

/// Embeds the texts in the body of `call`.
///
/// # Errors
/// As [`embeddings`].
pub(crate) async fn embed(server: &HttpServer, call: HttpCall) -> Result<Response, RequestError> {
    let decode = |body: &Bytes| read_json::<EmbeddingsRequest>(body, "the body").map(EmbeddingsCall::from);
    let request = call.decode(decode).await?;
    let model = find_model(&*server.handler.models, &request.model, &[Architecture::Retrieval])?;
    request.check_dimensions(model.embedding_size)?;
    let EmbeddingsCall { input, encoding, .. } = request;
    let request = CallRequest {
        inputs: vec![input],
        task: Task::Embed,
        model: model.name.to_string(),
        format: RequestFormat::Named { image: "input", text: "input[t]" },
    };
    let memory = call.response_memory(server);
    memory.json(&Embeddings::new(call.infer(server, request).await?, &model.name, encoding)?)
}

impl Completion {
    /// Begins the completion of a request to `model`.
    #[expect(clippy::disallowed_types, reason = "the response has the wall-clock time")]
    fn new(model: &ModelInfo) -> Self {
        let created = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let id = format!("chatcmpl-{}", RequestId::new_unique().as_str());
        Self { id, created, model: model.name.to_string(), stop_token: model.stop_token }
    }
}

/// Returns the model of a chat: the named one, or the first that fits the message.
fn chat_model(models: &dyn Catalogue, name: &str, has_text: bool) -> Result<Arc<ModelInfo>, RequestError> {
    let fitting: &[_] = if has_text {
        &[Architecture::QuestionAnswering, Architecture::Captioning]
    } else {
        &[Architecture::Captioning]
    };
    find_model(models, name, fitting)
}

/// Returns the model of this name. Without a name, returns the first model of the first
/// architecture that the server has, or else its first model.
fn find_model(
    models: &dyn Catalogue,
    name: &str,
    architectures: &[Architecture],
) -> Result<Arc<ModelInfo>, RequestError> {
    let all = models.list()?;
    let is_any = name.is_empty() || name == ANY_MODEL && all.iter().all(|model| &*model.name != name);
    if !is_any {
        return models.get(name);
    }
    let mut fitting = architectures
        .iter()
        .filter_map(|architecture| all.iter().find(|model| model.architecture == *architecture).cloned());
    fitting.next().map_or_else(|| models.get(""), Ok)
}

fn no_results() -> RequestError {
    RequestError::new(ErrorReason::InternalError).cause("no results")
}
