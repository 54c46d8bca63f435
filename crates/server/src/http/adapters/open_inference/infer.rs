//! `POST /v2/models/{name}/infer`.

use std::sync::Arc;

use axum::{
    Extension,
    body::Body,
    extract::{Path, State},
    response::Response,
};
use bytes::Bytes;
use http::Request;
use tonic::transport::server::TcpConnectInfo;

use crate::{
    http::{
        adapters::{
            call::{CallRequest, HttpCall},
            error_text::TextFailure,
            open_inference::{
                infer_request::{InferCall, InferRequest, json_length},
                infer_response::{InferResponse, infer_response},
            },
        },
        state::HttpServer,
    },
    open_inference::{call::TensorCall, output::output_tensors, signature::check_version},
};

type Server = State<Arc<HttpServer>>;
type Connection = Extension<TcpConnectInfo>;

/// `POST /v2/models/{name}/infer`.
///
/// # Errors
/// An error of the whole request, or that of the first failed item.
#[utoipa::path(
    post,
    path = "/v2/models/{name}/infer",
    operation_id = "infer",
    summary = "Run a model as the Open Inference Protocol does",
    description = "`/v2/models/{name}` has the names of the tensors. An image tensor of one element belongs to \
        all texts, and a text tensor of one element to all images. Otherwise, the elements are pairs.\n\n\
        With the header `Inference-Header-Content-Length`, binary tensors follow the JSON. Each element of a \
        binary BYTES tensor is its length, a little-endian 32-bit number, and its bytes.",
    params(("name" = String, Path, description = "The name of the model", example = "demo")),
    request_body = InferRequest,
    responses((status = 200, description = "The results", body = InferResponse)),
    security((), ("bearer" = []), ("api_key" = [])),
)]
pub(crate) async fn infer(
    server: Server,
    connection: Connection,
    Path(name): Path<String>,
    request: Request<Body>,
) -> Result<Response, TextFailure> {
    handle(server, connection, name, request).await
}

/// `POST /v2/models/{name}/versions/{version}/infer`.
///
/// # Errors
/// As [`infer`], and if the version is not 1.
pub(crate) async fn infer_version(
    server: Server,
    connection: Connection,
    Path((name, version)): Path<(String, String)>,
    request: Request<Body>,
) -> Result<Response, TextFailure> {
    check_version(&version)?;
    handle(server, connection, name, request).await
}

async fn handle(
    State(server): Server,
    Extension(connection): Connection,
    name: String,
    request: Request<Body>,
) -> Result<Response, TextFailure> {
    let (call, headers) = HttpCall::receive(&server, &connection, request).await?;
    let model = server.handler.models.get(&name).map_err(|error| error.field("name"))?;
    let json_length = json_length(&headers)?;
    let architecture = model.architecture;
    let decode = move |body: &Bytes| {
        let InferCall { id, tensors, parameters, outputs } = InferCall::decode(body, json_length)?;
        Ok((id, TensorCall::new(architecture, tensors, parameters)?, outputs))
    };
    let (id, TensorCall { inputs, task, format }, outputs) = call.decode(decode).await?;
    let request = CallRequest { inputs, task, model: model.name.to_string(), format };
    let memory = call.response_memory(&server);
    let results = call.infer(&server, request).await?;
    let tensors = output_tensors(results, &outputs.names)?;
    Ok(infer_response(model.name.to_string(), id, tensors, &outputs, &memory)?)
}
