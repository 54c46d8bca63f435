//! HTTP: the model card's JSON, its documentation, and gRPC-Web.

mod answers;
mod ask;
mod body;
mod card;
mod cors;
mod count;
mod docs;
mod errors_page;
mod forms;
mod grpc_web;
mod linger;
mod models;
mod multipart;
mod openapi;
mod payload;
mod problem;
mod router;
mod scores;
mod serve;
mod sse;
mod tasks;
mod texts;

pub use card::card_inputs;
pub use router::HttpServer;
pub use serve::serve;
