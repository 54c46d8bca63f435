//! The body of an inference response: JSON, and binary tensors after it.

use axum::response::Response;
use http::HeaderValue;
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    error::RequestError,
    http::{
        adapters::call::ResponseMemory,
        adapters::open_inference::infer_request::{JSON_LENGTH, RequestedOutputs},
        media_type::JSON,
    },
    open_inference::{
        output::{OutputData, OutputTensor},
        signature::VERSION,
    },
};

/// The media type of a response with binary tensors.
const BINARY: &str = "application/octet-stream";

/// The results of an inference request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct InferResponse {
    /// The name of the model.
    model_name: String,
    /// The version of the model.
    #[schema(example = "1")]
    model_version: &'static str,
    /// The id of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    id: Option<String>,
    /// The output tensors.
    outputs: Vec<OutputTensorJson>,
}

/// An output tensor.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct OutputTensorJson {
    /// The name.
    name: &'static str,
    /// The datatype.
    datatype: &'static str,
    /// The shape.
    shape: Vec<i64>,
    /// The length of a binary tensor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    parameters: Option<BinaryParameters>,
    /// The elements, unless the tensor is binary.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    data: Option<OutputElements>,
}

/// The parameters of a binary tensor.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct BinaryParameters {
    /// The length of the tensor in the binary part, in bytes.
    binary_data_size: usize,
}

/// The elements of an output tensor.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum OutputElements {
    /// Texts.
    Texts(Vec<String>),
    /// Numbers.
    Numbers(Vec<f32>),
}

/// Returns the response with `outputs`, each in the coding that `requested` has for it.
///
/// # Errors
/// A [`RequestError`] if the client may not hold a response of this length.
pub(crate) fn infer_response(
    model_name: String,
    id: Option<String>,
    outputs: Vec<OutputTensor>,
    requested: &RequestedOutputs,
    memory: &ResponseMemory,
) -> Result<Response, RequestError> {
    let mut binary = Vec::new();
    let mut is_binary = false;
    let tensor = |(position, output): (usize, OutputTensor)| {
        let datatype = output.datatype();
        let OutputTensor { name, shape, data } = output;
        if requested.is_binary(position) {
            is_binary = true;
            let raw = data.raw();
            binary.extend_from_slice(&raw);
            let parameters = Some(BinaryParameters { binary_data_size: raw.len() });
            return OutputTensorJson { name, datatype, shape, parameters, data: None };
        }
        let data = Some(match data {
            OutputData::Texts(texts) => OutputElements::Texts(texts),
            OutputData::Numbers(numbers) => OutputElements::Numbers(numbers),
        });
        OutputTensorJson { name, datatype, shape, parameters: None, data }
    };
    let outputs = outputs.into_iter().enumerate().map(tensor).collect();
    let response = InferResponse { model_name, model_version: VERSION, id, outputs };
    // Serialization of this type to memory does not fail.
    let mut body = serde_json::to_vec(&response).unwrap_or_default();
    if !is_binary {
        return memory.response(body, JSON);
    }
    let json_length = HeaderValue::from(body.len());
    body.extend_from_slice(&binary);
    let mut response = memory.response(body, BINARY)?;
    response.headers_mut().insert(JSON_LENGTH, json_length);
    Ok(response)
}
