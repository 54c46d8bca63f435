//! HTTP: the model card's JSON, its documentation, and gRPC-Web.

pub mod serve;
pub mod lingering_close;
pub mod router;
pub mod cors;
pub mod docs;
pub mod grpc_web;
pub mod models;
pub mod inference;
pub mod body;
pub mod problem;
pub mod state;

pub use state::HttpServer;
