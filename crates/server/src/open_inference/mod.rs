//! Requests and results as named tensors, as the Open Inference Protocol has them over gRPC and
//! HTTP.
//!
//! An adapter decodes a message into [`input::InputTensor`]s. [`call::TensorCall`] makes a request
//! for the [`pipeline`](crate::pipeline) of them, and [`output::output_tensors`] the tensors of its
//! results. [`signature`] has the names of all tensors by architecture.

pub mod call; // input tensors to a request
pub mod input; // input tensors and their elements
pub mod output; // item results to output tensors
pub mod signature; // the tensors of each model
pub mod element_coding; // the coding of BYTES tensors
