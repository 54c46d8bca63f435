//! Tests of the server over real sockets.
//!
//! The server runs in the test process, so that tests can control its engine.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail the test by a panic"
)]

mod answer_cache;
mod ask_stream;
mod batch_invariance;
mod clients;
mod grpc_web;
mod http;
mod lifecycle;
mod memory_listener;
mod models;
mod request_errors;
mod self_test;
mod streaming;
mod support;
