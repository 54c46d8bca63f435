//! The tensors of each model.

use blip::Architecture;

use crate::error::{ErrorReason, RequestError};

/// The only version of a model.
pub const VERSION: &str = "1";

/// The name of the server in its metadata.
pub const SERVER_NAME: &str = "blip-serve";

/// The extensions of the protocol that the server has.
pub const EXTENSIONS: [&str; 1] = ["binary_tensor_data"];

/// The datatype of a tensor of texts or files.
pub const BYTES: &str = "BYTES";

/// The datatype of a tensor of numbers.
pub const FP32: &str = "FP32";

/// The name, the datatype and the shape of a tensor. A dimension of -1 varies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorSignature {
    /// The name.
    pub name: &'static str,
    /// The datatype.
    pub datatype: &'static str,
    /// The shape.
    pub shape: Vec<i64>,
}

impl TensorSignature {
    fn list(name: &'static str, datatype: &'static str) -> Self {
        Self { name, datatype, shape: vec![-1] }
    }
}

/// Returns the name of the texts that a model reads beside images.
#[must_use]
pub fn text_name(architecture: Architecture) -> &'static str {
    match architecture {
        Architecture::QuestionAnswering => "question",
        Architecture::Captioning => "prompt",
        Architecture::Retrieval => "text",
    }
}

/// Returns the inputs of a model.
#[must_use]
pub fn inputs(architecture: Architecture) -> Vec<TensorSignature> {
    ["image", text_name(architecture)].map(|name| TensorSignature::list(name, BYTES)).into()
}

/// Returns the outputs of a model, whose embeddings have `embedding_size` numbers.
#[must_use]
pub fn outputs(architecture: Architecture, embedding_size: u32) -> Vec<TensorSignature> {
    let list = TensorSignature::list;
    match architecture {
        Architecture::QuestionAnswering => vec![list("answer", BYTES), list("score", FP32)],
        Architecture::Captioning => vec![list("caption", BYTES), list("score", FP32)],
        Architecture::Retrieval => vec![
            list("probability", FP32),
            list("cosine", FP32),
            TensorSignature { name: "embedding", datatype: FP32, shape: vec![-1, embedding_size.into()] },
        ],
    }
}

/// Rejects other versions than [`VERSION`]. An empty version is any.
///
/// # Errors
/// A [`RequestError`] with the version.
pub fn check_version(version: &str) -> Result<(), RequestError> {
    if version.is_empty() || version == VERSION {
        return Ok(());
    }
    Err(RequestError::new(ErrorReason::ModelUnknown)
        .field("version")
        .value(format_args!("{version:?}"))
        .limit(VERSION))
}
