//! The Open Inference Protocol over HTTP (`/v2`), and KServe's earlier protocol
//! (`/v1/models/NAME:predict`), whose requests Vertex AI sends as well.
//!
//! [`infer`] decodes tensors for [`open_inference`](crate::open_inference), and writes the tensors
//! of its results.

pub mod infer; // POST /v2/models/NAME/infer
pub mod metadata; // health, readiness and metadata
pub mod predict; // POST /v1/models/NAME:predict
pub mod infer_response; // the JSON and the binary tensors of a response
pub mod infer_request; // the JSON and the binary tensors of a request
