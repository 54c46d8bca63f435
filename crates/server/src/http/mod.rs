//! HTTP: the model card's JSON, its documentation, and gRPC-Web.

pub mod body;
pub mod cors;
pub mod docs;
pub mod grpc_web;
pub mod inference;
pub mod lingering_close;
pub mod models;
pub mod problem;
pub mod router;
pub mod serve;
pub mod state;

pub use state::HttpServer;
