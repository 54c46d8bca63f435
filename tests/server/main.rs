//! The server over real sockets, in this process, so that a test can hold the engine in its hand.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking; clippy knows test functions, not what they call"
)]

mod answer_cache;
mod ask_stream;
mod batch_invariance;
mod callers;
mod grpc_web;
mod http;
mod lifecycle;
mod models;
mod request_errors;
mod self_test;
mod streaming;
mod support;
