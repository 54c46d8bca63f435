//! The blip-serve server: accepts requests over gRPC and HTTP, batches them, and runs them on BLIP
//! models.
//!
//! A request passes through these modules in order: [`listener`] → [`grpc`] or [`http`], which
//! authenticates the client with [`auth`] → [`pipeline`], which validates the request with
//! [`request`] → [`preprocess`] → scheduler → [`engine`]. Its results return through [`pipeline`]
//! to the protocol that it came from.
//!
//! Modules are listed from top to bottom. Each uses only modules below it.

pub mod serve; // starts and stops the process; operations endpoint
pub mod http; // JSON, forms, server-sent events, gRPC-Web, OpenAPI
pub mod grpc; // the BlipService, streaming, deadlines, message budget
pub mod open_inference; // requests and results as named tensors
pub mod lifecycle; // loading, supervision, health, self-test, admin
pub mod pipeline; // a request becomes a stream of item results
pub mod models; // loaded models by name
pub mod engine; // the scheduler's Engine trait on blip
pub mod preprocess; // bytes and text to pixels and token ids
pub mod cache; // answers and pixels; metrics of all caches
pub mod request; // inputs and tasks of a request, validation, deadline, memory
pub mod listener; // TCP, TLS, connection limits
pub mod auth; // API keys, quotas, clients
pub mod telemetry; // logging, metrics, tracing
pub mod error; // the error table
pub mod fair_share; // shares of a limited resource by caller
pub mod priority; // the priority of a request in every protocol
pub mod request_id; // the id of a request
pub mod config; // settings: schema, sources, documentation
