//! The body of an inference request: JSON, and binary tensors after it.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName};
use serde::{
    Deserialize, Deserializer,
    de::{Error, IgnoredAny, SeqAccess, Visitor},
};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::{
    error::{ErrorReason, RequestError},
    grpc::handler::MAX_TAG_BYTES,
    http::json::read_json,
    open_inference::input::{Elements, InputTensor},
};

/// The header with the length of the JSON, which the binary tensors follow.
pub(crate) const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The parameter of a tensor with its length in the binary part, in bytes.
pub(crate) const BINARY_SIZE: &str = "binary_data_size";

/// An inference request with named tensors.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InferRequest {
    /// The id of the request, which the response repeats.
    #[serde(default)]
    id: Option<String>,
    /// Generation options. With `binary_data_output`, all outputs are binary.
    #[serde(default)]
    parameters: Map<String, Value>,
    /// The input tensors.
    #[schema(min_items = 1)]
    inputs: Vec<InputJson>,
    /// The names of the outputs. The default is all.
    #[serde(default)]
    outputs: Vec<OutputJson>,
    /// The name of the model, as KServe's client repeats it. It has no effect.
    #[serde(rename = "model_name")]
    #[schema(value_type = Option<serde_json::Value>)]
    _model_name: Option<IgnoredAny>,
    /// The version of the model. It has no effect.
    #[serde(rename = "model_version")]
    #[schema(value_type = Option<serde_json::Value>)]
    _model_version: Option<IgnoredAny>,
}

/// An input tensor.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct InputJson {
    /// The name: `image`, and `question`, `prompt` or `text` by the task of the model.
    name: String,
    /// The shape.
    shape: Vec<i64>,
    /// The datatype: `BYTES`.
    #[schema(example = "BYTES")]
    datatype: String,
    /// With `binary_data_size`, the tensor is in the binary part.
    #[serde(default)]
    parameters: Map<String, Value>,
    /// The elements. An image is a file in base64, or a URL.
    #[schema(value_type = Option<Vec<String>>)]
    data: Option<Data>,
}

/// A requested output.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OutputJson {
    /// The name of the output.
    name: String,
    /// With `binary_data`, the output is binary.
    #[serde(default)]
    parameters: Map<String, Value>,
}

/// The elements of a tensor, in lists of any depth.
struct Data(Vec<String>);

/// A request whose parts were taken apart.
#[derive(Debug)]
pub(crate) struct InferCall {
    pub(crate) id: Option<String>,
    pub(crate) tensors: Vec<InputTensor>,
    pub(crate) parameters: Map<String, Value>,
    pub(crate) outputs: RequestedOutputs,
}

/// The outputs of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestedOutputs {
    /// Their names, or none for all.
    pub(crate) names: Vec<String>,
    /// Whether each of them is binary, if the request says so.
    binary: Vec<Option<bool>>,
    /// Whether all are binary.
    is_all_binary: bool,
}

impl RequestedOutputs {
    /// Returns whether the output at this position is binary.
    pub(crate) fn is_binary(&self, position: usize) -> bool {
        self.binary.get(position).copied().flatten().unwrap_or(self.is_all_binary)
    }
}

impl InferCall {
    /// Decodes a request with these headers.
    ///
    /// # Errors
    /// A [`RequestError`] that names the invalid part.
    pub(crate) fn decode(body: &Bytes, json_length: Option<usize>) -> Result<Self, RequestError> {
        let length = json_length.unwrap_or(body.len());
        if length > body.len() {
            let cause = format!("{length} bytes, the body has {}", body.len());
            return Err(invalid(JSON_LENGTH.as_str(), cause));
        }
        let mut binary = body.slice(length..);
        let InferRequest { id, parameters, inputs, outputs, .. } =
            read_json(&body.slice(..length), "the body")?;
        if let Some(id) = id.as_ref().filter(|id| id.len() > MAX_TAG_BYTES) {
            return Err(RequestError::new(ErrorReason::TagTooLong)
                .field("id")
                .value(format!("{} bytes", id.len()))
                .limit(format!("{MAX_TAG_BYTES} bytes")));
        }
        let tensors = inputs.into_iter().map(|input| input.tensor(&mut binary));
        let tensors = tensors.collect::<Result<_, RequestError>>()?;
        if !binary.is_empty() {
            return Err(invalid("the body", format!("{} bytes after the last tensor", binary.len())));
        }
        let is_all_binary = parameters.get("binary_data_output") == Some(&Value::Bool(true));
        let is_binary = |output: &OutputJson| output.parameters.get("binary_data").and_then(Value::as_bool);
        let binary = outputs.iter().map(is_binary).collect();
        let names = outputs.into_iter().map(|output| output.name).collect();
        let outputs = RequestedOutputs { names, binary, is_all_binary };
        Ok(Self { id, tensors, parameters, outputs })
    }
}

