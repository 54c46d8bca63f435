//! Health, readiness and metadata of the Open Inference Protocol.

use std::sync::Arc;

use axum::{
    Extension, Json,
    extract::{Path, State},
};
use http::{HeaderMap, StatusCode};
use serde::Serialize;
use tonic::transport::server::TcpConnectInfo;
use utoipa::ToSchema;

use crate::{
    auth::token_of,
    error::RequestError,
    http::{adapters::error_text::TextFailure, state::HttpServer},
    models::info::ModelInfo,
    open_inference::signature::{self, EXTENSIONS, SERVER_NAME, TensorSignature, VERSION, check_version},
};

type Server = State<Arc<HttpServer>>;
type Connection = Extension<TcpConnectInfo>;

/// The metadata of the server.
#[derive(Serialize)]
pub(crate) struct ServerMetadata {
    /// The name of the server.
    name: &'static str,
    /// The version of the server.
    version: &'static str,
    /// The extensions of the protocol.
    extensions: [&'static str; EXTENSIONS.len()],
}

/// The metadata of a model.
#[derive(Serialize, ToSchema)]
pub(crate) struct ModelMetadata {
    /// The name of the model.
    name: String,
    /// The versions of the model.
    versions: [&'static str; 1],
    /// The platform of the model.
    platform: &'static str,
    /// The input tensors.
    inputs: Vec<TensorMetadata>,
    /// The output tensors.
    outputs: Vec<TensorMetadata>,
}

/// The metadata of a tensor.
#[derive(Serialize, ToSchema)]
pub(crate) struct TensorMetadata {
    /// The name.
    name: &'static str,
    /// The datatype.
    datatype: &'static str,
    /// The shape. A dimension of -1 varies.
    shape: Vec<i64>,
}

/// The liveness of the server.
#[derive(Serialize)]
pub(crate) struct Liveness {
    live: bool,
}

/// The readiness of the server.
#[derive(Serialize)]
pub(crate) struct ServerReadiness {
    ready: bool,
}

/// The readiness of a model.
#[derive(Serialize)]
pub(crate) struct ModelReadiness {
    /// The name of the model.
    name: String,
    /// Whether the model accepts requests.
    ready: bool,
}

/// The state of a model in the repository index.
#[derive(Serialize)]
pub(crate) struct ModelState {
    /// The name of the model.
    name: String,
    /// The version of the model.
    version: &'static str,
    /// `READY` or `UNAVAILABLE`.
    state: &'static str,
    /// Why the model is not available.
    reason: &'static str,
}

impl From<TensorSignature> for TensorMetadata {
    fn from(TensorSignature { name, datatype, shape }: TensorSignature) -> Self {
        Self { name, datatype, shape }
    }
}

/// `GET /v2`.
///
/// # Errors
/// A [`RequestError`] if the client is not authenticated.
pub(crate) async fn server(
    State(server): Server,
    Extension(connection): Connection,
    headers: HeaderMap,
) -> Result<Json<ServerMetadata>, TextFailure> {
    server.authenticator.authenticate(token_of(&headers), connection.remote_addr())?;
    let version = env!("CARGO_PKG_VERSION");
    Ok(Json(ServerMetadata { name: SERVER_NAME, version, extensions: EXTENSIONS }))
}

/// `GET /v2/health/live`. It needs no key.
pub(crate) async fn live() -> Json<Liveness> {
    Json(Liveness { live: true })
}

/// Returns 200 if the server accepts requests and all models are healthy, and 503 otherwise. It
/// needs no key.
pub(crate) async fn ready(State(server): Server) -> (StatusCode, Json<ServerReadiness>) {
    let ready = server.health.is_serving();
    (status(ready), Json(ServerReadiness { ready }))
}

/// `GET /v2/models/{name}`.
///
/// # Errors
/// A [`RequestError`] if the client is not authenticated, or if the model is unknown.
#[utoipa::path(
    get,
    path = "/v2/models/{name}",
    operation_id = "get_model_metadata",
    summary = "Get the tensors of a model as the Open Inference Protocol has them",
    params(("name" = String, Path, description = "The name of the model", example = "demo")),
    responses((status = 200, description = "The tensors", body = ModelMetadata)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn model(
    State(server): Server,
    Extension(connection): Connection,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Json<ModelMetadata>, TextFailure> {
    let model = find(&server, &connection, &headers, &name, "")?;
    Ok(Json(metadata(&model)))
}

/// `GET /v2/models/{name}/versions/{version}`.
///
/// # Errors
/// As [`model`], and if the version is not 1.
pub(crate) async fn model_version(
    State(server): Server,
    Extension(connection): Connection,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<Json<ModelMetadata>, TextFailure> {
    let model = find(&server, &connection, &headers, &name, &version)?;
    Ok(Json(metadata(&model)))
}

/// `GET /v2/models/{name}/ready`.
///
/// # Errors
/// As [`model`].
pub(crate) async fn model_ready(
    State(server): Server,
    Extension(connection): Connection,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<ModelReadiness>), TextFailure> {
    let model = find(&server, &connection, &headers, &name, "")?;
    Ok(readiness(&server, &model))
}

/// `GET /v2/models/{name}/versions/{version}/ready`.
///
/// # Errors
/// As [`model_version`].
pub(crate) async fn model_version_ready(
    State(server): Server,
    Extension(connection): Connection,
    Path((name, version)): Path<(String, String)>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<ModelReadiness>), TextFailure> {
    let model = find(&server, &connection, &headers, &name, &version)?;
    Ok(readiness(&server, &model))
}

/// `POST /v2/repository/index`.
///
/// # Errors
/// A [`RequestError`] if the client is not authenticated, or if no model is loaded.
pub(crate) async fn repository_index(
    State(server): Server,
    Extension(connection): Connection,
    headers: HeaderMap,
) -> Result<Json<Vec<ModelState>>, TextFailure> {
    server.authenticator.authenticate(token_of(&headers), connection.remote_addr())?;
    let state = |model: &Arc<ModelInfo>| {
        let (state, reason) = match server.health.is_model_serving(&model.name) {
            true => ("READY", ""),
            false => ("UNAVAILABLE", "the model is not healthy"),
        };
        ModelState { name: model.name.to_string(), version: VERSION, state, reason }
    };
    Ok(Json(server.handler.models.list()?.iter().map(state).collect()))
}

fn find(
    server: &HttpServer,
    connection: &TcpConnectInfo,
    headers: &HeaderMap,
    name: &str,
    version: &str,
) -> Result<Arc<ModelInfo>, RequestError> {
    server.authenticator.authenticate(token_of(headers), connection.remote_addr())?;
    check_version(version)?;
    server.handler.models.get(name).map_err(|error| error.field("name"))
}

fn metadata(model: &ModelInfo) -> ModelMetadata {
    let outputs = signature::outputs(model.architecture, model.embedding_size);
    ModelMetadata {
        name: model.name.to_string(),
        versions: [VERSION],
        platform: SERVER_NAME,
        inputs: signature::inputs(model.architecture).into_iter().map(TensorMetadata::from).collect(),
        outputs: outputs.into_iter().map(TensorMetadata::from).collect(),
    }
}

fn readiness(server: &HttpServer, model: &ModelInfo) -> (StatusCode, Json<ModelReadiness>) {
    let ready = server.health.is_model_serving(&model.name);
    (status(ready), Json(ModelReadiness { name: model.name.to_string(), ready }))
}

fn status(is_ready: bool) -> StatusCode {
    if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}
