//! The blip-serve server: accepts requests over gRPC and HTTP, batches them, and runs them on BLIP models.
//!
//! A request passes through these modules in order:
//! [`listener`] → [`grpc`] or [`http`] → [`auth`] → [`request`] → [`pipeline`] → [`preprocess`] → scheduler → [`engine`].
//! Its results return through [`pipeline`] to the protocol that it came from.
//!
//! Modules are listed from top to bottom. Each uses only modules below it.

pub mod auth; // API keys, quotas, clients
pub mod cache; // answers and pixels
pub mod config;
pub mod engine; // the scheduler's Engine trait on blip
pub mod error; // the error table
pub mod grpc; // the BlipService, streaming, deadlines, message budget
pub mod http; // JSON, forms, server-sent events, gRPC-Web, OpenAPI
pub mod lifecycle; // loading, supervision, health, self-test, admin
pub mod listener; // TCP, TLS, connection limits
pub mod models; // loaded models by name
pub mod pipeline; // a request becomes a stream of item results
pub mod preprocess; // bytes and text to pixels and token ids
pub mod request; // protocol-independent request types, validation, limits
pub mod priority;
pub mod request_id;
pub mod serve; // starts and stops the process; operations endpoint
pub mod telemetry; // logging, metrics recorder, tracing // settings: schema, sources, documentation
