//! HTTP: the model card's JSON, its documentation, and gRPC-Web.

mod serve;

pub use serve::{HttpServer, serve};
