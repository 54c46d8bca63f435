//! The handlers of the tasks: from the headers of a request to its response.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
};
use http::{HeaderMap, Request, header::USER_AGENT};
use tonic::transport::server::TcpConnectInfo;

use crate::{
    error::{ErrorReason, RequestError},
    http::{
        adapters::call::{CallRequest, HttpCall},
        adapters::error_text::TextFailure,
        adapters::hugging_face::{
            task_output::TaskOutput,
            task_request::{TaskCall, TaskName, TaskRequest},
        },
        media_type::{JSON, media_type, refused},
        state::HttpServer,
    },
};

/// The client for JavaScript, by the beginning of its User-Agent.
const JAVASCRIPT_CLIENT: &[u8] = b"@huggingface/inference";

type Server = State<Arc<HttpServer>>;
type Connection = Extension<TcpConnectInfo>;
type Response = Result<axum::response::Response, TextFailure>;

/// `POST /`.
///
/// # Errors
/// An error of the whole request, or that of the first failed item.
#[utoipa::path(
    post,
    path = "/",
    operation_id = "run_task",
    summary = "Run a task of Hugging Face's inference API",
    description = "The fields decide the task:\n\
        - A request with a `question` is visual question answering.\n\
        - A request with `parameters.candidate_labels` is zero-shot image classification.\n\
        - An image file as the body, with a media type other than JSON, is image to text.\n\
        - Any other request is feature extraction of texts.",
    request_body = TaskRequest,
    responses((status = 200, description = "The results", body = TaskOutput)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn run(
    State(server): Server,
    Extension(connection): Connection,
    request: Request<Body>,
) -> Response {
    handle(&server, &connection, "", None, request).await
}

/// `POST /models/{name}`.
///
/// # Errors
/// As [`run`], and if the model is unknown.
#[utoipa::path(
    post,
    path = "/models/{name}",
    operation_id = "run_task_of_model",
    summary = "Run a task of Hugging Face's inference API with a model",
    description = "As `/`. If the fields leave the task open, the model decides it.",
    params(("name" = String, Path, description = "The name of the model", example = "demo")),
    request_body = TaskRequest,
    responses((status = 200, description = "The results", body = TaskOutput)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn run_model(
    State(server): Server,
    Extension(connection): Connection,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Response {
    handle(&server, &connection, &name, None, request).await
}

/// `POST /hf/{task}`.
///
/// # Errors
/// As [`run`], and if the task is unknown.
#[utoipa::path(
    post,
    path = "/hf/{task}",
    operation_id = "run_named_task",
    summary = "Run the named task of Hugging Face's inference API",
    params(("task" = String, Path, description = "`visual-question-answering`, `image-to-text`, \
        `zero-shot-image-classification` or `feature-extraction`", example = "visual-question-answering")),
    request_body = TaskRequest,
    responses((status = 200, description = "The results", body = TaskOutput)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn run_named(
    State(server): Server,
    Extension(connection): Connection,
    Path(task): Path<String>,
    request: Request<Body>,
) -> Response {
    let path = || RequestError::new(ErrorReason::RouteUnknown).value(format!("/hf/{task}"));
    let task = TaskName::of(&task).ok_or_else(path)?;
    handle(&server, &connection, "", Some(task), request).await
}

async fn handle(
    server: &HttpServer,
    connection: &TcpConnectInfo,
    model: &str,
    task: Option<TaskName>,
    request: Request<Body>,
) -> Response {
    let (call, headers) = HttpCall::receive(server, connection, request).await?;
    Ok(run_call(server, call, &headers, model, task).await?)
}

/// Runs the task in the body of `call`, whose request has `headers`.
///
/// # Errors
/// As [`run`].
pub(crate) async fn run_call(
    server: &HttpServer,
    call: HttpCall,
    headers: &HeaderMap,
    model: &str,
    task: Option<TaskName>,
) -> Result<axum::response::Response, RequestError> {
    let architecture = match model {
        "" => None,
        name => Some(server.handler.models.get(name)?.architecture),
    };
    let found = media_type(headers);
    let decoded = if found == JSON {
        let max_bytes = server.budget.max_message_bytes();
        call.decode(move |body| TaskCall::of_json(body, task, architecture, max_bytes)).await?
    } else if task.is_none_or(|task| task == TaskName::ImageToText) {
        TaskCall::of_file(call.body.clone())
    } else {
        return Err(refused(&found, JSON));
    };
    let TaskCall { input, task, format, layout } = decoded;
    let request = CallRequest { inputs: vec![input], task, model: model.to_owned(), format };
    let memory = call.response_memory(server);
    let output = TaskOutput::new(call.infer(server, request).await?, layout)?;
    memory.json(&if is_javascript_client(headers) { output.without_list() } else { output })
}

fn is_javascript_client(headers: &HeaderMap) -> bool {
    headers.get(USER_AGENT).is_some_and(|agent| agent.as_bytes().starts_with(JAVASCRIPT_CLIENT))
}