/// Returns the length of the JSON in the headers of a request, if they have one.
///
/// # Errors
/// A [`RequestError`] if the header is no number.
pub(crate) fn json_length(headers: &HeaderMap) -> Result<Option<usize>, RequestError> {
    let Some(header) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let text = String::from_utf8_lossy(header.as_bytes());
    let length =
        text.parse().map_err(|_| invalid(JSON_LENGTH.as_str(), format!("{text}, expected a number")))?;
    Ok(Some(length))
}

impl InputJson {
    /// Returns the tensor. A binary one is taken from the beginning of `binary`.
    fn tensor(self, binary: &mut Bytes) -> Result<InputTensor, RequestError> {
        let Self { name, shape, datatype, parameters, data } = self;
        let field = format!("inputs.{name}");
        let elements = match (parameters.get(BINARY_SIZE), data) {
            (Some(found), None) => {
                let size = found.as_u64().and_then(|size| usize::try_from(size).ok());
                match size.filter(|size| *size <= binary.len()) {
                    Some(size) => Elements::Raw(binary.split_to(size)),
                    None => {
                        let rest = binary.len();
                        let cause = format!("{BINARY_SIZE} {found}, the body has {rest} bytes left");
                        return Err(invalid(&field, cause));
                    }
                }
            }
            (None, Some(Data(texts))) => Elements::Texts(texts),
            (Some(_), Some(_)) => {
                return Err(invalid(&field, format!("both data and {BINARY_SIZE} are set")));
            }
            (None, None) => return Err(invalid(&field, format!("neither data nor {BINARY_SIZE} is set"))),
        };
        Ok(InputTensor { name, datatype, shape, elements })
    }
}

fn invalid(field: &str, cause: String) -> RequestError {
    RequestError::new(ErrorReason::PayloadInvalid).field(field).cause(cause)
}

impl<'de> Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DataVisitor;

        impl<'de> Visitor<'de> for DataVisitor {
            type Value = Data;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of strings")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Data, A::Error> {
                let mut texts = Vec::new();
                while let Some(element) = elements.next_element()? {
                    match element {
                        Element::Text(text) => texts.push(text),
                        Element::List(Data(inner)) => texts.extend(inner),
                    }
                }
                Ok(Data(texts))
            }
        }

        deserializer.deserialize_seq(DataVisitor)
    }
}

/// An element, or a list of elements.
enum Element {
    Text(String),
    List(Data),
}

impl<'de> Deserialize<'de> for Element {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ElementVisitor;

