//! The messages of `ModelInfer`: requests to tensors, and tensors to responses.

use std::collections::HashMap;

use bytes::Bytes;
use proto::inference::{
    InferParameter, InferTensorContents, ModelInferRequest, ModelInferResponse,
    infer_parameter::ParameterChoice, model_infer_response::InferOutputTensor,
};
use serde_json::{Map, Value};

use crate::{
    error::{ErrorReason, RequestError},
    open_inference::{
        input::{Elements, InputTensor},
        output::{OutputData, OutputTensor},
        signature::VERSION,
    },
};

/// Returns the tensors and the parameters of a request.
///
/// # Errors
/// A [`RequestError`] if a tensor has not exactly one kind of contents.
pub(crate) fn decode(
    request: ModelInferRequest,
) -> Result<(Vec<InputTensor>, Map<String, Value>), RequestError> {
    let ModelInferRequest { inputs, raw_input_contents, parameters, .. } = request;
    let invalid =
        |field: &str, cause: String| RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(cause);
    if !raw_input_contents.is_empty() && raw_input_contents.len() != inputs.len() {
        let (buffers, tensors) = (raw_input_contents.len(), inputs.len());
        let cause = format!("{buffers} buffers for {tensors} tensors");
        return Err(invalid("raw_input_contents", cause));
    }
    let mut buffers = raw_input_contents.into_iter();
    let mut tensors = Vec::with_capacity(inputs.len());
    for input in inputs {
        let elements = match (buffers.next(), input.contents) {
            (Some(raw), None) => Elements::Raw(raw),
            (Some(_), Some(_)) => {
                let cause = "both contents and raw_input_contents are set".to_owned();
                return Err(invalid(&format!("inputs.{}", input.name), cause));
            }
            (None, Some(contents)) => Elements::Bytes(contents.bytes_contents),
            (None, None) => Elements::Bytes(Vec::new()),
        };
        let (name, datatype, shape) = (input.name, input.datatype, input.shape);
        tensors.push(InputTensor { name, datatype, shape, elements });
    }
    let parameters = parameters.into_iter().map(|(name, parameter)| (name, json(parameter))).collect();
    Ok((tensors, parameters))
}

fn json(parameter: InferParameter) -> Value {
    match parameter.parameter_choice {
        None => Value::Null,
        Some(ParameterChoice::BoolParam(value)) => value.into(),
        Some(ParameterChoice::Int64Param(value)) => value.into(),
        Some(ParameterChoice::Uint64Param(value)) => value.into(),
        Some(ParameterChoice::DoubleParam(value)) => value.into(),
        Some(ParameterChoice::StringParam(value)) => value.into(),
    }
}

/// Returns the response with `outputs`: in buffers if `is_raw`.
pub(crate) fn response(
    model_name: String,
    id: String,
    outputs: Vec<OutputTensor>,
    is_raw: bool,
) -> ModelInferResponse {
    let mut raw_output_contents = Vec::new();
    let output = |output: OutputTensor| {
        let datatype = output.datatype().to_owned();
        let contents = if is_raw {
            raw_output_contents.push(Bytes::from(output.data.raw()));
            None
        } else {
            Some(contents(output.data))
        };
        let (name, shape) = (output.name.to_owned(), output.shape);
        InferOutputTensor { name, datatype, shape, parameters: HashMap::new(), contents }
    };
    let outputs = outputs.into_iter().map(output).collect();
    ModelInferResponse {
        model_name,
        model_version: VERSION.to_owned(),
        id,
        parameters: HashMap::new(),
        outputs,
        raw_output_contents,
    }
}

fn contents(data: OutputData) -> InferTensorContents {
    match data {
        OutputData::Texts(texts) => InferTensorContents {
            bytes_contents: texts.into_iter().map(Bytes::from).collect(),
            ..InferTensorContents::default()
        },
        OutputData::Numbers(fp32_contents) => {
            InferTensorContents { fp32_contents, ..InferTensorContents::default() }
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::inference::model_infer_request::InferInputTensor;

    use super::*;

    fn input(name: &str, contents: Option<InferTensorContents>) -> InferInputTensor {
        let datatype = "BYTES".to_owned();
        InferInputTensor { name: name.to_owned(), datatype, shape: vec![1], contents, ..Default::default() }
    }

    #[test]
    fn raw_contents_belong_to_the_tensors_in_their_order() {
        let request = |raw: &[&'static str], contents| ModelInferRequest {
            inputs: vec![input("a", contents), input("b", None)],
            raw_input_contents: raw.iter().map(|raw| Bytes::from(*raw)).collect(),
            ..Default::default()
        };
        let (tensors, _) = decode(request(&["x", "y"], None)).unwrap();
        let elements: Vec<_> = tensors.into_iter().map(|tensor| tensor.elements).collect();
        assert_eq!(elements, [Elements::Raw("x".into()), Elements::Raw("y".into())]);
        let error = decode(request(&["x"], None)).unwrap_err().to_string();
        assert_eq!(error, "raw_input_contents is invalid: 1 buffers for 2 tensors");
        let error = decode(request(&["x", "y"], Some(InferTensorContents::default()))).unwrap_err();
        assert_eq!(error.to_string(), "inputs.a is invalid: both contents and raw_input_contents are set");
        let (tensors, _) = decode(request(&[], None)).unwrap();
        assert_eq!(tensors[0].elements, Elements::Bytes(Vec::new()));
    }

    #[test]
    fn outputs_have_the_coding_of_the_inputs() {
        let outputs = || {
            let data = OutputData::Texts(vec!["a".to_owned()]);
            vec![OutputTensor { name: "answer", shape: vec![1], data }]
        };
        let raw = response("m".to_owned(), "7".to_owned(), outputs(), true);
        assert_eq!(
            (&raw.raw_output_contents[0], &raw.outputs[0].contents),
            (&Bytes::from("\x01\0\0\0a"), &None)
        );
        let typed = response("m".to_owned(), "7".to_owned(), outputs(), false);
        assert_eq!(typed.outputs[0].contents.as_ref().unwrap().bytes_contents, [Bytes::from("a")]);
        assert!(typed.raw_output_contents.is_empty());
    }
}