        impl<'de> Visitor<'de> for ElementVisitor {
            type Value = Element;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, or a list of strings")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Element, E> {
                Ok(Element::Text(text.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Element, A::Error> {
                let list = Data::deserialize(serde::de::value::SeqAccessDeserializer::new(list))?;
                Ok(Element::List(list))
            }
        }

        deserializer.deserialize_any(ElementVisitor)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn input(name: &str, parameters: Value, data: Value) -> Value {
        json!({"name": name, "shape": [1], "datatype": "BYTES", "parameters": parameters, "data": data})
    }

    /// Decodes JSON with a binary part after it.
    fn decode(json: &Value, binary: &[u8]) -> Result<InferCall, String> {
        let json = json.to_string();
        let body = [json.as_bytes(), binary].concat();
        InferCall::decode(&body.into(), Some(json.len())).map_err(|error| error.to_string())
    }

    #[test]
    fn binary_tensors_follow_the_json_in_their_order() {
        let size = |size: u64| json!({"binary_data_size": size});
        let inputs = [input("image", size(2), Value::Null), input("question", size(3), Value::Null)];
        let call = decode(&json!({"id": "7", "inputs": inputs}), b"abcde").unwrap();
        let elements: Vec<_> = call.tensors.iter().map(|tensor| tensor.elements.clone()).collect();
        assert_eq!(elements, [Elements::Raw("ab".into()), Elements::Raw("cde".into())]);
        for (binary, expected) in [
            (b"abcd" as &[u8], "inputs.question is invalid: binary_data_size 3, the body has 2 bytes left"),
            (b"abcdef", "the body is invalid: 1 bytes after the last tensor"),
        ] {
            assert_eq!(decode(&json!({"inputs": inputs}), binary).unwrap_err(), expected);
        }
        let huge = [input("image", size(u64::MAX), Value::Null)];
        assert!(decode(&json!({"inputs": huge}), b"").unwrap_err().contains("the body has 0 bytes left"));
    }

    #[test]
    fn json_longer_than_the_body_is_rejected() {
        let error = InferCall::decode(&Bytes::from("{}"), Some(3)).unwrap_err().to_string();
        assert_eq!(error, "inference-header-content-length is invalid: 3 bytes, the body has 2");
        let headers = |value: &'static str| HeaderMap::from_iter([(JSON_LENGTH, value.parse().unwrap())]);
        assert_eq!(json_length(&headers("12")), Ok(Some(12)));
        assert_eq!(json_length(&HeaderMap::new()), Ok(None));
        for value in ["-1", "1e3", "99999999999999999999999"] {
            assert!(json_length(&headers(value)).is_err(), "{value}");
        }
    }

    #[test]
    fn nested_lists_are_flat_and_other_elements_are_rejected() {
        let data = |data: Value| decode(&json!({"inputs": [input("question", json!({}), data)]}), b"");
        let call = data(json!([["a"], ["b", ["c"]]])).unwrap();
        let expected = ["a", "b", "c"].map(str::to_owned).to_vec();
        assert_eq!(call.tensors[0].elements, Elements::Texts(expected));
        for invalid in [json!([5]), json!("a"), json!([{}]), json!([[null]])] {
            assert!(data(invalid.clone()).unwrap_err().starts_with("inputs[0].data"), "{invalid}");
        }
        assert!(data(Value::Null).unwrap_err().contains("neither data nor binary_data_size is set"));
    }

    #[test]
    fn outputs_are_binary_where_the_request_says_so() {
        let outputs = json!([{"name": "score"}, {"name": "answer", "parameters": {"binary_data": true}}]);
        let request = |parameters: Value| {
            decode(&json!({"inputs": [], "outputs": outputs, "parameters": parameters}), b"").unwrap().outputs
        };
        let each = request(json!({}));
        assert_eq!((each.is_binary(0), each.is_binary(1), each.is_binary(2)), (false, true, false));
        assert_eq!(each.names, ["score", "answer"]);
        assert!(request(json!({"binary_data_output": true})).is_binary(0));
    }

    #[test]
    fn deep_lists_and_long_ids_are_rejected() {
        let deep = format!(
            r#"{{"inputs":[{{"name":"a","shape":[1],"datatype":"BYTES","data":{}"#,
            "[".repeat(100_000)
        );
        assert!(InferCall::decode(&deep.into(), None).is_err());
        let error = decode(&json!({"id": "x".repeat(129), "inputs": []}), b"").unwrap_err();
        assert_eq!(error, "id too long: 129 bytes, 128 bytes allowed");
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(
            body in proptest::collection::vec(any::<u8>(), 0..99), length in proptest::option::of(0_usize..120),
        ) {
            let _ = InferCall::decode(&body.into(), length);
        }
    }
}
